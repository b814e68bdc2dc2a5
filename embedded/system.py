"""All services in one process: the in-process bus, one worker, a relay per service, and the gateway."""

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from dramatiq import Worker
from starlette.applications import Starlette

from services.gateway import service as gateway
from services.gateway.http.auth import Key
from services.gateway.settings import Settings
from services.gateway.streams.hub import Live
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
from shared.jobs.engine.tick import Tick
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
#: Every commit of this process wakes its relay; the poll finds only what a killed process left behind.
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
        self.live = Live()
        self.keys: list[Key] = []
        self.broker = make_broker(self.contexts)
        self.worker = Worker(self.broker, worker_timeout=WORKER_TIMEOUT_MS, worker_threads=settings.threads)
        self.components: list[Background] = []
        self.pulses: list[Background] = []
        self.queues = QueueControl(self.contexts[gateway.NAME], lambda: [self.worker])
        self.ticked = threading.Event()

    def prepare(self) -> None:
        """Migrate, and write what each service needs to begin."""
        check_job_names(SERVICES, self.settings)
        for service in SERVICES:
            jobs = configure_jobs(service, self.settings)
            prepare(service, self.contexts[service.name], jobs)
            self.pulses.append(attach(service, self.broker, self.contexts[service.name], jobs))
        self.keys = gateway.prepare(self.contexts[gateway.NAME], self.settings)
        self.broker.listen([routing_key(message, message.service) for message in LIVE], self.live.on_message)

    @contextmanager
    def running(self, *, feeds: bool = True) -> Iterator[None]:
        """Consumers, relays and, unless told otherwise, what the services run beside them."""
        with ExitStack() as stack:
            stack.callback(self._dispose)
            self.worker.start()
            stack.callback(self.worker.stop, timeout=2000)
            self.components = self._components(feeds=feeds)
            for component in self.components:
                component.start()
                stack.callback(component.stop)
            stack.callback(self._ask_to_end)
            yield

    def _components(self, *, feeds: bool) -> list[Background]:
        relays: list[Background] = [
            Relay(context, self.broker, poll=RELAY_POLL_SECONDS) for context in self.contexts.values()
        ]
        context = self.contexts[gateway.NAME]
        found = [SystemLog(context), *relays, *self.pulses, self.queues]
        if feeds:
            found += gateway.watchers(context, self.settings, self.broker.queue_figures)
            found += [part for service in SERVICES for part in service.components(self.contexts[service.name])]
        return found

    def _ask_to_end(self) -> None:
        """All at once, so that none waits for the one that is stopped before it."""
        for component in self.components:
            component.stopping.set()

    def _dispose(self) -> None:
        for context in self.contexts.values():
            context.engine.dispose()

    def app(self) -> Starlette:
        return gateway.build_app(
            self.contexts[gateway.NAME], self.live, self.settings, self._checks, self.broker.queue_figures
        )

    def _checks(self) -> dict[str, bool]:
        return {
            "consumers": set(QUEUES) <= self.broker.attached | self.queues.paused,
            "threads": all(t.is_alive() for t in self.worker.workers) and all(c.alive for c in self.components),
            "scheduler": self.ticked.is_set(),
        }

    def ticks(self, each: Callable[[], None] = lambda: None) -> list[Tick]:
        """The services' ticks. ``each`` is called with every one of them."""

        def woke(answered: bool) -> None:
            self._woke(answered)
            each()

        return [Tick(self.contexts[service.name], woke) for service in SERVICES]

    def _woke(self, answered: bool) -> None:
        if answered:
            self.ticked.set()
        else:
            self.ticked.clear()
