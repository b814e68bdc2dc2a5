"""The contracts: what is refused, what the wire carries, and who publishes and receives each message."""

import json
import re
from collections.abc import Iterator
from copy import deepcopy
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.contracts.accounts import OpenAccount
from shared.contracts.base import Command, Event, Message, routing_key
from shared.contracts.jobs import RunJob
from shared.contracts.orders import SubmitOrder
from shared.contracts.prices import PricesUpdated
from shared.contracts.routing import (
    COMMANDS,
    EVENTS,
    LIVE,
    PUBLISHERS,
    QUEUES,
    SERVICES,
    WORKERS,
    Binding,
    bind,
    bindings_of,
    exchange_of,
    is_awaited,
    queues_of,
    service_of,
)
from tests.unit.message_examples import ACCOUNT, EXAMPLES

Path = tuple[str | int, ...]

every_message = pytest.mark.parametrize("message", EXAMPLES.values(), ids=lambda m: type(m).__name__)


def leaves(tree: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every value in nested dictionaries and sequences, with the way to it."""
    if isinstance(tree, dict | list | tuple):
        for key, branch in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from leaves(branch, (*path, str(key) if isinstance(key, UUID) else key))
    else:
        yield path, tree


def fields_of(kind: type) -> list[Any]:
    """(message, path) of every value of this type in the examples."""
    return [
        pytest.param(message, path, id=f"{type(message).__name__}.{'.'.join(map(str, path))}")
        for message in EXAMPLES.values()
        for path, value in leaves(message.model_dump())
        if isinstance(value, kind)
    ]


def with_value(message: Message, path: Path, value: Any) -> dict[str, Any]:
    """The message's payload with another value in that place."""
    payload = deepcopy(message.payload())
    *ways, last = path
    branch: Any = payload
    for way in ways:
        branch = branch[way]
    branch[last] = value
    return payload


every_number = pytest.mark.parametrize(("message", "path"), fields_of(Decimal))
every_time = pytest.mark.parametrize(("message", "path"), fields_of(datetime))


def test_there_is_an_example_of_every_message() -> None:
    """A new message needs one, and is then tested like the others."""
    assert set(EXAMPLES) == set(PUBLISHERS)


def test_every_message_of_the_contracts_stands_in_the_routing_table() -> None:
    """A message that nobody may publish is forgotten, or dead."""

    def kinds(base: type[Message]) -> Iterator[type[Message]]:
        for kind in base.__subclasses__():
            yield from kinds(kind) if kind.__subclasses__() else (kind,)

    assert {kind for kind in kinds(Message) if kind.__module__.startswith("shared.contracts")} == set(PUBLISHERS)


@every_message
def test_a_message_comes_out_of_the_wire_as_it_went_in(message: Message) -> None:
    """Through JSON text and back, every digit and microsecond is there."""
    assert type(message).model_validate(message.payload()) == message
    assert type(message).model_validate(json.loads(json.dumps(message.payload()))) == message


@every_message
def test_no_float_is_on_the_wire(message: Message) -> None:
    """A JSON number loses digits in most languages, so numbers with decimals are strings."""
    assert not [path for path, value in leaves(message.payload()) if isinstance(value, float)]


@every_number
def test_a_number_is_a_string_on_the_wire(message: Message, path: Path) -> None:
    """The very digits of the Decimal."""
    written = dict(leaves(message.payload()))[path]
    assert isinstance(written, str)
    assert Decimal(written) == dict(leaves(message.model_dump()))[path]


@every_number
@pytest.mark.parametrize("value", [1.5, 1.0, float("nan"), float("inf")])
def test_a_float_is_refused_as_a_number(message: Message, path: Path, value: float) -> None:
    """It has lost digits before we see it; the error says what to send."""
    with pytest.raises(ValidationError, match="is a float: send decimal numbers as strings"):
        type(message).model_validate(with_value(message, path, value))


@every_number
@pytest.mark.parametrize(
    "value", ["NaN", "sNaN", "Infinity", "-Infinity", Decimal("NaN"), Decimal("Infinity"), True, ""]
)
def test_what_is_no_number_is_refused(message: Message, path: Path, value: object) -> None:
    """NaN and infinity poison every sum they enter."""
    with pytest.raises(ValidationError):
        type(message).model_validate(with_value(message, path, value))


@given(st.decimals(min_value=Decimal("1E-12"), max_value=Decimal("1E+20"), allow_nan=False, allow_infinity=False))
def test_any_number_keeps_all_its_digits(cash: Decimal) -> None:
    """Exponents included: the value after the wire is the value before it."""
    message = OpenAccount(account_id=ACCOUNT, name="Demo", cash=cash)
    assert OpenAccount.model_validate(json.loads(json.dumps(message.payload()))).cash == cash


@every_time
def test_a_time_without_a_zone_is_refused(message: Message, path: Path) -> None:
    """Nobody knows which hour it means."""
    with pytest.raises(ValidationError, match="should have timezone info"):
        type(message).model_validate(with_value(message, path, "2026-11-23T15:00:00"))


@every_message
def test_an_unknown_field_is_tolerated(message: Message) -> None:
    """Publishers may be newer than their consumers."""
    assert type(message).model_validate({**message.payload(), "brand_new": {"x": 1}}) == message


@pytest.mark.parametrize("branch", [("prices", 0, "brand_new"), ("values", 0, "brand_new"), ("orders", 0, "brand_new")])
def test_an_unknown_field_is_tolerated_in_depth(branch: Path) -> None:
    """The prices, values and orders inside a message grow as well."""
    (message,) = [example for example in EXAMPLES.values() if branch[0] in type(example).model_fields]
    assert type(message).model_validate(with_value(message, branch, "1")) == message


@every_message
def test_a_message_cannot_be_changed(message: Message) -> None:
    """What was said stays said."""
    with pytest.raises(ValidationError, match="frozen"):
        setattr(message, next(iter(type(message).model_fields)), None)


@every_message
def test_a_routing_key_is_the_service_the_message_and_its_version(message: Message) -> None:
    """``orders.order_filled.v1``: an operator can bind to it by eye."""
    service, name, version = message.routing_key.split(".")
    assert service in SERVICES
    assert re.fullmatch(r"[a-z]+(_[a-z]+)*", name)
    assert name.replace("_", "") == type(message).__name__.lower()
    assert version == "v1"


@pytest.mark.parametrize(
    ("message", "key"),
    [
        (EXAMPLES[PricesUpdated], "marketdata.prices_updated.v1"),
        (EXAMPLES[SubmitOrder], "orders.submit_order.v1"),
        (EXAMPLES[RunJob], "orders.run_job.v1"),
    ],
)
def test_routing_keys_are_what_deployed_bindings_say(message: Message, key: str) -> None:
    """Changing one cuts off the services that are not yet deployed."""
    assert message.routing_key == key


def test_wire_names_are_unique() -> None:
    """An actor is found by the name alone."""
    names = [message.wire_name() for message in PUBLISHERS]
    assert len(set(names)) == len(names)


def test_every_message_that_is_received_has_a_publisher() -> None:
    """A queue or the live feed does not wait for what nobody says."""
    received = {message for queue in QUEUES.values() for message in queue.messages} | set(LIVE)
    assert received <= {message for message, services in PUBLISHERS.items() if services}


def test_publishers_are_services_and_an_event_has_one() -> None:
    """An event is said by the service that owns it, and by no other."""
    for message, services in PUBLISHERS.items():
        assert set(services) <= set(SERVICES)
        if issubclass(message, Event):
            assert services == (message.service,)


@pytest.mark.parametrize("command", [message for message in PUBLISHERS if issubclass(message, Command)])
def test_a_command_is_obeyed_by_exactly_one_service(command: type[Command]) -> None:
    """Under each of its routing keys it reaches one queue, of the service that the key names."""
    queues = [name for name, queue in QUEUES.items() if command in queue.messages]
    bound = {bind(queue, command).routing_key: service_of(queue) for queue in queues}
    assert len(bound) == len(queues) > 0
    assert bound == {routing_key(command, service): service for service in bound.values()}


def test_every_worker_runs_its_own_jobs() -> None:
    """RunJob names the service; each has one queue for it."""
    assert {service_of(name) for name, queue in QUEUES.items() if RunJob in queue.messages} == set(WORKERS)
    assert bindings_of("orders.jobs") == (Binding("orders.jobs", COMMANDS, "orders.run_job.v1"),)


def test_queues_belong_to_the_services() -> None:
    """The part before the dot is the consumer, and every queue has one."""
    assert sorted(queue for service in SERVICES for queue in queues_of(service)) == sorted(QUEUES)
    assert queues_of("orders") == ("orders.prices", "orders.commands", "orders.jobs", "orders.operations")


def test_events_and_commands_have_an_exchange_each() -> None:
    """An event goes to whoever listens, a command to the one who obeys."""
    for message in PUBLISHERS:
        assert exchange_of(message) == (COMMANDS if issubclass(message, Command) else EVENTS)


def test_every_command_is_awaited() -> None:
    """One that reaches no queue would be lost, so the broker hands it back."""
    assert all(is_awaited(message) for message in PUBLISHERS if issubclass(message, Command))


def test_what_concerns_an_account_is_published_in_its_order() -> None:
    """Such messages share the account's key; jobs queue up by name, the rest by service."""
    for message in EXAMPLES.values():
        if message.service == "orders":
            assert message.key == str(ACCOUNT)
    assert EXAMPLES[RunJob].key == "process_orders"
    assert EXAMPLES[PricesUpdated].key == "marketdata"


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("qty", "0"),
        ("qty", "-1"),
        ("qty", "0.0000000001"),
        ("limit_price", "0"),
        ("stop_price", "-5"),
        ("symbol", "aapl"),
        ("symbol", ""),
        ("symbol", "AAPL; DROP"),
        ("symbol", "A" * 17),
        ("client_order_id", ""),
        ("client_order_id", "x" * 129),
        ("side", "hold"),
        ("type", "iceberg"),
        ("time_in_force", "gtd"),
    ],
)
def test_an_order_that_makes_no_sense_is_refused(field: str, value: str) -> None:
    """Nothing, less than nothing, too fine, or in words that are not known."""
    with pytest.raises(ValidationError, match=field):
        SubmitOrder.model_validate(with_value(EXAMPLES[SubmitOrder], (field,), value))
