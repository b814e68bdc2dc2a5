"""Run one service as it is deployed: the dramatiq CLI with its actors, and the scheduler as its fork.

    python -m services.orders

prepares the database, then replaces itself with dramatiq. Each worker process builds its own broker, engine and relay.
Every replica also runs the scheduler, and the unique slot of a run lets one of them win. The processes of a replica
watch each other (``replica_watch``).
"""

import os
import sys
import tempfile
from collections.abc import Sequence
from threading import Timer

import dramatiq

from shared.background import Background
from shared.bus.amqp.broker import ServiceBroker
from shared.bus.amqp.worker_pools import BackgroundPool
from shared.bus.notify import NotificationListener
from shared.bus.relay import Relay
from shared.contracts.routing import worker_pools_of
from shared.jobs.admin.queue_control import QueueControl
from shared.jobs.config import InvalidJobsConfig
from shared.jobs.engine.heartbeat import Heartbeat
from shared.jobs.engine.tick import Tick, run_scheduler
from shared.markets import PublishedCalendar
from shared.observability.health import replica_probes, run_folder, serve_health
from shared.observability.logs import configure_logs
from shared.observability.metrics import exposition
from shared.observability.progress import ProgressMonitor
from shared.observability.system_log import SystemLog
from shared.replica_watch import DatabaseProbe, ReplicaWatch, SchedulerWatch
from shared.service import (
    DatabaseUnavailable,
    Service,
    attach,
    configure_jobs,
    make_context,
    make_middleware,
    prepare,
    wait_for_database,
    wait_for_parents,
)
from shared.settings import InvalidSettings, ServiceSettings, load
from shared.storage.engine import PoolerRefused
from shared.storage.migrate import DatabaseTooOld

POLL_SECONDS = 0.1
SHUTDOWN_MS = 25_000
WORKER_TIMEOUT_MS = 100
DATABASE_WAIT_SECONDS = 60
#: A worker process that has not ended in good order by then is ended hard, before an orchestrator kills its container.
ENDED_SECONDS = 28.0
#: The exit code of a worker process whose replica a watcher has ended.
FAILED = 1
#: Connections for the tick, the trading sessions that it reads, its heartbeat, the probe, progress, the log, a scrape.
SCHEDULER_POOL_SIZE = 7


def main(service: Service, *, module: str | None = None) -> None:
    """Prepare the service, then become dramatiq. Exits with one line where something is wrong.

    ``module`` has the ``worker`` and ``scheduler`` of the processes, by default ``services.<name>.__main__``.
    """
    try:
        settings = _prepare(service)
    except (InvalidSettings, InvalidJobsConfig, DatabaseUnavailable, DatabaseTooOld, PoolerRefused) as error:
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

    Raises InvalidSettings, InvalidJobsConfig, DatabaseUnavailable, DatabaseTooOld or PoolerRefused.
    """
    settings = load(ServiceSettings)
    service.check_settings()
    jobs = configure_jobs(service, settings)
    configure_logs(settings)
    context = make_context(service.name, settings)
    wait_for_database(context, seconds=DATABASE_WAIT_SECONDS)
    prepare(service, context, jobs, seconds=DATABASE_WAIT_SECONDS)
    wait_for_parents(context, jobs, seconds=DATABASE_WAIT_SECONDS)
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
    probe = DatabaseProbe(context)
    components = [
        SystemLog(context),
        probe,
        relay,
        NotificationListener(context),
        heartbeat,
        control,
        *service.components(context),
    ]
    replica_watch = ReplicaWatch(service.name, broker, probe, components, pool, control)
    broker.add_middleware(Components(components, replica_watch, pool, workers, heartbeat))
    broker.add_middleware(pool)
    dramatiq.set_broker(broker)


class Components(dramatiq.Middleware):
    """Starts the process's background threads with its worker, and stops them after the last actor has finished.

    The process then exits with FAILED if a watcher has ended the replica.
    """

    def __init__(
        self,
        components: Sequence[Background],
        replica_watch: ReplicaWatch,
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
        end_hard = Timer(ENDED_SECONDS, os._exit, [1])
        end_hard.daemon = True
        end_hard.start()

    def after_worker_shutdown(self, broker: dramatiq.Broker, worker: dramatiq.Worker) -> None:
        if self.pool.runs(worker):
            return
        for component in (self.replica_watch, *reversed(self.components)):
            component.stop()
        if self.replica_watch.failed:
            broker.close()
            sys.exit(FAILED)


def scheduler(service: Service) -> int:
    """Run the replica's scheduler on the main thread and its health endpoint on another. Returns the exit code."""
    settings = ServiceSettings()
    configure_logs(settings)
    context = make_context(service.name, settings.model_copy(update={"pool_size": SCHEDULER_POOL_SIZE}))
    progress = ProgressMonitor(context, price_age=settings.price_age)
    serve_health(
        settings.health_host,
        settings.health_port,
        replica_probes(run_folder(), settings.processes, progress.checks),
        lambda: exposition(context),
    )
    tick = Tick(context, PublishedCalendar(context.engine, context.clock))
    probe = DatabaseProbe(context)
    heartbeat = Heartbeat(context, kind="scheduler", jobs=list(service.jobs.declared))
    heartbeat.beat()  # before the first tick, which would retire the jobs that no scheduler lists
    components = (
        SystemLog(context),
        heartbeat,
        probe,
        SchedulerWatch(tick, probe),
        progress,
    )
    for each in components:
        each.start()
    try:
        run_scheduler([tick])
    finally:  # dramatiq's forks turn SIGTERM into SystemExit
        for each in reversed(components):
            each.stop()
    return 0
