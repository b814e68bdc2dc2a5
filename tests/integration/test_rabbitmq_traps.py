"""How stock dramatiq loses or repeats work on RabbitMQ, and that ours does not."""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from typing import Any
from uuid import uuid4

import dramatiq
import pika
import pytest
from dramatiq import Worker
from dramatiq.brokers.rabbitmq import RabbitmqBroker

from shared.bus.actors import Actors
from shared.bus.envelope import Outgoing, encode
from shared.bus.publisher import Publisher, PublishFailed, Unroutable
from shared.bus.rabbitmq import ServiceBroker
from shared.bus.relay import Relay
from shared.bus.topology import Kind, physical_name
from shared.bus.transaction import Transaction, Unit
from shared.contracts.orders import OpenAccount
from shared.contracts.prices import PricesUpdated
from shared.contracts.routing import consumed_by
from shared.storage.engine import make_engine
from shared.testing.rabbitmq import RabbitServer
from tests.support import account, eventually, price, prices, send, value


def working(broker: dramatiq.Broker, queues: tuple[str, ...], threads: int = 2) -> Worker:
    worker = Worker(broker, queues=set(queues), worker_timeout=50, worker_threads=threads)
    worker.start()
    return worker


def publish(url: str, exchange: str, routing_key: str, body: bytes) -> None:
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        connection.channel().basic_publish(exchange, routing_key, body, pika.BasicProperties(delivery_mode=2))


# Trap 1: a message whose envelope names another queue kills the worker thread.


def test_a_fanned_out_message_kills_no_worker_thread(vhost: str, orders: Unit, broker: ServiceBroker) -> None:
    """Every thread is alive after more fanned-out messages than there are threads."""
    seen: list[PricesUpdated] = []
    actors = Actors()

    @actors.on(PricesUpdated, queue="orders.prices")
    def note(event: PricesUpdated, _tx: Transaction) -> None:
        seen.append(event)

    actors.attach(broker, orders)
    worker = working(broker, consumed_by("orders"))
    for n in range(10):
        publish(
            vhost,
            "paperprofit.events",
            "marketdata.prices_updated.v1",
            encode(prices(price("AAPL", n + 1))).body,
        )
    eventually(lambda: len(seen) == 10)
    assert all(thread.is_alive() for thread in worker.workers)
    worker.stop()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_stock_dramatiq_loses_its_threads_to_fanned_out_messages(vhost: str) -> None:
    """The trap itself, so that we know when dramatiq mends it."""
    stock = RabbitmqBroker(url=vhost, middleware=[])
    dramatiq.actor(broker=stock, actor_name="note", queue_name="fanned")(lambda: None)
    worker = working(stock, ("fanned",))
    envelope: dramatiq.Message[None] = dramatiq.Message("elsewhere", "note", (), {}, {})
    declared = eventually(lambda: "fanned" in worker.consumers)
    assert declared
    stock.declare_queue("fanned", ensure=True)
    for _ in range(4):
        publish(vhost, "", "fanned", envelope.encode())
    eventually(lambda: not any(thread.is_alive() for thread in worker.workers))
    for consumer in worker.consumers.values():  # Worker.stop() stumbles over the same lookup
        consumer.stop()
    stock.close()


# Trap 2: publishing declares the target queue on the publisher's broker, whose worker then steals from it.


def test_a_service_consumes_only_its_own_queues(
    vhost: str, rabbit: RabbitServer, orders: Unit, broker: ServiceBroker
) -> None:
    """Orders publishes to everybody, and attaches to nobody else's queue."""
    Actors().attach(broker, orders)
    actors = Actors()

    @actors.on(OpenAccount, queue="orders.commands")
    def ignore(_command: OpenAccount, _tx: Transaction) -> None: ...

    actors.attach(broker, orders)
    worker = working(broker, consumed_by("orders"))
    broker.publisher.send(encode(prices(price("AAPL", 1)))).result(10)
    eventually(lambda: rabbit.queues(vhost).get("valuation.prices", _none()).ready == 1, what="valuation's copy waits")
    assert {name for name, depth in rabbit.queues(vhost).items() if depth.consumers} <= {
        name for queue in consumed_by("orders") for name in (queue, f"{queue}.DQ")
    }
    worker.stop()


def _none() -> Any:
    from shared.testing.rabbitmq import QueueDepth

    return QueueDepth(0, 0, 0)


# Trap 3: a retry that cannot be sent is acknowledged all the same.


def test_a_retry_that_cannot_be_sent_does_not_vanish(
    vhost: str, rabbit: RabbitServer, orders: Unit, broker: ServiceBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message goes back into its queue, again and again, and acts once retries can be sent."""
    monkeypatch.setattr("shared.bus.rabbitmq.REQUEUE_PAUSE_SECONDS", 0.05)
    refused: list[object] = []
    acted = threading.Event()

    def refuse(message: Outgoing) -> None:
        refused.append(message)
        raise PublishFailed("the test says no")

    actors = Actors()

    @actors.on(PricesUpdated, queue="orders.prices")
    def fail(_event: PricesUpdated, _tx: Transaction) -> None:
        if len(refused) < 3:
            raise ValueError("this fails")
        acted.set()

    actors.attach(broker, orders)
    monkeypatch.setattr(broker.publisher, "send", refuse)
    worker = working(broker, consumed_by("orders"))
    eventually(lambda: "orders.prices" in broker.attached)
    publish(vhost, "orders.internal", "orders.prices", encode(prices(price("AAPL", 1))).body)
    assert acted.wait(20)
    eventually(lambda: rabbit.queues(vhost)["orders.prices"].unacked == 0, what="the message acknowledged")
    worker.stop()


# Trap 4: delivery tags start again after a reconnect, and an old job acknowledges another message.


def test_a_job_that_outlives_its_connection_acknowledges_no_other_message(
    vhost: str, rabbit: RabbitServer, orders: Unit, broker: ServiceBroker
) -> None:
    """The connection is cut in the middle of a job; the job's ack must not fall on the message that came after it."""
    began, go_on, second_began, finish = (threading.Event() for _ in range(4))
    actors = Actors()

    @actors.raw(PricesUpdated, queue="orders.prices")
    def slow(event: PricesUpdated, _unit: Unit) -> None:
        if event.prices[0].symbol == "OLD":
            if not began.is_set():
                began.set()
                go_on.wait(30)
        else:
            second_began.set()
            finish.wait(30)

    actors.attach(broker, orders)
    worker = working(broker, consumed_by("orders"), threads=4)
    eventually(lambda: "orders.prices" in broker.attached)
    publish(vhost, "orders.internal", "orders.prices", encode(prices(price("OLD", 1))).body)
    assert began.wait(10)
    eventually(lambda: rabbit.close_connections(vhost) >= 1)
    publish(vhost, "orders.internal", "orders.prices", encode(prices(price("NEW", 1))).body)
    assert second_began.wait(20)
    go_on.set()
    eventually(lambda: rabbit.queues(vhost)["orders.prices"].unacked == 1, what="only the running message is left")
    held = time.monotonic() + 1.5  # the management figures are half a second old at most
    eventually(lambda: time.monotonic() > held)
    assert rabbit.queues(vhost)["orders.prices"].unacked == 1
    finish.set()
    eventually(lambda: rabbit.queues(vhost)["orders.prices"].unacked == 0)
    worker.stop()


def test_a_mandatory_message_that_reaches_no_queue_is_an_error(vhost: str, rabbit: RabbitServer) -> None:
    """The queue was deleted: the publisher is told, and its outbox keeps the row."""
    publisher = Publisher(vhost, name="test")
    eventually(publisher.connected.is_set)
    rabbit.call("DELETE", f"queues/{vhost.rpartition('/')[2]}/{physical_name('orders.commands', Kind.CLASSIC)}")
    with pytest.raises(Unroutable):
        publisher.send(encode(account(uuid4()))).result(10)
    publisher.stop()


def test_the_relay_keeps_what_could_not_be_sent_and_sends_it_later(
    vhost: str, rabbit: RabbitServer, urls: dict[str, str]
) -> None:
    """Connections are cut again and again while messages flow: all arrive, none is left."""
    gateway = Unit("gateway", make_engine(urls["gateway"], name="gateway"))
    publisher = Publisher(vhost, name="gateway")
    eventually(publisher.connected.is_set)
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
    publisher.stop()
    gateway.engine.dispose()


def test_of_two_relays_one_sends_and_the_other_takes_over(vhost: str, urls: dict[str, str]) -> None:
    """The shards' locks go to the second relay when the first is gone; nothing is sent by both."""
    gateway = Unit("gateway", make_engine(urls["gateway"], name="gateway"))
    publisher = Publisher(vhost, name="gateway")
    eventually(publisher.connected.is_set)
    counts = {"first": 0, "second": 0}

    class Counting:
        session = 1

        def __init__(self, name: str) -> None:
            self.name = name

        def send_many(self, messages: Sequence[Outgoing], session: int) -> "list[Future[None]]":
            counts[self.name] += len(messages)
            return publisher.send_many(messages, session)

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
    publisher.stop()
    gateway.engine.dispose()


def _drain(url: str, queue: str) -> set[str]:
    """The accounts that the queue's messages name."""
    found = set()
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        while (got := channel.basic_get(physical_name(queue, Kind.CLASSIC), auto_ack=True))[0] is not None:
            found.add(dramatiq.Message.decode(got[2]).kwargs["account_id"])
    return found
