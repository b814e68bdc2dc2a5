"""The engine's own cost for each run of a job that does nothing, beside the bare rows of such a run.

Ours claims 200 due jobs with one tick, and the real executor starts and finishes each run on one thread. The reference
inserts a row of the same table and updates it twice, each in its own transaction, with psycopg alone. Heartbeats,
relay, RabbitMQ and log lines are left out. BEGIN and COMMIT do not count as statements.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, ClassVar
from uuid import uuid4

import psycopg
from sqlalchemy import Engine, event, make_url, text

from bench.report import Goal, NotMeasured, Row, comparison, interleaved
from embedded.database import service_urls
from embedded.postgres_cluster import PostgresCluster
from shared.bus.unit_of_work import ServiceContext
from shared.contracts.jobs import RunJob
from shared.jobs.declaration import Job
from shared.jobs.engine import claims
from shared.jobs.engine.executor import Executor
from shared.jobs.engine.heartbeat import Heartbeat
from shared.jobs.engine.tick import Tick
from shared.jobs.run_context import Counts, RunContext
from shared.markets import PublishedCalendar, load_market
from shared.storage import driver
from shared.storage.engine import make_engine
from shared.storage.migrate import migrate_service

JOBS = 200
WARM_UP = 2
SECOND = timedelta(seconds=1)


def measure(*, runs: int) -> Sequence[Row]:
    """Measure ``runs`` rounds of each side, after some rounds to warm up."""
    print(f"cost: {runs} rounds of {JOBS} runs", flush=True)
    with _database() as url, _engine(url) as engine, _raw(url) as connection, _counting_driver():
        ours, bare = Ours(engine), Bare(connection)
        interleaved(ours.round, bare.round, WARM_UP)
        pairs = interleaved(ours.round, bare.round, runs)
        ours.expect_finished(runs + WARM_UP)
    beside = f"beside INSERT and two UPDATEs, each committed; {JOBS} jobs due in a tick"
    statements = [(each, float(len(Bare.STATEMENTS))) for each in ours.statements[WARM_UP:]]
    return [
        comparison(f"a no-op run {beside}", "ms", pairs, Goal("ours", "<=", 3)),
        comparison(f"a no-op run {beside}", "statements", statements, Goal("ours", "<=", 4)),
    ]


@contextmanager
def _database() -> Iterator[str]:
    """The URL of orders, on a durable PostgreSQL."""
    with TemporaryDirectory(prefix="paperprofit-bench-") as folder, PostgresCluster(Path(folder) / "postgres") as url:
        yield service_urls(url)["orders"]


class _Counted(psycopg.Cursor[Any]):
    """A cursor that counts statements. Those of our own driver, which needs no cursor, are counted with them."""

    executed: ClassVar[int] = 0

    def execute(self, *arguments: Any, **options: Any) -> Any:
        _Counted.executed += 1
        return super().execute(*arguments, **options)


@contextmanager
def _counting_driver() -> Iterator[None]:
    run = driver.run_prepared

    def counted(used: Any, prepared: set[bytes], calls: Sequence[driver.Call]) -> Any:
        _Counted.executed += sum(call is not driver.COMMIT for call in calls)
        return run(used, prepared, calls)

    driver.run_prepared = counted
    try:
        yield
    finally:
        driver.run_prepared = run


@contextmanager
def _engine(url: str) -> Iterator[Engine]:
    engine = make_engine(url, name="bench")
    migrate_service(engine, "orders")
    engine.dispose()
    event.listen(engine, "connect", lambda connection, _: setattr(connection, "cursor_factory", _Counted))
    yield engine
    engine.dispose()


@contextmanager
def _raw(url: str) -> Iterator["psycopg.Connection[Any]"]:
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain, autocommit=True) as connection:
        yield connection


class Ours:
    """The engine with a clock that advances by a second each round, so every job is due."""

    def __init__(self, engine: Engine) -> None:
        self.now = datetime.now(UTC).replace(microsecond=0)
        self.context = ServiceContext("orders", engine, lambda: self.now)
        self.statements: list[float] = []
        names = [f"job_{number}" for number in range(JOBS)]
        jobs = {name: Job(name, "orders", "Does nothing.", _nothing, {"schedule": "1s"}) for name in names}
        bare = Job(Bare.JOB, "orders", "Has the bare rows.", _nothing, {"enabled": False})
        with engine.begin() as connection:
            claims.declare(connection, [*jobs.values(), bare], self.now, load_market=load_market)
        self._tick = Tick(self.context, PublishedCalendar(engine, self.context.clock))
        self._executor = Executor(jobs, Heartbeat(self.context))

    def round(self) -> float:
        """Return the milliseconds for each run."""
        self.now += SECOND
        claiming = _Use.of(self._tick.claim_due)
        running = _Use.of(partial(self._execute, self._queued()))
        self.statements.append((claiming.statements + running.statements) / JOBS)
        return 1000 * (claiming.seconds + running.seconds) / JOBS

    def _execute(self, commands: Sequence[RunJob]) -> None:
        for command in commands:
            self._executor.execute(command, self.context)

    def _queued(self) -> list[RunJob]:
        """Read the commands of this round, as the relay would send them."""
        with self.context.engine.begin() as connection:
            connection.execute(text("DELETE FROM orders.outbox"))
            rows = connection.execute(_QUEUED).all()
        if len(rows) != JOBS:
            raise NotMeasured(f"a tick claimed {len(rows)} of {JOBS} due jobs")
        return [RunJob(to="orders", run_id=row.id, job=row.job, attempt=row.attempt) for row in rows]

    def expect_finished(self, rounds: int) -> None:
        with self.context.engine.connect() as connection:
            finished = connection.execute(_SUCCEEDED, {"bare": Bare.JOB}).scalar_one()
        if finished != rounds * JOBS:
            raise NotMeasured(f"{finished} of {rounds * JOBS} runs succeeded")


_QUEUED = text("SELECT id, job, attempt FROM jobs.job_runs WHERE state = 'queued' ORDER BY job")
_SUCCEEDED = text("SELECT count(*) FROM jobs.job_runs WHERE outcome = 'succeeded' AND job <> :bare")


def _nothing(_run: RunContext) -> Counts:
    return {}


@dataclass(frozen=True)
class _Use:
    seconds: float
    statements: int

    @classmethod
    def of(cls, work: Callable[[], object]) -> "_Use":
        begun, executed = time.perf_counter(), _Counted.executed
        work()
        return cls(time.perf_counter() - begun, _Counted.executed - executed)


class Bare:
    """A run as the three statements that any engine needs."""

    JOB = "bare"
    STATEMENTS = (
        """INSERT INTO jobs.job_runs (id, job, service, trigger, scheduled_for, state, queued_at)
           VALUES (%(id)s, %(job)s, 'orders', 'schedule', %(slot)s, 'queued', now())""",
        "UPDATE jobs.job_runs SET state = 'running', started_at = now(), attempt = 1 WHERE id = %(id)s",
        "UPDATE jobs.job_runs SET state = 'finished', outcome = 'succeeded', finished_at = now() WHERE id = %(id)s",
    )

    def __init__(self, connection: "psycopg.Connection[Any]") -> None:
        self._connection = connection
        self._slot = datetime.now(UTC)

    def round(self) -> float:
        """Return the milliseconds for each run."""
        begun = time.perf_counter()
        for _ in range(JOBS):
            self._slot += SECOND
            given = {"id": uuid4(), "job": self.JOB, "slot": self._slot}
            for statement in self.STATEMENTS:
                self._connection.execute(statement, given)
        return 1000 * (time.perf_counter() - begun) / JOBS
