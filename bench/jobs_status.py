"""The time until the status of all jobs is answered, with many jobs and a long history."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import quantiles
from tempfile import TemporaryDirectory

from sqlalchemy import Connection, Engine, text
from starlette.testclient import TestClient

from bench.report import Goal, NotMeasured, Row, figure
from embedded.database import service_urls
from embedded.postgres_cluster import PostgresCluster
from services.gateway.service import build_app, prepare
from services.gateway.settings import Settings
from services.gateway.streams.hub import Hub
from shared.bus.unit_of_work import ServiceContext
from shared.contracts.routing import SERVICES
from shared.jobs.settings import JobSettings
from shared.storage.engine import make_engine
from shared.storage.migrate import migrate_service

JOBS, RUNS = 500, 1_000_000
CALLS, WARM_UP = 50, 5
KEY_ID, SECRET = "BENCHKEY", "bench-secret-key"
HEADERS = {"APCA-API-KEY-ID": KEY_ID, "APCA-API-SECRET-KEY": SECRET}


def measure() -> Sequence[Row]:
    """Measure the median of the calls, which has a goal, and the slowest of a hundred."""
    with _gateway() as client:
        seconds = [_call(client) for _ in range(WARM_UP + CALLS)][WARM_UP:]
    milliseconds = [each * 1000 for each in seconds]
    name = f"GET /api/jobs/status, {JOBS} jobs, {RUNS:,} runs"
    return [
        figure(name, "ms", milliseconds, Goal("ours", "<=", 20)),
        figure(f"{name}, p99", "ms", [quantiles(milliseconds, n=100)[-1]]),
    ]


def _call(client: TestClient) -> float:
    begun = time.perf_counter()
    answer = client.get("/api/jobs/status")
    took = time.perf_counter() - begun
    if answer.status_code != 200 or len(answer.json()["jobs"]) != JOBS:
        raise NotMeasured(f"GET /api/jobs/status answered {answer.status_code}: {answer.text[:200]}")
    return took


@contextmanager
def _gateway() -> Iterator[TestClient]:
    """Make the gateway's application in this process, on its own PostgreSQL with the jobs and runs."""
    with TemporaryDirectory(prefix="paperprofit-bench-") as folder:
        cluster = PostgresCluster(Path(folder) / "postgres")
        try:
            urls = service_urls(url := cluster.start())
            settings = Settings(demo=True, api_key_id=KEY_ID, api_secret_key=SECRET)
            context = ServiceContext("gateway", make_engine(urls["gateway"], name="gateway"))
            _fill(url, urls, context.engine)
            prepare(context, settings)
            app = build_app(context, Hub(), settings, dict)
            with TestClient(app, headers=HEADERS) as client:
                yield client
            context.engine.dispose()
        finally:
            cluster.stop()


def _fill(url: str, urls: dict[str, str], gateway: Engine) -> None:
    for service in SERVICES:
        engine = make_engine(urls[service], name=service)
        migrate_service(engine, service)
        engine.dispose()
    with gateway.begin() as connection:
        connection.execute(text("SET LOCAL statement_timeout = 0"))
        _fill_tables(connection)
    admin = make_engine(url, name="bench")  # the tables are no service's
    with admin.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM ANALYZE jobs.jobs, jobs.job_runs"))
    admin.dispose()


def _fill_tables(connection: Connection) -> None:
    declared = JobSettings(schedule="45s", phases={"weekend": "1h"}, market_hours_only=True).model_dump_json()  # type: ignore[dict-item]
    given = {"jobs": JOBS, "runs": RUNS, "declared": declared}
    connection.execute(_ADD_JOBS, given)
    connection.execute(_ADD_RUNS, given)
    connection.execute(_BEGIN_SOME, given)


_ADD_JOBS = text("""
INSERT INTO jobs.jobs (name, service, description, market, declared, next_slot, updated_at)
SELECT 'job_' || n, (ARRAY['marketdata', 'orders', 'valuation', 'strategy'])[n % 4 + 1],
       'One of many jobs that this benchmark makes up.', 'DEMO', CAST(:declared AS jsonb), now(), now()
FROM generate_series(1, :jobs) n
""")
#: The runs of all jobs take turns, as they would have come; the latest is of this moment.
_ADD_RUNS = text("""
INSERT INTO jobs.job_runs (id, job, service, trigger, scheduled_for, queued_at, started_at, finished_at, attempt,
                           worker, state, outcome, counts, error)
SELECT gen_random_uuid(), 'job_' || n % :jobs + 1, 'orders', 'schedule', at, at, at + interval '20 ms',
       at + interval '80 ms', 1, 'orders:host:4711:a1b2c3', 'finished',
       CASE WHEN n % 50 = 0 THEN 'failed' ELSE 'succeeded' END, '{"orders_filled": 12, "orders_seen": 345}',
       CASE WHEN n % 50 = 0 THEN E'Traceback (most recent call last):\\n  File "x.py"\\nValueError: no price' END
FROM generate_series(1, :runs) n,
     LATERAL (SELECT now() - (:runs - n) * interval '45 s' / :jobs AS at) slot
""")
#: Of every tenth job a run is under way.
_BEGIN_SOME = text("""
INSERT INTO jobs.job_runs (id, job, service, trigger, queued_at, started_at, heartbeat_at, attempt, worker, state, done,
                           total)
SELECT gen_random_uuid(), name, service, 'manual', now(), now(), now(), 1, 'orders:host:4711:a1b2c3', 'running', 3, 10
FROM jobs.jobs WHERE name LIKE '%0'
""")
