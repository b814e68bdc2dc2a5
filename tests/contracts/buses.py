"""One interface for both buses, and actors that record their messages."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol
from uuid import uuid4

import dramatiq
import pika
import pika.exceptions
from dramatiq import Worker

from shared.bus.actors import Actors
from shared.bus.amqp.broker import ServiceBroker
from shared.bus.amqp.topology import Kind, physical_name
from shared.bus.inprocess import InProcessBroker
from shared.bus.relay import Relay, Sender
from shared.bus.unit_of_work import ServiceContext, UnitOfWork
from shared.contracts.prices import PricesUpdated
from shared.contracts.routing import consumed_by
from shared.service import make_middleware
from tests.support import account


class Bus(Protocol):
    """A bus for tests: services' contexts to send from, relays, and workers for the actors of services."""

    contexts: dict[str, ServiceContext]

    def start(self, **actors: Actors) -> None:
        """Start the relays of all services, and workers for the services that have actors."""

    def add(self, **actors: Actors) -> None:
        """Start a service later."""

    def waiting(self, queue: str) -> int:
        """Messages in the queue that no consumer has taken."""

    def stop(self) -> None: ...


@dataclass
class _Common:
    contexts: dict[str, ServiceContext]
    running: list[Any] = field(default_factory=list)

    def stop(self) -> None:
        for part in reversed(self.running):
            part()

    def _work(self, broker: dramatiq.Broker, queues: set[str]) -> None:
        worker = Worker(broker, queues=queues, worker_timeout=50, worker_threads=4)
        worker.start()
        self.running.append(worker.stop)

    def _relay(self, context: ServiceContext, sender: Sender) -> None:
        relay = Relay(context, sender, poll=0.1)
        relay.start()
        self.running.append(relay.stop)


@dataclass
class InProcessBus(_Common):
    broker: InProcessBroker = field(init=False)

    def start(self, **actors: Actors) -> None:
        self.broker = InProcessBroker(middleware=make_middleware(self.contexts))
        for context in self.contexts.values():
            self._relay(context, self.broker)
        self.add(**actors)

    def add(self, **actors: Actors) -> None:
        for service, declared in actors.items():
            declared.attach(self.broker, self.contexts[service])
            self._work(self.broker, set(consumed_by(service)))

    def waiting(self, queue: str) -> int:
        return sum(each.ready for each in self.broker.queue_stats() if each.queue == queue)


@dataclass
class RabbitBus(_Common):
    url: str = ""
    brokers: dict[str, ServiceBroker] = field(default_factory=dict)

    def start(self, **actors: Actors) -> None:
        for service, context in self.contexts.items():
            broker = ServiceBroker(self.url, service=service, middleware=make_middleware({service: context}))
            self.brokers[service] = broker
            self.running.append(broker.close)
            self._relay(context, broker.publisher)
        self.add(**actors)

    def add(self, **actors: Actors) -> None:
        for service, declared in actors.items():
            declared.attach(self.brokers[service], self.contexts[service])
            self._work(self.brokers[service], set(consumed_by(service)))

    def waiting(self, queue: str) -> int:
        for kind in Kind:
            with pika.BlockingConnection(pika.URLParameters(self.url)) as connection:
                try:
                    declared = connection.channel().queue_declare(physical_name(queue, kind), passive=True)
                except pika.exceptions.ChannelClosedByBroker:
                    continue
                return int(declared.method.message_count)
        raise LookupError(queue)


@dataclass
class Seen:
    """The messages of handlers by queue. Worker threads may share it."""

    messages: dict[str, list[Any]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def record(self, queue: str, message: object) -> None:
        with self.lock:
            self.messages.setdefault(queue, []).append(message)

    def count(self, queue: str) -> int:
        return len(self.messages.get(queue, []))


def recording(
    seen: Seen, queue: str, fail: Callable[[int], Exception | None] = lambda _: None, *, begins: bool = False
) -> Actors:
    """Actors of one queue that record prices, and raise the error that ``fail`` returns for the n-th call."""
    actors = Actors()
    calls = iter(range(1, 1000))

    @actors.on(PricesUpdated, queue=queue, begins=begins)
    def record(event: PricesUpdated, uow: UnitOfWork) -> None:
        uow.begin(("SELECT 1 AS asked", {}))
        error = fail(next(calls))
        if error is not None:
            raise error
        seen.record(queue, event)
        uow.publish(account(uuid4()))

    return actors
