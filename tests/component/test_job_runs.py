"""Runs on the in-process bus and a real PostgreSQL: a message starts each run, and it is finished once."""

import math
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
import structlog
from dramatiq.middleware import TimeLimitExceeded

from shared.bus.unit_of_work import ServiceContext
from shared.jobs.declaration import Job
from shared.jobs.engine.heartbeat import Heartbeat
from shared.jobs.run_context import Counts, RunContext
from tests.component.job_worker import Gate, a_job, job_worker, runs
from tests.component.watching import all_statements
from tests.conftest import FakeClock
from tests.support import eventually, rows


def test_a_run_records_its_worker_its_times_and_its_counts(orders: ServiceContext, clock: FakeClock) -> None:
    """The worker completes the row that the tick wrote."""
    queued_at = clock.now
    with job_worker(orders, a_job(lambda _: {"orders_filled": 3})) as worker:
        worker.tick()
        (run,) = runs(orders)
        assert run.worker == worker.heartbeat.worker
    assert (run.trigger, run.attempt, run.state, run.outcome) == ("schedule", 1, "finished", "succeeded")
    assert (run.counts, run.error) == ({"orders_filled": 3}, None)
    assert queued_at == run.queued_at <= run.started_at <= run.finished_at


def test_a_run_costs_two_statements(orders: ServiceContext) -> None:
    """One statement starts it and one finishes it. Those of the job and of the bus are not counted."""
    with job_worker(orders, a_job(lambda _: {}, enabled=False)) as worker:
        worker.trigger()
        worker.handled()
        with all_statements(orders.engine) as seen:
            worker.trigger()
            worker.handled()
    assert len([statement for statement in seen if "SET state = 'running'" in statement]) == 1
    assert len([statement for statement in seen if "SET state = 'finished'" in statement]) == 1


def test_a_run_that_is_under_way_changes_no_index(orders: ServiceContext) -> None:
    """Otherwise each start and each heartbeat would add an entry to every index."""
    columns = """
    SELECT DISTINCT a.attname AS name FROM pg_index i
    JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid AND d.refobjid = i.indrelid
    JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = d.refobjsubid
    WHERE i.indrelid = 'jobs.job_runs'::regclass"""
    indexed = {row.name for row in rows(orders.engine, columns)}
    lasting = {"id", "job", "service", "trigger", "scheduled_for", "queued_at", "parent_run_id", "part"}
    assert indexed - lasting == {"active"}  # it is the same from the queue to the end


def test_skips_for_one_reason_are_one_row(orders: ServiceContext, clock: FakeClock) -> None:
    """The row has the first slot, the last slot and their number. Another reason or another run begins a new row."""
    reasons: list[str | None] = ["stale", "stale", "stale", "closed", None, "closed"]
    answers = iter(reasons)
    job = Job("sweep", "orders", "Sweep.", lambda _: {}, {"schedule": "1s"}, when=lambda _: next(answers))
    first = clock.now.replace(microsecond=0)
    with job_worker(orders, job) as worker:
        for _ in reasons:
            worker.tick()
            clock.move(seconds=1)
    found = [(run.outcome, run.reason, run.scheduled_for, run.last_slot, run.slots) for run in runs(orders)]
    assert found == [
        ("skipped", "stale", first, first + timedelta(seconds=2), 3),
        ("skipped", "closed", first + timedelta(seconds=3), first + timedelta(seconds=3), 1),
        ("succeeded", None, first + timedelta(seconds=4), None, 1),
        ("skipped", "closed", first + timedelta(seconds=5), first + timedelta(seconds=5), 1),
    ]


def test_a_manual_run_ignores_the_condition(orders: ServiceContext) -> None:
    """An operator's trigger overrides the job's condition."""
    job = Job("sweep", "orders", "Sweep.", lambda _: {}, {"schedule": "off"}, when=lambda _: "never")
    with job_worker(orders, job) as worker:
        worker.trigger()
        worker.handled()
    assert [run.outcome for run in runs(orders)] == ["succeeded"]


def test_the_next_run_begins_when_the_previous_one_ends(orders: ServiceContext) -> None:
    """Two manual runs follow a third one without waiting for a tick."""
    gate = Gate()
    with job_worker(orders, a_job(gate, enabled=False)) as worker:
        ids = [worker.trigger() for _ in range(3)]
        assert gate.entered.wait(10)
        assert [run.state for run in runs(orders)].count("waiting") == 2
        gate.opened.set()
        eventually(lambda: [run.state for run in runs(orders)] == ["finished"] * 3)
    assert sorted(run.id for run in gate.runs) == sorted(ids)


def test_a_run_s_log_lines_carry_its_job_and_id(orders: ServiceContext) -> None:
    """The system log finds a run's lines by its job and id."""
    bound: list[Any] = []

    def record(_run: RunContext) -> Counts:
        bound.append(structlog.contextvars.get_contextvars())
        return {}

    with job_worker(orders, a_job(record, enabled=False)) as worker:
        run_id = worker.trigger()
        worker.handled()
    assert (bound[0]["job"], bound[0]["run_id"]) == ("sweep", str(run_id))


def test_a_time_limit_that_ends_with_the_body_comes_once(
    orders: ServiceContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exception may arrive while the run gives up its limit. Its result is saved without another one."""
    with job_worker(orders, a_job(lambda _: {}, schedule="off", time_limit="1s"), threads=0) as worker:
        heartbeat, run_id = worker.heartbeat, uuid4()
        heartbeat.hold(run_id, 1, 1.0)
        end, late = heartbeat._end_limit, [TimeLimitExceeded()]

        def interrupted(*which: Any) -> None:
            while late:
                raise late.pop()
            end(*which)

        monkeypatch.setattr(heartbeat, "_end_limit", interrupted)
        with pytest.raises(TimeLimitExceeded), heartbeat.time_limited(run_id, 1):
            pass
        assert heartbeat._held[run_id, 1].deadline == math.inf


def test_time_for_which_the_process_stood_still_counts_for_no_limit(
    orders: ServiceContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A lid is closed for a minute in the middle of a run of at most 30 seconds, which then goes on."""
    heartbeat, run_id = Heartbeat(orders), uuid4()
    pauses, clock = iter([1.0, 61.0, 31.0]), SimpleNamespace(now=0.0)

    def wait(_: float) -> bool:
        clock.now += (pause := next(pauses, 0.0))
        return not pause

    monkeypatch.setattr("shared.jobs.engine.heartbeat.time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr(heartbeat, "stopping", SimpleNamespace(wait=wait))
    heartbeat.hold(run_id, 1, 30.0)
    heartbeat.run()
    deadline = heartbeat._held[run_id, 1].deadline
    assert deadline == 30.0 + 60.0 + 30.0
    clock.now = deadline + 1
    with pytest.raises(TimeLimitExceeded):
        heartbeat.beat()
