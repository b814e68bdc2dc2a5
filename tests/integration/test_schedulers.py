"""Two replicas of the real scheduler for a minute. PostgreSQL restarts, and schedulers are killed at bad moments."""

import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from embedded.database import service_urls
from embedded.postgres_cluster import PostgresCluster
from shared.bus.unit_of_work import ServiceContext
from shared.contracts.routing import SERVICES
from shared.jobs.run_context import Counts, RunContext
from shared.storage.engine import make_engine
from shared.storage.migrate import ROOT, migrate_service
from tests.component.job_worker import a_job, job_worker
from tests.support import eventually, rows, value

SECONDS = 60
REPLICAS = ("a", "b")
#: The scheduler of a replica, reduced to its tick. Its sessions carry the replica's name.
SCHEDULER = """
import sys
from shared.bus.unit_of_work import ServiceContext
from shared.jobs.engine.tick import Tick, run_scheduler
from shared.markets import PublishedCalendar
from shared.storage.engine import make_engine
context = ServiceContext("orders", make_engine(sys.stdin.readline().strip(), name=sys.argv[1]))
run_scheduler([Tick(context, PublishedCalendar(context.engine, context.clock))])
"""
#: While the lock of the gate is held, a scheduler that has inserted its runs cannot commit.
GATE = """
CREATE FUNCTION public.gate() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_advisory_xact_lock_shared(4711);
  RETURN NULL;
END $$;
CREATE TRIGGER gate AFTER INSERT ON jobs.job_runs FOR EACH STATEMENT EXECUTE FUNCTION public.gate();
"""
AT_THE_GATE = """
SELECT application_name FROM pg_stat_activity
WHERE wait_event_type = 'Lock' AND wait_event = 'advisory' AND application_name LIKE 'paperprofit-replica-%'
"""
SLOTS = "SELECT scheduled_for, outcome, attempt FROM jobs.job_runs WHERE job = :job ORDER BY scheduled_for"


class Replicas:
    """A scheduler process for each replica. A killed one is started again, as an orchestrator does."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.processes = {name: self._start(name) for name in REPLICAS}

    def _start(self, name: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-c", SCHEDULER, f"replica-{name}"]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, text=True, cwd=ROOT)
        assert process.stdin is not None
        process.stdin.write(self._url + "\n")
        process.stdin.close()
        return process

    def kill(self, name: str) -> None:
        """Send SIGKILL, and start another process in its place."""
        self.processes[name].kill()
        self.processes[name].wait()
        self.processes[name] = self._start(name)

    def end(self) -> None:
        for process in self.processes.values():
            process.kill()
            process.wait()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[tuple[PostgresCluster, dict[str, str], Engine]]:
    """A PostgreSQL that this test may stop, the services' URLs, and a superuser's engine."""
    postgres = PostgresCluster(tmp_path / "postgres", max_connections=60)
    with postgres as url:
        urls = service_urls(url)
        for service in SERVICES:
            engine = make_engine(urls[service], name=service)
            migrate_service(engine, service)
            engine.dispose()
        admin = make_engine(url, name="admin")
        yield postgres, urls, admin
        admin.dispose()


@contextmanager
def replicas(url: str) -> Iterator[Replicas]:
    running = Replicas(url)
    try:
        yield running
    finally:
        running.end()


@contextmanager
def beating(at_work: Any) -> Iterator[None]:
    """The worker's heartbeat on its own thread, as in a worker process."""
    at_work.heartbeat.start()
    try:
        yield
    finally:
        at_work.heartbeat.stop()


@pytest.mark.timeout(240)
def test_no_slot_is_missed_or_doubled_when_schedulers_are_killed(
    cluster: tuple[PostgresCluster, dict[str, str], Engine],
) -> None:
    """They are killed between claim and commit, right after a commit and at any time, and PostgreSQL restarts."""
    postgres, urls, admin = cluster
    orders = ServiceContext("orders", make_engine(urls["orders"], name="orders"))
    ran: Counter[tuple[int, datetime | None]] = Counter()
    jobs = [
        a_job(_counting(ran, every), f"every_{every}s", schedule=f"{every}s", misfire="run_all", misfire_window="5m")
        for every in (1, 2, 5)
    ]
    with job_worker(orders, *jobs) as at_work, beating(at_work), replicas(urls["orders"]) as running:
        ends = time.monotonic() + SECONDS
        eventually(lambda: _slots(orders, "every_1s"), seconds=30, what="the first slot")
        _kill_between_claim_and_commit(running, admin)
        _kill_after_commit(running, orders)
        postgres.stop()
        postgres.start()
        for name in REPLICAS:
            _kill_after_commit(running, orders)
            running.kill(name)
        eventually(lambda: time.monotonic() > ends, seconds=SECONDS + 30, what="the minute is over")
        running.end()
        eventually(lambda: _all_ended(orders), seconds=60, what="every run has ended")
    for every in (1, 2, 5):
        found = rows(orders.engine, SLOTS, job=f"every_{every}s")
        slots = [row.scheduled_for for row in found]
        assert slots == [slots[0] + timedelta(seconds=every * number) for number in range(len(slots))]
        assert {row.outcome for row in found} == {"succeeded"}
        assert {ran[every, slot] for slot in slots} == {1}
        assert len(slots) >= (SECONDS - 5) // every
    orders.engine.dispose()


def _counting(ran: Counter[tuple[int, datetime | None]], every: int) -> Any:
    lock = threading.Lock()

    def run(run: RunContext) -> Counts:
        with lock:
            ran[every, run.slot] += 1
        return {}

    return run


def _kill_between_claim_and_commit(running: Replicas, admin: Engine) -> None:
    """Kill the scheduler that has claimed a slot and cannot commit yet. The other one claims the slot."""
    with admin.begin() as connection:
        connection.exec_driver_sql(GATE)
    with admin.connect() as gate:
        gate.exec_driver_sql("SELECT pg_advisory_lock(4711)")
        name = eventually(lambda: value_or_none(admin, AT_THE_GATE), seconds=20, what="a scheduler is about to commit")
        running.kill(name.rpartition("-")[2])
        gate.exec_driver_sql("SELECT pg_advisory_unlock(4711)")
    with admin.begin() as connection:
        connection.exec_driver_sql("DROP TRIGGER gate ON jobs.job_runs")


def _kill_after_commit(running: Replicas, orders: ServiceContext) -> None:
    """Kill both as soon as a new slot is committed. Its message is in the outbox and is sent."""
    before = _slots(orders, "every_1s")
    eventually(lambda: _slots(orders, "every_1s") > before, seconds=20, what="another slot")
    for name in REPLICAS:
        running.kill(name)


def _slots(orders: ServiceContext, job: str) -> int:
    try:
        return int(value(orders.engine, "SELECT count(*) FROM jobs.job_runs WHERE job = :job", job=job))
    except SQLAlchemyError:
        return 0


def _all_ended(orders: ServiceContext) -> bool:
    """True once every run has ended. With the schedulers gone, no new run comes."""
    return bool(value(orders.engine, "SELECT count(*) = 0 FROM jobs.job_runs WHERE state <> 'finished'"))


def value_or_none(engine: Engine, statement: str) -> Any:
    found = rows(engine, statement)
    return found[0][0] if found else None
