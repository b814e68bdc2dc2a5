"""A service: its parts, and the assembly of these parts in any process.

``services/<name>/service.py`` declares one. ``shared.worker`` runs it as deployed, ``embedded`` runs all services in
one process, and tests assemble the parts that they need.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

import dramatiq
import structlog
from dramatiq.middleware import CurrentMessage, ShutdownNotifications, TimeLimit
from sqlalchemy.exc import OperationalError, ProgrammingError

from shared.background import Background
from shared.bus.actors import Actors
from shared.bus.dead_letters import declare_operations
from shared.bus.metrics import Times
from shared.bus.retries import RetryOrDeadLetter
from shared.bus.unit_of_work import ServiceContext
from shared.clock import Clock, utc_now
from shared.contracts.routing import consumed_by
from shared.jobs.checks import chains, check_chains, check_parents
from shared.jobs.config import InvalidJobsConfig, at_line, load_jobs_config
from shared.jobs.declaration import InvalidJob, Job, Jobs
from shared.jobs.engine import claims
from shared.jobs.engine.executor import declare_executor
from shared.jobs.engine.heartbeat import Heartbeat
from shared.jobs.settings import InvalidSetting
from shared.markets import load_market
from shared.outage import Outage, first_line
from shared.settings import ServiceSettings
from shared.storage.engine import make_engine, refusal_of, refuse_pooler
from shared.storage.errors import is_transient
from shared.storage.migrate import migrate_service

log = structlog.get_logger(__name__)

TIME_LIMIT_MS = 60_000


@dataclass(frozen=True)
class Service:
    """One of the four Dramatiq services.

    ``prepare`` runs at each start, after the migrations and before the first message. ``components`` makes the
    background threads of a worker process. ``check_settings`` raises InvalidSettings.
    """

    name: str
    actors: Actors
    jobs: Jobs
    prepare: Callable[[ServiceContext], None] = lambda _: None
    components: Callable[[ServiceContext], Sequence[Background]] = lambda _: ()
    check_settings: Callable[[], object] = lambda: None


def make_context(service: str, settings: ServiceSettings, clock: Clock = utc_now) -> ServiceContext:
    """The service's context with an engine of its own."""
    engine = make_engine(settings.database_url.get_secret_value(), name=service, pool_size=settings.pool_size)
    return ServiceContext(service, engine, clock)


def configure_jobs(service: Service, settings: ServiceSettings) -> dict[str, Job]:
    """The service's jobs as the configuration file changes them. Raises InvalidJobsConfig."""
    path = settings.jobs_config
    try:
        return service.jobs.configured(load_jobs_config(path))
    except InvalidJob as error:
        raise at_line(path, path.read_text(encoding="utf-8"), error.job, error.error) from None


def check_job_names(services: Sequence[Service], settings: ServiceSettings) -> None:
    """Raises InvalidJobsConfig where the file names a job that no service declares, or a chain is not valid.

    Only a process that knows all services can check it.
    """
    path = settings.jobs_config
    jobs = {name: job for service in services for name, job in configure_jobs(service, settings).items()}
    unknown = sorted(set(load_jobs_config(path)) - set(jobs))
    if unknown:
        raise InvalidJobsConfig(f"{path}: no service has a job named {', '.join(unknown)}")
    after = {name: job.settings.get("after") for name, job in jobs.items()}
    for name in jobs:
        try:
            check_parents(after, name)
            check_chains(after, name)
        except InvalidSetting as error:
            raise at_line(path, path.read_text(encoding="utf-8"), name, error) from None


def prepare(service: Service, context: ServiceContext, jobs: dict[str, Job], *, seconds: float = 0) -> None:
    """Migrate, write the job declarations, then run the service's own ``prepare``.

    Raises InvalidJobsConfig, and DatabaseUnavailable where views of other services are missing after ``seconds``.
    """
    migrate_when_ready(context, seconds=seconds)
    with context.engine.begin() as connection:
        claims.declare(connection, jobs.values(), context.clock(), load_market=load_market)
        followed = chains(connection)
        for job in jobs:
            try:
                check_chains(followed, job)
            except InvalidSetting as error:
                raise InvalidJobsConfig(f"{job}.{error}") from None
    service.prepare(context)


def wait_for_parents(context: ServiceContext, jobs: dict[str, Job], *, seconds: float) -> None:
    """Wait until services have declared the jobs that these follow. Raises InvalidJobsConfig after ``seconds``."""
    deadline = time.monotonic() + seconds
    parents = Outage("a job that another follows", service=context.service)
    while True:
        with context.engine.connect() as connection:
            declared = chains(connection)
        try:
            for job in jobs:
                check_parents(declared, job)
        except InvalidSetting as error:
            if time.monotonic() > deadline:
                raise InvalidJobsConfig(f"{job}.{error}") from None
            time.sleep(parents.failed(error))
        else:
            parents.passed()
            return


def attach(service: Service, broker: dramatiq.Broker, context: ServiceContext, jobs: dict[str, Job]) -> Heartbeat:
    """Attach the service's actors and those of every service to the broker. Returns the heartbeat of its runs."""
    service.actors.attach(broker, context)
    common = Actors()
    heartbeat = Heartbeat(context, queues=consumed_by(service.name))
    declare_executor(common, service.name, jobs, heartbeat)
    declare_operations(common, service.name)
    common.attach(broker, context)
    return heartbeat


def make_middleware(contexts: dict[str, ServiceContext], jitter: Random | None = None) -> list[dramatiq.Middleware]:
    """The middleware of every broker: dramatiq's own, and ours for failed messages. ``jitter`` is for simulations."""
    return [
        TimeLimit(time_limit=TIME_LIMIT_MS),
        ShutdownNotifications(),
        CurrentMessage(),
        Times(),
        RetryOrDeadLetter(contexts, jitter),
    ]


class DatabaseUnavailable(RuntimeError):
    """The database did not answer within the time that a start waits for it."""


def migrate_when_ready(context: ServiceContext, *, seconds: float) -> None:
    """Migrate, and wait for the schema ``jobs`` and the views of other services.

    Raises DatabaseUnavailable and DatabaseTooOld.
    """
    deadline = time.monotonic() + seconds
    views = Outage("a view of another service", service=context.service)
    while True:
        try:
            migrate_service(context.engine, context.service, seconds=seconds)
        except ProgrammingError as error:
            if not is_transient(error):
                raise
            if time.monotonic() > deadline:
                raise DatabaseUnavailable(f"not ready after {seconds:g} s: {first_line(error.orig)}") from None
            time.sleep(views.failed(error.orig))
        else:
            views.passed()
            return


def wait_for_database(context: ServiceContext, *, seconds: float) -> None:
    """Wait until the database answers. Raises PoolerRefused, and DatabaseUnavailable after ``seconds``."""
    deadline = time.monotonic() + seconds
    logged = False
    while True:
        try:
            with context.engine.connect() as connection:
                refuse_pooler(connection)
        except OperationalError as error:
            if refusal := refusal_of(error):
                raise refusal from None
            if time.monotonic() > deadline:
                raise DatabaseUnavailable(f"no database for {seconds:g} s: {str(error.orig).strip()}") from None
            if not logged:
                log.info("waiting for the database", service=context.service, error=str(error.orig).strip())
            logged = True
            time.sleep(0.5)
        else:
            return
