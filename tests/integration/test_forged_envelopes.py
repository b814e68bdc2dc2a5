"""A stranger with the credentials of one service writes what it likes into envelopes. Its routing key is checked."""

import json
from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID, uuid4

import pika
import pytest
from dramatiq import Worker

from shared.bus.actors import Actors
from shared.bus.amqp.broker import ServiceBroker
from shared.bus.envelope import encode
from shared.bus.unit_of_work import ServiceContext, UnitOfWork
from shared.contracts.accounts import ConfigureAccount, MoveCash, OpenAccount, ResetAccount
from shared.contracts.base import Message
from shared.contracts.orders import CancelOrder, SubmitOrder
from shared.contracts.routing import COMMANDS
from tests.support import account, eventually, order, value

#: The routing key under which the strategy may send, among others.
SUBMIT = "orders.submit_order.v1"
ID = str(uuid4())
FORGED_CALL = {"queue_name": "orders.commands", "actor_name": "MoveCash.v1", "args": [], "kwargs": {}, "options": {}}
#: Options that dramatiq or its middleware acts on, with values that no sender of ours writes.
OPTIONS: list[dict[str, Any]] = [
    {"eta": 1e308},
    {"eta": -1},
    {"eta": "tomorrow"},
    {"eta": None},
    {"eta": 4102444800000},
    {"retries": -5},
    {"retries": 10**9},
    {"retries": "many"},
    {"retries": [1]},
    {"max_retries": 0},
    {"min_backoff": 10**12},
    {"max_backoff": -1},
    {"max_age": 0},
    {"max_age": "old"},
    {"time_limit": 0},
    {"time_limit": "never"},
    {"throws": "Exception"},
    {"notify_shutdown": "yes"},
    {"pipe_target": {**FORGED_CALL, "message_id": ID, "message_timestamp": 1}},
    {"pipe_ignore": True, "pipe_target": "MoveCash.v1"},
    {"on_success": "orders.commands/MoveCash.v1"},
    {"on_failure": "orders.commands/MoveCash.v1"},
    {"on_retry_exhausted": "orders.commands/MoveCash.v1"},
    {"group_completion_uuid": ID, "group_completion_callbacks": [FORGED_CALL]},
    {"broker_priority": 10**6},
    {"traceparent": 7},
    {"traceparent": "0" * 100_000},
    {"redis_message_id": {"a": ["deep"]}},
]
#: Envelopes that cannot be read, beside those with wrong types that the poison tests have.
UNREADABLE: dict[str, bytes] = {
    "an eta beyond every float": b'"eta":1e400',
    "a predecessor that is no id": b'"after":"first"',
    "a predecessor that is a number": b'"after":7',
}


class Handled:
    """The ids of the accounts in the commands of each name that orders handled."""

    def __init__(self) -> None:
        self.commands: list[tuple[str, UUID]] = []

    def note(self, command: Any, _uow: UnitOfWork) -> None:
        self.commands.append((type(command).__name__, command.account_id))

    def __contains__(self, command: tuple[str, UUID]) -> bool:
        return command in self.commands


@pytest.fixture
def handled(broker: ServiceBroker, orders: ServiceContext) -> Iterator[Handled]:
    """Orders at work on its commands."""
    seen, actors = Handled(), Actors()
    for message in (OpenAccount, ConfigureAccount, MoveCash, ResetAccount, SubmitOrder, CancelOrder):
        actors.on(message, queue="orders.commands")(seen.note)
    actors.attach(broker, orders)
    worker = Worker(broker, queues={"orders.commands"}, worker_timeout=50, worker_threads=2)
    worker.start()
    yield seen
    worker.stop(10_000)


@pytest.fixture
def send(vhost: str) -> Iterator[Callable[[bytes], None]]:
    """Sends bytes under the routing key of a submitted order."""
    with pika.BlockingConnection(pika.URLParameters(vhost)) as connection:
        channel = connection.channel()

        def publish(body: bytes, key: str = SUBMIT) -> None:
            channel.basic_publish(COMMANDS, key, body)

        yield publish


def letters(orders: ServiceContext, reason: str) -> int:
    return int(value(orders.engine, "SELECT count(*) FROM orders.dead_letters WHERE reason = :reason", reason=reason))


def with_options(message: Message, options: bytes | dict[str, Any]) -> bytes:
    """The envelope of the message, with these options instead of its own."""
    envelope = json.loads(encode(message).body)
    envelope["options"] = {} if isinstance(options, bytes) else options
    body = json.dumps(envelope).encode()
    return body.replace(b'"options": {}', b'"options": {' + options + b"}") if isinstance(options, bytes) else body


@pytest.mark.parametrize("forged", [MoveCash, ResetAccount, OpenAccount, ConfigureAccount, CancelOrder])
def test_an_envelope_cannot_name_another_command_than_its_routing_key(
    handled: Handled, send: Callable[[bytes], None], orders: ServiceContext, forged: type[Message]
) -> None:
    """The command that came under the wrong key is a dead letter, and those behind it are handled."""
    victim, good = uuid4(), uuid4()
    body = json.loads(encode(order(victim)).body)
    body["actor_name"] = forged.wire_name()
    body["kwargs"] |= {"transfer_id": ID, "reset_id": ID, "amount": "1000000", "cash": "1000000", "name": "mine"}
    send(json.dumps(body).encode())
    send(json.dumps({**body, "actor_name": f"orders.commands/{forged.wire_name()}"}).encode())
    send(encode(order(good)).body)
    eventually(lambda: ("SubmitOrder", good) in handled)
    eventually(lambda: letters(orders, "Misrouted") == 1)  # both have one id
    assert [found for found in handled.commands if found[1] == victim] == []


def test_a_command_under_its_own_key_is_handled(handled: Handled, send: Any) -> None:
    opened = uuid4()
    send(encode(account(opened)).body, key="orders.open_account.v1")
    eventually(lambda: ("OpenAccount", opened) in handled)


def test_no_option_of_an_envelope_stops_a_consumer(
    handled: Handled, send: Callable[[bytes], None], orders: ServiceContext
) -> None:
    """Each message is handled at once, as if it had no such option, and nothing else happens."""
    accounts = [uuid4() for _ in OPTIONS]
    for account_id, options in zip(accounts, OPTIONS, strict=True):
        send(with_options(order(account_id), options))
    eventually(lambda: len(handled.commands) >= len(OPTIONS))
    last = uuid4()
    send(encode(order(last)).body)
    eventually(lambda: ("SubmitOrder", last) in handled)
    assert sorted(handled.commands) == sorted(("SubmitOrder", each) for each in [*accounts, last])
    assert value(orders.engine, "SELECT count(*) FROM orders.dead_letters") == 0


@pytest.mark.parametrize("case", UNREADABLE)
def test_an_envelope_that_cannot_be_read_is_a_dead_letter(
    handled: Handled, send: Callable[[bytes], None], orders: ServiceContext, case: str
) -> None:
    good, options = uuid4(), UNREADABLE[case]
    send(with_options(order(uuid4()), options))
    send(encode(order(good)).body)
    eventually(lambda: ("SubmitOrder", good) in handled)
    if options.startswith(b'"eta"'):  # only our own retries have one, so a stranger's is not even read
        eventually(lambda: len(handled.commands) == 2)
    else:
        eventually(lambda: letters(orders, "Undecodable") == 1)


@pytest.mark.parametrize("depth", [50_000])
def test_a_deep_body_is_a_dead_letter(
    handled: Handled, send: Callable[[bytes], None], orders: ServiceContext, depth: int
) -> None:
    """Decoding it exceeds Python's recursion limit."""
    good = uuid4()
    send(b'{"queue_name":' + b"[" * depth + b"]" * depth + b"}")
    send(encode(order(good)).body)
    eventually(lambda: ("SubmitOrder", good) in handled)
    eventually(lambda: letters(orders, "Undecodable") == 1)
