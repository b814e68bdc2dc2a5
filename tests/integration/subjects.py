"""One interface for our bus and for stock dramatiq, so that one test tries both: one queue, one actor, one worker."""

import contextlib
import dataclasses
from collections.abc import Callable
from typing import Any, Protocol

import dramatiq
import pika
import pytest
from dramatiq import Worker
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.middleware import Retries

from shared.bus.actors import Actors
from shared.bus.amqp.broker import ServiceBroker
from shared.bus.amqp.topology import Kind, physical_name
from shared.bus.envelope import encode
from shared.bus.relay import Relay
from shared.bus.unit_of_work import ServiceContext
from shared.contracts.prices import PricesUpdated
from shared.contracts.routing import EVENTS, consumed_by
from shared.service import make_middleware
from shared.worker import WORKER_TIMEOUT_MS
from tests.servers.rabbitmq import RabbitServer, vhost_of
from tests.support import eventually, price, prices, rows, send

BOTH = [
    "ours",
    pytest.param("stock", marks=pytest.mark.xfail(raises=AssertionError, strict=True, reason="the trap itself")),
]
Handler = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class DeadMessage:
    """A dead message: the error of its last failure, and the time after which the broker drops it."""

    error: str
    expires_after_ms: int | None


class Subject(Protocol):
    """One side of a comparison. ``queue`` is its own, ``foreign`` that of another service, by RabbitMQ's names."""

    queue: str
    foreign: str
    broker: Any

    def handle(self, handler: Handler, *, retries: int = 5) -> None:
        """Declare the actor, which is called with the text of each message."""

    def work(self, threads: int = 2) -> Worker: ...

    def send(self, text: str) -> None:
        """Send to the own queue, as an application does."""

    def send_abroad(self) -> None:
        """Send to the foreign queue, as an application does."""

    def send_delayed(self, text: str, delay_ms: int) -> None: ...

    def deliver(self, text: str) -> None:
        """Put a message into the own queue, bypassing the subject."""

    def fan_out(self, text: str) -> None:
        """Publish, bypassing the subject, to an exchange that feeds the own queue among others."""

    def dead_message(self, _rabbit: RabbitServer, /) -> DeadMessage | None: ...

    def close(self) -> None: ...


def publish(url: str, exchange: str, routing_key: str, body: bytes) -> None:
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        connection.channel().basic_publish(exchange, routing_key, body, pika.BasicProperties(delivery_mode=2))


class Ours:
    queue = physical_name("orders.prices", Kind.CLASSIC)
    foreign = physical_name("valuation.prices", Kind.CLASSIC)

    def __init__(
        self, url: str, context: ServiceContext, patch: pytest.MonkeyPatch, *, through: str | None = None
    ) -> None:
        self.url = url
        self.context = context
        self.patch = patch
        self.broker: Any = ServiceBroker(
            through or url, service="orders", middleware=make_middleware({"orders": context})
        )
        eventually(self.broker.publisher.connected.is_set)
        self.relay = Relay(context, self.broker.publisher, poll=0.1)
        self.relay.start()
        self.workers: list[Worker] = []

    def handle(self, handler: Handler, *, retries: int = 5) -> None:
        self.patch.setattr("shared.bus.retries.TRIES", retries + 1)
        actors = Actors()

        @actors.raw(PricesUpdated, queue="orders.prices")
        def act(event: PricesUpdated, _context: ServiceContext) -> None:
            handler(event.prices[0].symbol)

        actors.attach(self.broker, self.context)

    def work(self, threads: int = 2) -> Worker:
        worker = Worker(
            self.broker, queues=set(consumed_by("orders")), worker_timeout=WORKER_TIMEOUT_MS, worker_threads=threads
        )
        worker.start()
        self.workers.append(worker)
        eventually(lambda: "orders.prices" in self.broker.attached)
        return worker

    def send(self, text: str) -> None:
        send(self.context, prices(price(text, 1)))

    def send_abroad(self) -> None:
        self.send("ABROAD")  # prices go to valuation, too

    def send_delayed(self, text: str, delay_ms: int) -> None:
        message: dramatiq.Message[None] = dramatiq.Message.decode(encode(prices(price(text, 1))).body)
        self.broker.enqueue(message.copy(queue_name="orders.prices"), delay=delay_ms)

    def deliver(self, text: str) -> None:
        publish(self.url, "orders.internal", "orders.prices", encode(prices(price(text, 1))).body)

    def fan_out(self, text: str) -> None:
        publish(self.url, EVENTS, "marketdata.prices_updated.v1", encode(prices(price(text, 1))).body)

    def dead_message(self, _rabbit: RabbitServer) -> DeadMessage | None:
        dead = rows(self.context.engine, "SELECT error FROM orders.dead_letters")
        return DeadMessage(dead[0].error, None) if dead else None

    def close(self) -> None:
        for worker in self.workers:
            worker.stop()
        self.relay.stop()
        self.broker.close()


class Stock:
    queue = "own"
    foreign = "foreign"

    def __init__(self, url: str, *, through: str | None = None, confirm: bool = False) -> None:
        self.url = url
        middleware: list[dramatiq.Middleware] = [Retries(min_backoff=50)]
        self.broker: Any = RabbitmqBroker(url=through or url, middleware=middleware, confirm_delivery=confirm)
        self.workers: list[Worker] = []
        self.actor: Any = None

    def handle(self, handler: Handler, *, retries: int = 5) -> None:
        declare: Any = dramatiq.actor
        self.actor = declare(handler, broker=self.broker, actor_name="act", queue_name=self.queue, max_retries=retries)
        self.broker.declare_queue(self.queue, ensure=True)

    def work(self, threads: int = 2) -> Worker:
        worker = Worker(self.broker, worker_threads=threads)
        worker.start()
        self.workers.append(worker)
        return worker

    def send(self, text: str) -> None:
        self.actor.send(text)

    def send_abroad(self) -> None:
        self.broker.enqueue(self.actor.message("abroad").copy(queue_name=self.foreign, actor_name="theirs"))

    def send_delayed(self, text: str, delay_ms: int) -> None:
        self.actor.send_with_options(args=(text,), delay=delay_ms)

    def deliver(self, text: str) -> None:
        publish(self.url, "", self.queue, self.actor.message(text).encode())

    def fan_out(self, text: str) -> None:
        publish(self.url, "", self.queue, self.actor.message(text).copy(queue_name="elsewhere").encode())

    def dead_message(self, rabbit: RabbitServer) -> DeadMessage | None:
        dead = f"{self.queue}.XQ"
        with pika.BlockingConnection(pika.URLParameters(self.url)) as connection:
            _, _, body = connection.channel().basic_get(dead, auto_ack=True)
        if body is None:
            return None
        arguments = rabbit.call("GET", f"queues/{vhost_of(self.url)}/{dead}")["arguments"]
        options = dramatiq.Message.decode(body).options
        return DeadMessage(str(options.get("traceback")), arguments.get("x-message-ttl"))

    def close(self) -> None:
        for worker in self.workers:
            with contextlib.suppress(KeyError):  # it fails on the lookup that killed its threads
                worker.stop(timeout=5_000)  # longer than its consumers poll, because pika is not thread-safe
        self.broker.close()
