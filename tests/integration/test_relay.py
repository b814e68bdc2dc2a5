"""The relay's messages arrive despite lost connections and other relays."""

import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid4

import dramatiq
import pika
import pytest

from shared.bus.amqp.publisher import Finished, Publisher, Unroutable
from shared.bus.amqp.topology import Kind, physical_name
from shared.bus.envelope import Outgoing, encode
from shared.bus.notify import NotificationListener, notify_relays
from shared.bus.ordering import OverdueWatch
from shared.bus.relay import Relay
from shared.bus.unit_of_work import ServiceContext
from shared.storage.engine import make_engine
from tests.conftest import FakeClock
from tests.servers.rabbitmq import RabbitServer
from tests.support import account, eventually, send, value

CUT = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE usename = current_user AND datname = current_database() AND pid <> pg_backend_pid()
"""


def test_a_mandatory_message_that_reaches_no_queue_is_an_error(
    vhost: str, rabbit: RabbitServer, publisher: Publisher
) -> None:
    """The queue was deleted. The publisher raises Unroutable."""
    rabbit.call("DELETE", f"queues/{vhost.rpartition('/')[2]}/{physical_name('orders.commands', Kind.CLASSIC)}")
    with pytest.raises(Unroutable):
        publisher.send(encode(account(uuid4()))).result(10)


def test_the_relay_keeps_unsent_rows_and_sends_them_later(
    vhost: str, rabbit: RabbitServer, gateway: ServiceContext, publisher: Publisher
) -> None:
    """Connections are cut again and again while messages flow. All arrive, and no row is left."""
    relay = Relay(gateway, publisher, poll=0.1)
    relay.start()
    sent = set()
    for n in range(200):
        command = account(uuid4())
        send(gateway, command)
        sent.add(str(command.account_id))
        if n in {50, 100, 150}:
            eventually(lambda: rabbit.close_connections(vhost))
    eventually(lambda: value(gateway.engine, "SELECT count(*) = 0 FROM gateway.outbox"), seconds=30)
    assert _drain(vhost, "orders.commands") == sent
    relay.stop()


def test_the_relay_goes_on_after_the_database_cut_its_connection(
    gateway: ServiceContext, publisher: Publisher, urls: dict[str, str]
) -> None:
    """Ten times, at any moment. The same relay goes on, and no row is left."""
    relay = Relay(gateway, publisher, poll=0.001)
    relay.start()
    trading = ServiceContext(
        "gateway", make_engine(urls["gateway"], name="trading")
    )  # its own pool, because the relay has to repair the other one
    with make_engine(urls["gateway"], name="test").connect() as cutting:
        for _ in range(10):
            send(trading, account(uuid4()))
            assert cutting.exec_driver_sql(CUT).scalar_one()
            cutting.commit()
            trading.engine.dispose()
        eventually(lambda: value(cutting.engine, "SELECT count(*) = 0 FROM gateway.outbox"), seconds=30)
        assert relay.alive
    cutting.engine.dispose()
    relay.stop()


class Away:
    """A bus that is away until it is ``back``."""

    session, looks, back = 1, 0, False

    def __init__(self) -> None:
        self.sent: list[Outgoing] = []

    @property
    def ready(self) -> bool:
        self.looks += 1
        return self.back

    def send_many(self, messages: Sequence[Outgoing], _session: int, _finished: Finished) -> None:
        self.sent += messages


def park(gateway: ServiceContext, age: str) -> None:
    """Park a message whose predecessor never comes."""
    envelope: dramatiq.Message[None] = dramatiq.Message("gateway.commands", "x", (), {}, {"after": "y"})
    with gateway.unit_of_work() as uow:
        statement = "INSERT INTO gateway.parked VALUES (%s, %s, 'gateway.commands', %s, now() - CAST(%s AS interval))"
        uow.connection.exec_driver_sql(statement, (uuid4(), uuid4(), envelope.encode(), age))


def test_no_message_goes_ahead_of_its_turn_during_an_outage(
    gateway: ServiceContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The predecessor may be held up by the outage, so the wait begins again when RabbitMQ is back."""
    monkeypatch.setattr("shared.bus.relay.OVERDUE_SECONDS", 0.0)
    monkeypatch.setattr("shared.bus.ordering.PATIENCE", timedelta(seconds=0.2))
    park(gateway, "1 hour")
    bus = Away()
    relay = Relay(gateway, bus, poll=0.01)
    relay.start()
    ends = time.monotonic() + 0.5
    eventually(lambda: time.monotonic() > ends and bus.looks > 20, what="it has looked for longer than patience lasts")
    assert (bus.sent, value(gateway.engine, "SELECT count(*) FROM gateway.parked")) == ([], 1)
    bus.back = True
    eventually(lambda: [message.routing_key for message in bus.sent] == ["gateway.commands"])
    relay.stop()


def test_no_message_goes_ahead_of_its_turn_because_a_clock_does(
    gateway: ServiceContext, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replica's clock jumps ahead by more than patience lasts. The message has waited for a second only."""
    monkeypatch.setattr("shared.bus.relay.OVERDUE_SECONDS", 0.0)
    park(gateway, "1 second")
    bus = Away()
    bus.back = True
    relay = Relay(replace(gateway, clock=clock), bus, poll=0.01)
    relay.start()
    eventually(lambda: bus.looks > 20)
    clock.move(minutes=5)
    looks = bus.looks
    eventually(lambda: bus.looks > looks + 20, what="it has looked again")
    assert (bus.sent, value(gateway.engine, "SELECT count(*) FROM gateway.parked")) == ([], 1)
    relay.stop()


def test_a_message_waits_once_more_after_a_sleep(gateway: ServiceContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its predecessor slept, too. Everything wakes up after longer than patience lasts."""
    monkeypatch.setattr("shared.bus.ordering.PATIENCE", timedelta(seconds=1))
    monkeypatch.setattr("shared.bus.ordering.GAP", timedelta(seconds=0.5))
    watch = OverdueWatch(gateway)
    watch.look(1)
    park(gateway, "1 hour")
    slept = time.monotonic() + 1.2
    eventually(lambda: time.monotonic() > slept)
    watch.look(1)
    assert value(gateway.engine, "SELECT count(*) FROM gateway.parked") == 1

    def released() -> bool:
        watch.look(1)
        return bool(value(gateway.engine, "SELECT count(*) = 0 FROM gateway.parked"))

    eventually(released, what="patience is over")


def test_confirmed_rows_are_deleted_while_more_keep_coming(gateway: ServiceContext) -> None:
    """Each commit notifies the relay before it has waited."""

    class Confirming:
        session, ready = 1, True

        def send_many(self, messages: Sequence[Outgoing], _session: int, finished: Finished) -> None:
            for message in messages:
                finished(message, None)

    relay = Relay(gateway, Confirming(), poll=3600)
    relay.start()
    sent: list[UUID] = []

    def most_are_gone() -> bool:
        sent.append(uuid4())
        send(gateway, account(sent[-1]))
        left = value(gateway.engine, "SELECT count(*) FROM gateway.outbox")
        return len(sent) > 20 and left < len(sent) / 2

    eventually(most_are_gone, what="most of what was sent has been removed")
    relay.stop()


def test_a_commit_of_another_process_notifies_the_relay(gateway: ServiceContext, urls: dict[str, str]) -> None:
    """Without the scheduler's notification, the row would wait for the poll, which is an hour away here."""

    class Recording:
        session, ready = 1, True

        def __init__(self) -> None:
            self.sent: list[Outgoing] = []

        def send_many(self, messages: Sequence[Outgoing], _session: int, _finished: Finished) -> None:
            self.sent += messages

    bus, wake = Recording(), NotificationListener(gateway)
    relay = Relay(gateway, bus, poll=3600)
    relay.start()
    wake.start()
    listening = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND state = 'idle'"
    eventually(lambda: value(gateway.engine, listening) == 1)
    other = ServiceContext("gateway", make_engine(urls["gateway"], name="scheduler"))
    with other.unit_of_work() as uow:
        uow.publish(account(uuid4()))
        notify_relays(uow)
    eventually(lambda: len(bus.sent) == 1)
    other.engine.dispose()
    relay.stop()
    wake.stop()


def test_of_two_relays_one_sends_and_the_other_takes_over(gateway: ServiceContext, publisher: Publisher) -> None:
    """The locks of the shards go to the second relay when the first one ends. No row is sent by both."""
    counts = {"first": 0, "second": 0}

    class Counting:
        session = 1
        ready = True

        def __init__(self, name: str) -> None:
            self.name = name

        def send_many(self, messages: Sequence[Outgoing], session: int, finished: Finished) -> None:
            counts[self.name] += len(messages)
            publisher.send_many(messages, session, finished)

    first = Relay(gateway, Counting("first"), poll=0.05)
    first.start()
    send(gateway, account(uuid4()))
    eventually(lambda: counts["first"] == 1)
    second = Relay(gateway, Counting("second"), poll=0.05)
    second.start()
    for _ in range(20):
        send(gateway, account(uuid4()))
    eventually(lambda: value(gateway.engine, "SELECT count(*) = 0 FROM gateway.outbox"))
    assert counts == {"first": 21, "second": 0}
    first.stop()
    send(gateway, account(uuid4()))
    eventually(lambda: counts["second"] == 1)
    second.stop()


def _drain(url: str, queue: str) -> set[str]:
    """The accounts in the queue's messages."""
    found = set()
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        while (got := channel.basic_get(physical_name(queue, Kind.CLASSIC), auto_ack=True))[0] is not None:
            found.add(dramatiq.Message.decode(got[2]).kwargs["account_id"])
    return found
