"""An urgent message does not wait behind the backlog of its service's other queues."""

import threading
from uuid import uuid4

import pika
import pytest
from dramatiq import Worker

from shared.bus.actors import Actors
from shared.bus.amqp.broker import ServiceBroker
from shared.bus.amqp.worker_pools import BackgroundPool
from shared.bus.envelope import encode
from shared.bus.unit_of_work import ServiceContext, UnitOfWork
from shared.contracts.accounts import OpenAccount
from shared.contracts.jobs import RunJob
from shared.contracts.routing import WORKERS, consumed_by, worker_pools_of
from tests.support import account

BACKLOG = 2000


def fill(url: str, count: int) -> None:
    body = encode(RunJob(to="orders", run_id=uuid4(), job="slow")).body
    with pika.BlockingConnection(pika.URLParameters(url)) as connection:
        channel = connection.channel()
        for _ in range(count):
            channel.basic_publish("orders.internal", "orders.jobs", body)


def test_a_command_overtakes_a_backlog_of_jobs(vhost: str, orders: ServiceContext, broker: ServiceBroker) -> None:
    """Every job holds its thread until the command is handled. With one pool, the command would never be."""
    handled, began = threading.Event(), threading.Semaphore(0)
    actors = Actors()

    @actors.raw(RunJob, queue="orders.jobs")
    def slow(_command: RunJob, _context: ServiceContext) -> None:
        began.release()
        handled.wait(30)

    @actors.on(OpenAccount, queue="orders.commands")
    def handle(_command: OpenAccount, _uow: UnitOfWork) -> None:
        handled.set()

    actors.attach(broker, orders)
    fill(vhost, BACKLOG)
    urgent, rest = worker_pools_of("orders")
    pool = BackgroundPool(rest, threads=2, timeout_ms=50, shutdown_ms=10_000)
    broker.add_middleware(pool)
    worker = Worker(broker, queues=set(urgent), worker_timeout=50, worker_threads=2)
    worker.start()
    assert began.acquire(timeout=20)
    assert began.acquire(timeout=20)  # both background threads are held
    broker.publisher.send(encode(account(uuid4()))).result(10)
    assert handled.wait(20)
    threads = [*worker.workers, *pool.workers]
    worker.stop(10_000)
    assert not any(thread.is_alive() for thread in threads)


@pytest.mark.parametrize("service", WORKERS)
def test_every_queue_is_in_one_pool(service: str) -> None:
    """Each queue is consumed once. Only orders has urgent queues."""
    urgent, rest = worker_pools_of(service)
    assert sorted([*urgent, *rest]) == sorted(consumed_by(service))
    assert bool(rest) == (service == "orders")
