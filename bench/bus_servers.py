"""The servers that the bus is measured on, and the messages in their queues."""

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from uuid import UUID, uuid4

import pika
import structlog
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from sqlalchemy import Engine

from bench.report import NotMeasured
from embedded.database import service_urls
from embedded.postgres_cluster import PostgresCluster
from shared.bus.amqp.topology import Kind, physical_name
from shared.bus.envelope import encode
from shared.contracts.jobs import RunJob
from shared.contracts.orders import CancelOrder
from shared.contracts.routing import QUEUES, service_of
from shared.storage.engine import make_engine
from shared.storage.migrate import migrate_service
from tests.servers.choice import rabbit_server
from tests.servers.rabbitmq import QueueDepth, RabbitServer

#: Our queue that is filled, and those of the others.
OURS = "orders.commands"
#: Less urgent queues, of the same service and of another one.
LOW_OF_OURS, LOW_ELSEWHERE = "orders.jobs", "strategy.jobs"
RAW, STOCK, CELERY = "bench.raw", "bench.stock", "celery"
SETTLE_TIMEOUT = 120.0
PERSISTENT = 2
AT = datetime(2026, 11, 25, tzinfo=UTC)


@dataclass(frozen=True)
class Servers:
    """``url`` names a virtual host with our topology. ``database`` has the services' URLs."""

    rabbit: RabbitServer
    url: str
    database: dict[str, str]

    @contextmanager
    def channel(self) -> Iterator[Any]:
        with pika.BlockingConnection(pika.URLParameters(self.url)) as connection:
            yield connection.channel()

    def fill(self, queue: str, bodies: Iterable[bytes], headers: dict[str, Any] | None = None) -> None:
        """Put persistent messages into the queue, and return when it holds all of them."""
        name = broker_name(queue)
        with self.channel() as channel:
            channel.queue_purge(name)
            count = 0
            for count, body in enumerate(bodies, start=1):  # noqa: B007 - the last one is asked below
                channel.basic_publish("", name, body, properties(headers))
            deadline = time.monotonic() + SETTLE_TIMEOUT
            while channel.queue_declare(name, passive=True).method.message_count < count:
                _give_up_after(deadline, f"{queue} never held its {count} messages")

    def wait_until_empty(self, queue: str) -> None:
        """Return when no message waits and none is unacknowledged."""
        deadline = time.monotonic() + SETTLE_TIMEOUT
        nothing = (0, 0)
        while _messages(self.rabbit.queues(self.url)[queue]) != nothing:
            _give_up_after(deadline, f"{queue} did not become empty: {self.rabbit.queues(self.url)[queue]}")

    def declare_stock(self) -> None:
        """Declare queues as stock dramatiq does, because it would be refused other arguments."""
        broker = RabbitmqBroker(url=self.url, middleware=[])
        broker.declare_queue(STOCK, ensure=True)
        broker.close()

    def purge(self, queue: str) -> None:
        with self.channel() as channel:
            channel.queue_purge(broker_name(queue))

    @contextmanager
    def engine(self, service: str) -> Iterator[Engine]:
        engine = make_engine(self.database[service], name="bench")
        yield engine
        engine.dispose()


def broker_name(queue: str) -> str:
    """The queue's name in RabbitMQ: ours have a version."""
    return physical_name(queue, Kind.CLASSIC) if queue in QUEUES else queue


def properties(headers: dict[str, Any] | None = None) -> pika.BasicProperties:
    return pika.BasicProperties(
        delivery_mode=PERSISTENT,
        content_type="application/json",
        content_encoding="utf-8",
        headers=headers,
        correlation_id=(headers or {}).get("id"),
    )


def _messages(depth: QueueDepth) -> tuple[int, int]:
    return depth.ready, depth.unacked


def _give_up_after(deadline: float, what: str) -> None:
    if time.monotonic() > deadline:
        raise NotMeasured(what)
    time.sleep(0.05)


@contextmanager
def running_servers() -> Iterator[Servers]:
    """RabbitMQ and a durable PostgreSQL, prepared for the services."""
    with ExitStack() as stack:
        rabbit = stack.enter_context(rabbit_server())
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="paperprofit-bench-")))
        owner = stack.enter_context(PostgresCluster(folder / "postgres"))
        url = rabbit.new_bus(replicated=False)
        stack.callback(rabbit.delete_vhost, url)
        servers = Servers(rabbit, url, service_urls(owner))
        _prepare(servers)
        yield servers


def _prepare(servers: Servers) -> None:
    with servers.channel() as channel:
        channel.queue_declare(RAW, durable=True)
        channel.queue_declare(CELERY, durable=True)
    servers.declare_stock()
    for service in ("orders", "gateway"):
        with servers.engine(service) as engine:
            migrate_service(engine, service)


def cancel(number: int) -> CancelOrder:
    """A small command. ``number`` comes back in its order's id."""
    return CancelOrder(account_id=UUID(int=number % 1000 + 1), order_id=UUID(int=number), requested_at=AT)


def run_job(queue: str) -> bytes:
    """A message for a queue of jobs, encoded."""
    return encode(RunJob(to=service_of(queue), run_id=uuid4(), job="nothing")).body


def quiet_logs() -> None:
    """Log warnings only, and to stderr, because the results go to stdout."""
    structlog.configure(
        wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
