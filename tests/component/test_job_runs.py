"""Runs on the in-process bus and a real PostgreSQL: begun by their message, finished once, whatever happens."""

from datetime import timedelta
from typing import Any

import structlog

from shared.bus.unit_of_work import ServiceContext
from shared.jobs.declaration import Job
from shared.jobs.run_context import Counts, RunContext
from tests.component.job_worker import Gate, a_job, job_worker, runs
from tests.component.watching import statements
from tests.conftest import FakeClock
from tests.support import eventually


def test_a_run_leaves_who_ran_it_when_and_what_it_counted(orders: ServiceContext, clock: FakeClock) -> None:
    """The row that the tick wrote is filled in by the worker."""
    queued_at = clock.now
    with job_worker(orders, a_job(lambda _: {"orders_filled": 3})) as worker:
        worker.tick()
        (run,) = runs(orders)
        assert run.worker == worker.heartbeat.worker
    assert (run.trigger, run.attempt, run.state, run.outcome) == ("schedule", 1, "finished", "succeeded")
    assert (run.counts, run.error) == ({"orders_filled": 3}, None)
    assert queued_at == run.queued_at <= run.started_at <= run.finished_at


def test_a_run_costs_two_statements(orders: ServiceContext) -> None:
    """One begins it and one ends it; the job's own and the bus's stand aside."""
    with job_worker(orders, a_job(lambda _: {}, enabled=False)) as worker:
        worker.trigger()
        worker.handled()
        with statements(orders.engine) as seen:
            worker.trigger()
            worker.handled()
    assert len([statement for statement in seen if "SET state = 'running'" in statement]) == 1
    assert len([statement for statement in seen if "SET state = 'finished'" in statement]) == 1


def test_skips_for_one_reason_are_one_row(orders: ServiceContext, clock: FakeClock) -> None:
    """First slot, last slot and how many; another reason, or a run between, begins a new one."""
    reasons: list[str | None] = ["stale", "stale", "stale", "closed", None, "closed"]
    told = iter(reasons)
    job = Job("sweep", "orders", "Sweep.", lambda _: {}, {"schedule": "1s"}, when=lambda _: next(told))
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


def test_who_starts_a_job_by_hand_is_not_refused_by_its_condition(orders: ServiceContext) -> None:
    """They know why they do it."""
    job = Job("sweep", "orders", "Sweep.", lambda _: {}, {"schedule": "off"}, when=lambda _: "never")
    with job_worker(orders, job) as worker:
        worker.trigger()
        worker.handled()
    assert [run.outcome for run in runs(orders)] == ["succeeded"]


def test_the_next_run_begins_when_the_one_before_it_ends(orders: ServiceContext) -> None:
    """Two by hand while one runs: one after the other, without waiting for a tick."""
    gate = Gate()
    with job_worker(orders, a_job(gate, enabled=False)) as worker:
        ids = [worker.trigger() for _ in range(3)]
        assert gate.entered.wait(10)
        assert [run.state for run in runs(orders)].count("waiting") == 2
        gate.opened.set()
        eventually(lambda: [run.state for run in runs(orders)] == ["finished"] * 3)
    assert sorted(run.id for run in gate.runs) == sorted(ids)


def test_a_run_s_log_lines_carry_its_job_and_id(orders: ServiceContext) -> None:
    """By them the system log finds what belongs to a run."""
    bound: list[Any] = []

    def note(_run: RunContext) -> Counts:
        bound.append(structlog.contextvars.get_contextvars())
        return {}

    with job_worker(orders, a_job(note, enabled=False)) as worker:
        run_id = worker.trigger()
        worker.handled()
    assert (bound[0]["job"], bound[0]["run_id"]) == ("sweep", str(run_id))
