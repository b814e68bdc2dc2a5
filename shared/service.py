"""A service: what it is made of, and how its parts are put together in any process.

``services/<name>/service.py`` declares one; ``shared.worker`` runs it deployed, ``embedded`` runs all of them
in one process, and the tests put them together as they need.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

import dramatiq
import structlog
from dramatiq.middleware import AgeLimit, CurrentMessage, Pipelines, ShutdownNotifications, TimeLimit
from sqlalchemy import text
from sqlalchemy.exc import OperationalError, ProgrammingError

from shared.background import Background
from shared.bus.actors import Actors
from shared.bus.dead_letters import declare_operations
from shared.bus.retries import RetryOrDeadLetter
from shared.bus.unit_of_work import ServiceContext
from shared.clock import Clock, utc_now
from shared.contracts.routing import consumed_by
from shared.jobs.checks import chains, check_chains
from shared.jobs.config import InvalidJobsConfig, load_jobs_config, named
from shared.jobs.declaration import InvalidJob, Job, Jobs
from shared.jobs.engine import claims
from shared.jobs.engine.executor import declare_runner
from shared.jobs.engine.heartbeat import Heartbeat
from shared.jobs.settings import InvalidSetting
from shared.outage import Outage, first_line
from shared.settings import ServiceSettings
from shared.storage.engine import make_engine
from shared.storage.errors import is_transient
from shared.storage.migrate import migrate_service

log = structlog.get_logger(__name__)

TIME_LIMIT_MS = 60_000


@dataclass(frozen=True)
class Service:
    """One of the four Dramatiq services.

    ``prepare`` writes what must be there before the first message, once per start, after the migrations;
    ``components`` makes what runs beside the actors; ``check_settings`` raises InvalidSettings where the
    service's own are wrong.
    """

    name: str
    actors: Actors
    jobs: Jobs
    prepare: Callable[[ServiceContext], None] = lambda _: None
    components: Callable[[ServiceContext], Sequence[Background]] = lambda _: ()
    check_settings: Callable[[], object] = lambda: None


def make_context(service: str, settings: ServiceSettings, clock: Clock = utc_now) -> ServiceContext:
    engine = make_engine(settings.database_url.get_secret_value(), name=service, pool_size=settings.pool_size)
    return ServiceContext(service, engine, clock)


def configure_jobs(service: Service, settings: ServiceSettings) -> dict[str, Job]:
    """The service's jobs with the configuration file over them; raises InvalidJobsConfig."""
    path = settings.jobs_config
    try:
        return service.jobs.configured(load_jobs_config(path))
    except InvalidJob as error:
        raise named(path, path.read_text(encoding="utf-8"), error.job, error.error) from None


def check_job_names(services: Sequence[Service], settings: ServiceSettings) -> None:
    """Where all services are at hand, a name in the file that no service declares is a mistake."""
    known = {name for service in services for name in service.jobs.declared}
    unknown = sorted(set(load_jobs_config(settings.jobs_config)) - known)
    if unknown:
        raise InvalidJobsConfig(f"{settings.jobs_config}: no service has a job named {', '.join(unknown)}")


def prepare(service: Service, context: ServiceContext, jobs: dict[str, Job], *, seconds: float = 0) -> None:
    """Migrate, write the declarations and what the service needs to begin.

    Raises InvalidJobsConfig, and DatabaseAway where the views that the migrations read are not there after ``seconds``.
    """
    migrate_when_ready(context, seconds=seconds)
    with context.engine.begin() as connection:
        claims.declare(connection, jobs.values(), context.clock())
        followed = chains(connection)
        for job in jobs:
            try:
                check_chains(followed, job)
            except InvalidSetting as error:
                raise InvalidJobsConfig(f"{job}.{error}") from None
    service.prepare(context)


def attach(service: Service, broker: dramatiq.Broker, context: ServiceContext, jobs: dict[str, Job]) -> Heartbeat:
    """Put the service's actors, and those that every service has, on the broker; what has to beat for its runs."""
    service.actors.attach(broker, context)
    common = Actors()
    heartbeat = Heartbeat(context, queues=consumed_by(service.name))
    declare_runner(common, service.name, jobs, heartbeat)
    declare_operations(common, service.name)
    common.attach(broker, context)
    return heartbeat


def make_middleware(contexts: dict[str, ServiceContext], jitter: Random | None = None) -> list[dramatiq.Middleware]:
    """Dramatiq's own where it is sound, ours for what happens after a failure; ``jitter`` is for simulations."""
    return [
        AgeLimit(),
        TimeLimit(time_limit=TIME_LIMIT_MS),
        ShutdownNotifications(),
        Pipelines(),
        CurrentMessage(),
        RetryOrDeadLetter(contexts, jitter),
    ]


class DatabaseAway(RuntimeError):
    """The database did not answer for as long as a start waits for it."""


def migrate_when_ready(context: ServiceContext, *, seconds: float) -> None:
    """Migrate; the views of other services that its own views read are waited for. Raises DatabaseAway."""
    deadline = time.monotonic() + seconds
    views = Outage("a view of another service", service=context.service)
    while True:
        try:
            migrate_service(context.engine, context.service)
        except ProgrammingError as error:
            if not is_transient(error):
                raise
            if time.monotonic() > deadline:
                raise DatabaseAway(f"not ready after {seconds:g} s: {first_line(error.orig)}") from None
            time.sleep(views.failed(error.orig))
        else:
            views.passed()
            return


def wait_for_database(context: ServiceContext, *, seconds: float) -> None:
    """Return when the database answers; raises DatabaseAway."""
    deadline = time.monotonic() + seconds
    said = False
    while True:
        try:
            with context.engine.connect() as connection:
                connection.execute(text("SELECT 1"))
        except OperationalError as error:
            if time.monotonic() > deadline:
                raise DatabaseAway(f"no database for {seconds:g} s: {str(error.orig).strip()}") from None
            if not said:
                log.info("waiting for the database", service=context.service, error=str(error.orig).strip())
            said = True
            time.sleep(0.5)
        else:
            return
