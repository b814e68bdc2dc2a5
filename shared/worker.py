"""Running one service as it is deployed: the dramatiq CLI with its actors, and its scheduler as a fork.

    python -m services.orders

prepares the database, then replaces itself with dramatiq. Each worker process builds its own broker, engine
and relay. Every replica also runs the scheduler; the unique slot lets one of them win. dramatiq does not
watch its forks, so each worker watches the scheduler's beat, and ends the replica when it stays away.
"""

import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Thread

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
from shared.observability.health import is_fresh, read_beat, replica_health, run_folder, serve_health, write_beat
from shared.observability.logs import configure_logs
from shared.observability.metrics import exposition
from shared.observability.system_log import SystemLog
from shared.service import (
    DatabaseAway,
    Service,
    attach,
    configure_jobs,
    make_context,
    make_middleware,
    prepare,
    wait_for_database,
)
from shared.settings import InvalidSettings, ServiceSettings, load

log = structlog.get_logger(__name__)

POLL_SECONDS = 0.1
SHUTDOWN_MS = 25_000
WORKER_TIMEOUT_MS = 100
DATABASE_WAIT_SECONDS = 60
#: The scheduler is forked after the workers are up and imports everything anew: on a busy machine, slowly.
SCHEDULER_START_SECONDS = 60
#: For the tick, the sessions that it looks up, its heartbeat, and a scrape.
SCHEDULER_POOL_SIZE = 4


def main(service: Service, *, module: str | None = None) -> None:
    """Entry point of ``python -m services.<name>``; another ``module`` with a ``worker`` and ``scheduler`` says so."""
    try:
        settings = _prepare(service)
    except (InvalidSettings, InvalidJobsConfig, DatabaseAway) as error:
        sys.exit(f"{service.name}: {error}")
    os.environ["PAPERPROFIT_RUN_DIR"] = tempfile.mkdtemp(prefix=f"paperprofit-{service.name}-")
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = os.environ["PAPERPROFIT_RUN_DIR"]
    os.environ["dramatiq_queue_prefetch"] = str(settings.prefetch)  # noqa: SIM112 - dramatiq's own names
    os.environ["dramatiq_restart_delay"] = "500"  # noqa: SIM112
    os.environ["dramatiq_worker_timeout"] = str(WORKER_TIMEOUT_MS)  # noqa: SIM112
    os.execv(sys.executable, _command(service, settings, module or f"services.{service.name}.__main__"))  # noqa: S606 - our own interpreter


def _prepare(service: Service) -> ServiceSettings:
    """Everything that can be wrong is told before a worker starts; then the database is made ready."""
    settings = load(ServiceSettings)
    service.check_settings()
    jobs = configure_jobs(service, settings)
    configure_logs(settings)
    context = make_context(service.name, settings)
    wait_for_database(context, seconds=DATABASE_WAIT_SECONDS)
    prepare(service, context, jobs, seconds=DATABASE_WAIT_SECONDS)
    context.engine.dispose()
    return settings


def _command(service: Service, settings: ServiceSettings, module: str) -> list[str]:
    return [
        sys.executable, "-m", "dramatiq", f"{module}:worker",
        "--processes", str(settings.processes), "--threads", str(settings.threads),
        "--queues", *worker_pools_of(service.name)[0],
        "--fork-function", f"{module}:scheduler",
        "--worker-shutdown-timeout", str(SHUTDOWN_MS),
        "--skip-logging",
    ]  # fmt: skip


def worker(service: Service) -> None:
    """Set up one worker process; called by the dramatiq CLI."""
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
    beside = [
        SystemLog(context),
        relay,
        NotificationListener(context),
        heartbeat,
        control,
        *service.components(context),
    ]
    replica_watch = _ReplicaWatch(service.name, broker, context, beside, pool, control)
    broker.add_middleware(_Components(beside, replica_watch, pool, workers, heartbeat))
    broker.add_middleware(pool)
    dramatiq.set_broker(broker)


class _Components(dramatiq.Middleware):
    """Starts what runs beside the actors with the worker, and stops it after the last actor has finished."""

    def __init__(
        self,
        components: Sequence[Background],
        replica_watch: "_ReplicaWatch",
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
        self.heartbeat.interrupt()

    def after_worker_shutdown(self, _broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:
        if self.pool.runs(worker):
            return
        for component in (self.replica_watch, *reversed(self.components)):
            component.stop()


class _ReplicaWatch(Background):
    """Says once a second what works in this process, and ends the replica when its scheduler is gone."""

    def __init__(
        self,
        service: str,
        broker: ServiceBroker,
        context: ServiceContext,
        beside: Sequence[Background],
        pool: BackgroundPool,
        control: QueueControl,
    ) -> None:
        super().__init__("heartbeat")
        self._queues = consumed_by(service)
        self._broker = broker
        self._context = context
        self._beside = beside
        self._pool = pool
        self._control = control
        self.threads: Sequence[Thread] = ()
        self._folder = run_folder()
        self._expected = time.time() + SCHEDULER_START_SECONDS

    def run(self) -> None:
        while not self.stopping.wait(1.0):
            self._watch_scheduler()  # before the database, which may keep us waiting, and the scheduler too
            write_beat(
                self._folder,
                f"worker-{os.getpid()}",
                consumers={q: q in self._broker.attached or q in self._control.paused for q in self._queues},
                threads=all(t.is_alive() for t in (*self.threads, *self._pool.workers))
                and all(part.alive for part in self._beside),
                broker=self._broker.publisher.connected.is_set(),
                database=self._context.answers(),
            )

    def _watch_scheduler(self) -> None:
        beat = read_beat(self._folder / "scheduler.json")
        if not is_fresh(beat["at"] or self._expected):
            log.critical("the scheduler is gone; ending this replica so that it is started anew")
            self.stopping.set()
            if "pid" in beat:  # one that hangs would not end by a signal it can handle, nor would its parent
                with suppress(ProcessLookupError):
                    os.kill(beat["pid"], signal.SIGKILL)
            os.kill(os.getppid(), signal.SIGTERM)


def scheduler(service: Service) -> int:
    """The fork: periodiq on the main thread, the replica's health on another."""
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
    beside = (SystemLog(context), Heartbeat(context, kind="scheduler"))
    for part in beside:
        part.start()
    try:
        run_scheduler([Tick(context, _beat_writer(folder))])
    finally:  # dramatiq's forks turn SIGTERM into SystemExit
        for part in reversed(beside):
            part.stop()
    return 0


def _beat_writer(folder: Path) -> Callable[[bool], None]:
    ticked_at = 0.0

    def woke(ticked: bool) -> None:
        nonlocal ticked_at
        ticked_at = time.time() if ticked else ticked_at
        write_beat(folder, "scheduler", ticked_at=ticked_at, pid=os.getpid())

    return woke
