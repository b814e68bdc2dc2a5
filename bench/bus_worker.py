"""One consuming process: ``python -m bench.bus_worker KIND SETTINGS``, the settings as JSON.

It says ``ready`` once it has imported and connected, begins at a line on its standard input, and at the next one
ends and writes when each message's handler began (CLOCK_MONOTONIC, which all processes share) and its number.
"""

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any
from uuid import UUID

import dramatiq
import psycopg
from dramatiq.brokers.rabbitmq import RabbitmqBroker
from dramatiq.middleware import AgeLimit, CurrentMessage, Retries, ShutdownNotifications, TimeLimit
from sqlalchemy import make_url

from bench.bus_pika import Handled, Settings, Stop, start_pika
from bench.bus_servers import LOW_ELSEWHERE, LOW_OF_OURS, OURS, STOCK, quiet_logs
from bench.wire_raw import start_bare, start_rows
from shared.bus.actors import Actors
from shared.bus.amqp.broker import ServiceBroker
from shared.bus.amqp.worker_pools import BackgroundPool
from shared.bus.unit_of_work import ServiceContext, UnitOfWork
from shared.contracts.jobs import RunJob
from shared.contracts.orders import CancelOrder
from shared.service import make_middleware
from shared.settings import ServiceSettings
from shared.storage.engine import make_engine

#: As ``shared.worker`` sets it.
WORKER_TIMEOUT_MS = 100
SHUTDOWN_MS = 10_000


def start_raw(settings: Settings, handled: list[Handled]) -> Stop:
    """Open a connection for each thread, and acknowledge every message by itself."""
    return start_pika(settings, lambda: lambda body: handled.append((time.monotonic(), body)))


def start_raw_insert(settings: Settings, handled: list[Handled]) -> Stop:
    """Open a connection and a database session for each thread: an INSERT and commit, then the ack."""
    database = make_url(settings.database).set(drivername="postgresql").render_as_string(hide_password=False)

    def make_handler() -> Callable[[bytes], None]:
        session = psycopg.connect(database)

        def handle(body: bytes) -> None:
            handled.append((time.monotonic(), body))
            session.execute(_INSERT, (json.loads(body)["message_id"],))
            session.commit()

        return handle

    return start_pika(settings, make_handler)


_INSERT = (
    "INSERT INTO orders.inbox (consumer, message_id, processed_at) VALUES ('raw', %s, now()) ON CONFLICT DO NOTHING"
)


def start_stock(settings: Settings, handled: list[Handled]) -> Stop:
    """Start stock dramatiq, without the middleware that serves nothing here."""
    middleware = [AgeLimit(), TimeLimit(), ShutdownNotifications(), CurrentMessage(), Retries()]
    broker = RabbitmqBroker(url=settings.url, middleware=middleware)

    def note(**payload: Any) -> None:
        handled.append((time.monotonic(), payload["order_id"]))

    declare = dramatiq.actor(broker=broker, actor_name="note", queue_name=STOCK)
    declare(note)
    return _start_worker(broker, STOCK, settings.threads)


def start_ours(settings: Settings, handled: list[Handled]) -> Stop:
    """Start an actor without a transaction, which shows the cost of the bus alone."""
    actors = Actors()

    @actors.raw(CancelOrder, queue=OURS)
    def note(command: CancelOrder, _context: ServiceContext) -> None:
        handled.append((time.monotonic(), str(command.order_id)))

    return _start_service(settings, actors)


def start_ours_inbox(settings: Settings, handled: list[Handled]) -> Stop:
    """Start an actor whose inbox row is the only row of its transaction."""
    actors = Actors()

    @actors.on(CancelOrder, queue=OURS)
    def note(command: CancelOrder, _uow: UnitOfWork) -> None:
        handled.append((time.monotonic(), str(command.order_id)))

    return _start_service(settings, actors)


def start_ours_pools(settings: Settings, handled: list[Handled]) -> Stop:
    """Start the two worker pools of orders as deployed, for commands and for jobs that do nothing."""
    actors = Actors()

    @actors.raw(CancelOrder, queue=OURS)
    def note(command: CancelOrder, _context: ServiceContext) -> None:
        handled.append((time.monotonic(), str(command.order_id)))

    @actors.raw(RunJob, queue=LOW_OF_OURS)
    def nothing(_command: RunJob, _context: ServiceContext) -> None: ...

    pool = BackgroundPool(
        [LOW_OF_OURS],
        threads=ServiceSettings.model_fields["background_threads"].default,
        timeout_ms=WORKER_TIMEOUT_MS,
        shutdown_ms=SHUTDOWN_MS,
    )
    return _start_service(settings, actors, pool)


def start_low(settings: Settings, _handled: list[Handled]) -> Stop:
    """Start another service, whose jobs do nothing."""
    actors = Actors()

    @actors.raw(RunJob, queue=LOW_ELSEWHERE)
    def nothing(_command: RunJob, _context: ServiceContext) -> None: ...

    context = ServiceContext("strategy", make_engine(settings.database, name="strategy"))
    broker = ServiceBroker(settings.url, service="strategy", middleware=make_middleware({"strategy": context}))
    actors.attach(broker, context)
    return _start_worker(broker, LOW_ELSEWHERE, settings.threads)


def _start_service(settings: Settings, actors: Actors, *middleware: dramatiq.Middleware) -> Stop:
    context = ServiceContext("orders", make_engine(settings.database, name="orders", pool_size=settings.threads))
    broker = ServiceBroker(
        settings.url, service="orders", middleware=[*make_middleware({"orders": context}), *middleware]
    )
    actors.attach(broker, context)
    return _start_worker(broker, OURS, settings.threads)


def _start_worker(broker: dramatiq.Broker, queue: str, threads: int) -> Stop:
    worker = dramatiq.Worker(broker, queues={queue}, worker_threads=threads, worker_timeout=WORKER_TIMEOUT_MS)
    worker.start()

    def stop() -> None:
        worker.stop()
        broker.close()

    return stop


KINDS: dict[str, Callable[[Settings, list[Handled]], Stop]] = {
    "raw": start_raw,
    "raw-insert": start_raw_insert,
    "stock": start_stock,
    "ours": start_ours,
    "ours-inbox": start_ours_inbox,
    "ours-pools": start_ours_pools,
    "low": start_low,
    "raw-fill": start_bare,
    "raw-rows": start_rows,
}


def main(kind: str, settings: Settings) -> None:
    quiet_logs()
    handled: list[Handled] = []
    start = partial(KINDS[kind], settings, handled)
    print("ready", flush=True)
    sys.stdin.readline()
    stop = start()
    sys.stdin.readline()
    stop()
    json.dump([(at, number_of(what)) for at, what in handled], sys.stdout)


def number_of(what: str | bytes) -> int:
    """The number of a message, from its order's id or its bytes."""
    return UUID(what if isinstance(what, str) else json.loads(what)["kwargs"]["order_id"]).int


if __name__ == "__main__":
    main(sys.argv[1], Settings(**json.loads(sys.argv[2])))
