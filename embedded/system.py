"""All services in one process: the in-process bus, one worker, a relay per service, and the gateway."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from dramatiq import Worker
from starlette.applications import Starlette

from services.gateway import service as gateway
from services.gateway.http.auth import Key
from services.gateway.settings import Settings
from services.gateway.streams.hub import Hub
from services.marketdata.service import service as marketdata
from services.orders.service import service as orders
from services.strategy.service import service as strategy
from services.valuation.service import service as valuation
from shared.background import Background
from shared.bus.inprocess import InProcessBroker
from shared.bus.relay import Relay
from shared.bus.unit_of_work import ServiceContext
from shared.clock import Clock, utc_now
from shared.contracts.base import routing_key
from shared.contracts.routing import LIVE, QUEUES
from shared.jobs.admin.queue_control import QueueControl
from shared.jobs.engine.heartbeat import Heartbeat
from shared.jobs.engine.tick import Tick
from shared.markets import PublishedCalendar
from shared.observability.health import Checks
from shared.observability.system_log import SystemLog
from shared.service import (
    attach,
    check_job_names,
    configure_jobs,
    make_middleware,
    prepare,
)
from shared.storage.engine import make_engine

SERVICES = (marketdata, orders, valuation, strategy)
WORKER_TIMEOUT_MS = 250
#: Every commit of this process wakes its relay. The poll finds only messages that a killed process left behind.
RELAY_POLL_SECONDS = 2.0


def make_broker(contexts: dict[str, ServiceContext]) -> InProcessBroker:
    return InProcessBroker(middleware=make_middleware(contexts))


class System:
    """The parts of an embedded run. ``urls`` are the services' database URLs, each with its own role."""

    def __init__(
        self,
        urls: dict[str, str],
        settings: Settings,
        clock: Clock = utc_now,
        make_broker: Callable[[dict[str, ServiceContext]], InProcessBroker] = make_broker,
    ) -> None:
        self.settings = settings
        self.contexts = {
            name: ServiceContext(name, make_engine(url, name=name, pool_size=settings.pool_size), clock)
            for name, url in urls.items()
        }
        self.hub = Hub()
        self.keys: list[Key] = []
        self.broker = make_broker(self.contexts)
        self.worker = Worker(self.broker, worker_timeout=WORKER_TIMEOUT_MS, worker_threads=settings.threads)
        self.components: list[Background] = []
        self.heartbeats: list[Heartbeat] = []
        self.queues = QueueControl(self.contexts[gateway.NAME], lambda: [self.worker])
        self.ticked = threading.Event()

    def prepare(self) -> None:
        """Migrate each service, and write the rows that it starts with.

        Valuation follows marketdata and orders, whose views its migrations read. Raises InvalidJobsConfig.
        """
        check_job_names(SERVICES, self.settings)
        for service in SERVICES:
            jobs = configure_jobs(service, self.settings)
            prepare(service, self.contexts[service.name], jobs)
            heartbeat = attach(service, self.broker, self.contexts[service.name], jobs)
            heartbeat.jobs = list(jobs)  # this process ticks, too
            self.heartbeats.append(heartbeat)
        self.keys = gateway.prepare(self.contexts[gateway.NAME], self.settings)
        self.broker.listen([routing_key(message, message.service) for message in LIVE], self.hub.receive)

    @contextmanager
    def running(self, *, feeds: bool = True) -> Iterator[None]:
        """Run consumers and relays and, with ``feeds``, the services' own components and the gateway's watchers."""
        gateway_context = self.contexts[gateway.NAME]
        relays = [Relay(context, self.broker, poll=RELAY_POLL_SECONDS) for context in self.contexts.values()]
        self.components = [SystemLog(gateway_context), *relays, *self.heartbeats, self.queues]
        if feeds:
            self.components += gateway.watchers(gateway_context, self.settings, self.broker.queue_stats)
            self.components += [
                part for service in SERVICES for part in service.components(self.contexts[service.name])
            ]
        with ExitStack() as stack:
            for context in self.contexts.values():
                stack.callback(context.engine.dispose)
            for heartbeat in self.heartbeats:  # before the first tick, which retires jobs that nobody declares
                heartbeat.beat()
            self.worker.start()
            stack.callback(self.worker.stop, timeout=2000)
            for component in self.components:
                component.start()
                stack.callback(component.stop)
            for component in self.components:  # all are asked to end before one is waited for
                stack.callback(component.stopping.set)
            yield

    def app(self) -> Starlette:
        """The gateway's application."""

        def checks() -> Checks:
            return {
                "consumers": set(QUEUES) <= self.broker.attached | self.queues.paused,
                "threads": all(t.is_alive() for t in self.worker.workers) and all(c.alive for c in self.components),
                "scheduler": self.ticked.is_set(),
            }

        return gateway.build_app(self.contexts[gateway.NAME], self.hub, self.settings, checks, self.broker.queue_stats)

    def ticks(self, each: Callable[[], None] = lambda: None) -> list[Tick]:
        """The services' ticks. ``each`` is called with every one of them."""

        def ticked(answered: bool) -> None:
            if answered:
                self.ticked.set()
            else:
                self.ticked.clear()
            each()

        contexts = [self.contexts[service.name] for service in SERVICES]
        return [Tick(context, PublishedCalendar(context.engine, context.clock), ticked) for context in contexts]
