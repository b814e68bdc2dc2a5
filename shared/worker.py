"""Run one service as it is deployed: the dramatiq CLI with its actors, and the scheduler as its fork.

    python -m services.orders

prepares the database, then replaces itself with dramatiq. Each worker process builds its own broker, engine and relay.
Every replica also runs the scheduler, and the unique slot of a run lets one of them win. dramatiq does not watch its
forks, so each worker watches the scheduler's heartbeat, and ends the replica when it stops.
"""

import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from threading import Event, Thread

import dramatiq
import structlog

from shared.background import Background
from shared.bus.amqp.broker import ServiceBroker
from shared.bus.amqp.worker_pools import BackgroundPool
from shared.bus.notify import NotificationListener
from shared.bus.relay import Relay
from shared.bus.unit_of_work import ServiceContext
from shared.contracts.routing import consumed_by, worker_pools_of
from shared.jobs.admin.queue_control import QueueControl
from shared.jobs.config import InvalidJobsConfig
from shared.jobs.engine.heartbeat import Heartbeat
from shared.jobs.engine.tick import Tick, run_scheduler
from shared.markets import PublishedCalendar
from shared.observability.health import (
    is_fresh,
    read_heartbeat,
    replica_health,
    run_folder,
    serve_health,
    write_heartbeat,
)
from shared.observability.logs import configure_logs
from shared.observability.metrics import exposition
from shared.observability.system_log import SystemLog
from shared.service import (
    DatabaseUnavailable,
    Service,
    attach,
    configure_jobs,
    make_context,
    make_middleware,
    prepare,
    wait_for_database,
)
from shared.settings import InvalidSettings, ServiceSettings, load
from shared.storage.migrate import DatabaseTooOld

log = structlog.get_logger(__name__)

POLL_SECONDS = 0.1
SHUTDOWN_MS = 25_000
WORKER_TIMEOUT_MS = 100
DATABASE_WAIT_SECONDS = 60
#: The scheduler is forked after the workers are up and imports everything again, which takes long on a busy machine.
SCHEDULER_START_SECONDS = 60
#: Connections for the tick, the trading sessions that it reads, its heartbeat, and a scrape.
SCHEDULER_POOL_SIZE = 4


def main(service: Service, *, module: str | None = None) -> None:
    """Prepare the service, then become dramatiq. Exits with one line where something is wrong.

    ``module`` has the ``worker`` and ``scheduler`` of the processes, by default ``services.<name>.__main__``.
    """
    try:
        settings = _prepare(service)
    except (InvalidSettings, InvalidJobsConfig, DatabaseUnavailable, DatabaseTooOld) as error:
        sys.exit(f"{service.name}: {error}")
    module = module or f"services.{service.name}.__main__"
    command = [
        sys.executable, "-m", "dramatiq", f"{module}:worker",
        "--processes", str(settings.processes), "--threads", str(settings.threads),
        "--queues", *worker_pools_of(service.name)[0],
        "--fork-function", f"{module}:scheduler",
        "--worker-shutdown-timeout", str(SHUTDOWN_MS),
        "--skip-logging",
    ]  # fmt: skip
    os.environ["PAPERPROFIT_RUN_DIR"] = tempfile.mkdtemp(prefix=f"paperprofit-{service.name}-")
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = os.environ["PAPERPROFIT_RUN_DIR"]
    os.environ["dramatiq_queue_prefetch"] = str(settings.prefetch)  # noqa: SIM112 - dramatiq's own names
    os.environ["dramatiq_restart_delay"] = "500"  # noqa: SIM112
    os.environ["dramatiq_worker_timeout"] = str(WORKER_TIMEOUT_MS)  # noqa: SIM112
    os.execv(sys.executable, command)  # noqa: S606 - our own interpreter


def _prepare(service: Service) -> ServiceSettings:
    """Check the settings and prepare the database, before any worker starts.

    Raises InvalidSettings, InvalidJobsConfig, DatabaseUnavailable or DatabaseTooOld.
    """
    settings = load(ServiceSettings)
    service.check_settings()
    jobs = configure_jobs(service, settings)
    configure_logs(settings)
    context = make_context(service.name, settings)
    wait_for_database(context, seconds=DATABASE_WAIT_SECONDS)
    prepare(service, context, jobs, seconds=DATABASE_WAIT_SECONDS)
    context.engine.dispose()
    return settings


def worker(service: Service) -> None:
    """Set up one worker process. The dramatiq CLI calls it."""
    settings = ServiceSettings()
    configure_logs(settings)
    context = make_context(service.name, settings)
    broker = ServiceBroker(
        settings.rabbitmq_url.get_secret_value(),
        service=service.name,
        middleware=make_middleware({service.name: context}),
    )
    heartbeat = attach(service, broker, context, configure_jobs(service, settings))
    relay = Relay(context, broker.publisher, poll=POLL_SECONDS)
    pool = BackgroundPool(
        worker_pools_of(service.name)[1],
        threads=settings.background_threads,
        timeout_ms=WORKER_TIMEOUT_MS,
        shutdown_ms=SHUTDOWN_MS,
    )
    workers: list[dramatiq.Worker] = []
    control = QueueControl(context, lambda: workers)
    components = [
        SystemLog(context),
        relay,
        NotificationListener(context),
        heartbeat,
        control,
        *service.components(context),
    ]
    replica_watch = ReplicaWatch(service.name, broker, context, components, pool, control)
    broker.add_middleware(Components(components, replica_watch, pool, workers, heartbeat))
    broker.add_middleware(pool)
    dramatiq.set_broker(broker)


class Components(dramatiq.Middleware):
    """Starts the process's background threads with its worker, and stops them after the last actor has finished."""

    def __init__(
        self,
        components: Sequence[Background],
        replica_watch: "ReplicaWatch",
        pool: BackgroundPool,
        workers: list[dramatiq.Worker],
        heartbeat: Heartbeat,
    ) -> None:
        self.components = components
        self.replica_watch = replica_watch
        self.pool = pool
        self.workers = workers
        self.heartbeat = heartbeat

    def after_worker_boot(self, _broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:
        self.workers.append(worker)
        if self.pool.runs(worker):
            return
        for component in self.components:
            component.start()
        self.replica_watch.threads = worker.workers
        self.replica_watch.start()

    def before_worker_shutdown(self, _broker: dramatiq.Broker, _worker: dramatiq.Worker) -> None:
        self.replica_watch.draining.set()
        self.heartbeat.interrupt()

    def after_worker_shutdown(self, _broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:
        if self.pool.runs(worker):
            return
        for component in (self.replica_watch, *reversed(self.components)):
            component.stop()


class ReplicaWatch(Background):
    """Writes the health of this process once a second, and ends the replica where its scheduler has stopped.

    The scheduler ends at once when the replica is told to end, so nobody waits for it while the worker is ``draining``.
    """

    def __init__(
        self,
        service: str,
        broker: ServiceBroker,
        context: ServiceContext,
        components: Sequence[Background],
        pool: BackgroundPool,
        control: QueueControl,
    ) -> None:
        super().__init__("replica-watch")
        self._queues = consumed_by(service)
        self._broker = broker
        self._context = context
        self._components = components
        self._pool = pool
        self._control = control
        self.threads: Sequence[Thread] = ()
        self.draining = Event()
        self._folder = run_folder()
        self._expected = time.time() + SCHEDULER_START_SECONDS

    def run(self) -> None:
        while not self.stopping.wait(1.0):
            self.watch_scheduler()  # first, because a database that does not answer delays this loop
            threads = (*self.threads, *self._pool.workers)
            write_heartbeat(
                self._folder,
                f"worker-{os.getpid()}",
                consumers={q: q in self._broker.attached or q in self._control.paused for q in self._queues},
                threads=all(t.is_alive() for t in threads) and all(each.alive for each in self._components),
                broker=self._broker.publisher.connected.is_set(),
                database=self._context.database_answers(),
            )

    def watch_scheduler(self) -> None:
        """End the replica where the scheduler's heartbeat is too old, so that it is restarted."""
        heartbeat = read_heartbeat(self._folder / "scheduler.json")
        if self.draining.is_set() or is_fresh(heartbeat["at"] or self._expected):
            return
        log.critical("the scheduler has stopped: ending this replica so that it is restarted")
        self.stopping.set()
        if "pid" in heartbeat:  # a scheduler that hangs ignores other signals, and its parent would wait for it
            with suppress(ProcessLookupError):
                os.kill(heartbeat["pid"], signal.SIGKILL)
        os.kill(os.getppid(), signal.SIGTERM)


def scheduler(service: Service) -> int:
    """Run the replica's scheduler on the main thread and its health endpoint on another; the exit code."""
    settings = ServiceSettings()
    configure_logs(settings)
    folder = run_folder()
    context = make_context(service.name, settings.model_copy(update={"pool_size": SCHEDULER_POOL_SIZE}))
    serve_health(
        settings.health_host,
        settings.health_port,
        lambda: replica_health(folder, settings.processes),
        lambda: exposition(context),
    )
    ticked_at = 0.0

    def after_tick(ticked: bool) -> None:
        nonlocal ticked_at
        ticked_at = time.time() if ticked else ticked_at
        write_heartbeat(folder, "scheduler", ticked_at=ticked_at, pid=os.getpid())

    components = (SystemLog(context), Heartbeat(context, kind="scheduler"))
    for each in components:
        each.start()
    try:
        run_scheduler([Tick(context, PublishedCalendar(context.engine, context.clock), after_tick)])
    finally:  # dramatiq's forks turn SIGTERM into SystemExit
        for each in reversed(components):
            each.stop()
    return 0
