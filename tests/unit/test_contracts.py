"""The contracts: rejected values, values on the wire, and the publishers and receivers of each message."""

import json
import re
from collections.abc import Iterator
from copy import deepcopy
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from shared.contracts.accounts import CashRefused, OpenAccount
from shared.contracts.base import Command, Event, Message, routing_key
from shared.contracts.jobs import RunJob
from shared.contracts.orders import CancelRejected, OrderCanceled, OrderRejected, ReplaceRejected, SubmitOrder
from shared.contracts.prices import PricesUpdated
from shared.contracts.reasons import CancelReason, RejectReason
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
    """Every value in nested dictionaries and sequences, with its path."""
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


def test_every_message_has_an_example() -> None:
    """A new message needs one, and is then tested like the others."""
    assert set(EXAMPLES) == set(PUBLISHERS)


def test_every_message_of_the_contracts_is_in_the_routing_table() -> None:
    """A message without a publisher was forgotten, or is dead code."""

    def kinds(base: type[Message]) -> Iterator[type[Message]]:
        for kind in base.__subclasses__():
            yield from kinds(kind) if kind.__subclasses__() else (kind,)

    assert {kind for kind in kinds(Message) if kind.__module__.startswith("shared.contracts")} == set(PUBLISHERS)


@every_message
def test_a_message_survives_the_wire_unchanged(message: Message) -> None:
    """Every digit and microsecond survives JSON."""
    assert type(message).model_validate(message.payload()) == message
    assert type(message).model_validate(json.loads(json.dumps(message.payload()))) == message


@every_message
def test_no_float_is_on_the_wire(message: Message) -> None:
    """A JSON number loses digits in most languages, so numbers with decimals are strings."""
    assert not [path for path, value in leaves(message.payload()) if isinstance(value, float)]


@every_number
def test_a_number_is_a_string_on_the_wire(message: Message, path: Path) -> None:
    """The string has the exact digits of the Decimal."""
    written = dict(leaves(message.payload()))[path]
    assert isinstance(written, str)
    assert Decimal(written) == dict(leaves(message.model_dump()))[path]


@every_number
@pytest.mark.parametrize("value", [1.5, 1.0, float("nan"), float("inf")])
def test_a_float_is_rejected_as_a_number(message: Message, path: Path, value: float) -> None:
    """A float has lost digits already. The error says what to send instead."""
    with pytest.raises(ValidationError, match="is a float: send decimal numbers as strings"):
        type(message).model_validate(with_value(message, path, value))


@every_number
@pytest.mark.parametrize(
    "value", ["NaN", "sNaN", "Infinity", "-Infinity", Decimal("NaN"), Decimal("Infinity"), True, ""]
)
def test_a_value_that_is_not_a_number_is_rejected(message: Message, path: Path, value: object) -> None:
    """NaN and infinity would make every sum NaN or infinite."""
    with pytest.raises(ValidationError):
        type(message).model_validate(with_value(message, path, value))


@given(st.decimals(min_value=Decimal("1E-12"), max_value=Decimal("1E+20"), allow_nan=False, allow_infinity=False))
def test_any_number_keeps_all_its_digits(cash: Decimal) -> None:
    """The value after the wire is the value before it, exponents included."""
    message = OpenAccount(account_id=ACCOUNT, name="Demo", cash=cash)
    assert OpenAccount.model_validate(json.loads(json.dumps(message.payload()))).cash == cash


@every_time
def test_a_time_without_a_zone_is_rejected(message: Message, path: Path) -> None:
    """A time without a zone is ambiguous."""
    with pytest.raises(ValidationError, match="should have timezone info"):
        type(message).model_validate(with_value(message, path, "2026-11-23T15:00:00"))


@every_message
def test_an_unknown_field_is_tolerated(message: Message) -> None:
    """Publishers may be newer than their consumers."""
    assert type(message).model_validate({**message.payload(), "brand_new": {"x": 1}}) == message


@pytest.mark.parametrize("branch", [("prices", 0, "brand_new"), ("values", 0, "brand_new"), ("orders", 0, "brand_new")])
def test_an_unknown_field_is_tolerated_in_depth(branch: Path) -> None:
    """The prices, values and orders inside a message may get new fields as well."""
    (message,) = [example for example in EXAMPLES.values() if branch[0] in type(example).model_fields]
    assert type(message).model_validate(with_value(message, branch, "1")) == message


@every_message
def test_a_message_cannot_be_changed(message: Message) -> None:
    """Messages are immutable."""
    with pytest.raises(ValidationError, match="frozen"):
        setattr(message, next(iter(type(message).model_fields)), None)


@every_message
def test_a_routing_key_is_the_service_the_message_and_its_version(message: Message) -> None:
    """An operator can guess it: ``orders.order_filled.v1``."""
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
def test_routing_keys_are_those_of_deployed_bindings(message: Message, key: str) -> None:
    """Changing one cuts off the services that are not yet deployed."""
    assert message.routing_key == key


def test_wire_names_are_unique() -> None:
    """The name alone selects the actor."""
    names = [message.wire_name() for message in PUBLISHERS]
    assert len(set(names)) == len(names)


def test_every_received_message_has_a_publisher() -> None:
    """No queue and no live feed waits for a message that nobody publishes."""
    received = {message for queue in QUEUES.values() for message in queue.messages} | set(LIVE)
    assert received <= {message for message, services in PUBLISHERS.items() if services}


def test_publishers_are_services_and_an_event_has_one() -> None:
    """Only the service that owns an event publishes it."""
    for message, services in PUBLISHERS.items():
        assert set(services) <= set(SERVICES)
        if issubclass(message, Event):
            assert services == (message.service,)


@pytest.mark.parametrize("command", [message for message in PUBLISHERS if issubclass(message, Command)])
def test_a_command_is_handled_by_exactly_one_service(command: type[Command]) -> None:
    """Each of its routing keys leads to one queue, in the service that the key names."""
    queues = [name for name, queue in QUEUES.items() if command in queue.messages]
    bound = {bind(queue, command).routing_key: service_of(queue) for queue in queues}
    assert len(bound) == len(queues) > 0
    assert bound == {routing_key(command, service): service for service in bound.values()}


def test_every_worker_runs_its_own_jobs() -> None:
    """RunJob names the service, and each service has one queue for it."""
    assert {service_of(name) for name, queue in QUEUES.items() if RunJob in queue.messages} == set(WORKERS)
    assert bindings_of("orders.jobs") == (Binding("orders.jobs", COMMANDS, "orders.run_job.v1"),)


def test_queues_belong_to_the_services() -> None:
    """The part before the dot of a queue's name is its consumer."""
    assert sorted(queue for service in SERVICES for queue in queues_of(service)) == sorted(QUEUES)
    assert queues_of("orders") == (
        "orders.prices",
        "orders.commands",
        "orders.risk",
        "orders.jobs",
        "orders.operations",
    )


def test_events_and_commands_have_an_exchange_each() -> None:
    """Events and commands are published to different exchanges."""
    for message in PUBLISHERS:
        assert exchange_of(message) == (COMMANDS if issubclass(message, Command) else EVENTS)


def test_every_command_is_awaited() -> None:
    """A command that reaches no queue would be lost, so the broker returns it."""
    assert all(is_awaited(message) for message in PUBLISHERS if issubclass(message, Command))


def test_the_messages_of_an_account_share_its_key() -> None:
    """Jobs are ordered by their name, all other messages by their service."""
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
def test_an_invalid_order_is_rejected(field: str, value: str) -> None:
    """Values of zero, negative, too fine or unknown."""
    with pytest.raises(ValidationError, match=field):
        SubmitOrder.model_validate(with_value(EXAMPLES[SubmitOrder], (field,), value))


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (EXAMPLES[OrderRejected], RejectReason.NOT_TRADABLE),
        (EXAMPLES[CashRefused], RejectReason.INSUFFICIENT_CASH),
        (EXAMPLES[OrderCanceled], CancelReason.REQUESTED),
    ],
)
def test_a_known_reason_is_its_enum_and_its_string_on_the_wire(message: Message, reason: StrEnum) -> None:
    """Consumers compare members, and the wire carries what it always did."""
    received = type(message).model_validate(message.payload())
    assert received.model_dump()["reason"] is reason
    assert message.payload()["reason"] == reason.value


def test_an_order_can_be_canceled_for_the_reason_of_a_rejection() -> None:
    """A partly filled order that cannot be paid any more is canceled, not rejected."""
    canceled = OrderCanceled.model_validate(
        with_value(EXAMPLES[OrderCanceled], ("reason",), "insufficient_buying_power")
    )
    assert canceled.reason is RejectReason.INSUFFICIENT_BUYING_POWER


@pytest.mark.parametrize("kind", [OrderRejected, CancelRejected, ReplaceRejected, CashRefused, OrderCanceled])
def test_an_unknown_reason_is_kept_as_text(kind: type[Message]) -> None:
    """A publisher of another version may know more reasons: its message is no dead letter."""
    received = kind.model_validate(with_value(EXAMPLES[kind], ("reason",), "reason_of_another_version"))
    assert received.model_dump()["reason"] == "reason_of_another_version"
    assert received.payload()["reason"] == "reason_of_another_version"


def test_no_reason_of_a_cancel_is_one_of_a_rejection() -> None:
    """On the wire they share a field, so a string must mean one of them."""
    assert not {*CancelReason} & {*RejectReason}
