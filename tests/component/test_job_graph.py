"""Jobs that follow several others: fan-out, joins, conditions, and each join started exactly once."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import text

from shared.bus.unit_of_work import ServiceContext
from shared.jobs.admin import control
from shared.jobs.declaration import Job
from shared.jobs.engine import claims, joins, run_store
from shared.jobs.engine.failures import Permanent
from shared.jobs.engine.run_store import Finished
from shared.jobs.run_context import Counts, Outcome, RunContext
from shared.markets import load_market
from tests.component.job_worker import JobWorker, a_job, job_worker, runs
from tests.component.watching import context_of
from tests.conftest import FakeClock
from tests.support import eventually, rows


def off(name: str, after: Any = None, **settings: Any) -> Job:
    """A job that only people and other jobs start."""
    return a_job(settings.pop("run", lambda _: {}), name, schedule="off", after=edges(after), **settings)


def edges(after: Any) -> Any:
    """The setting as it is stored."""
    if not isinstance(after, list):
        return after
    return [{"outcome": "succeeded", "when": None, **({"job": e} if isinstance(e, str) else e)} for e in after]


def fails(_run: RunContext) -> Counts:
    raise Permanent("no price")


def outcomes(context: ServiceContext, job: str) -> list[tuple[str | None, str | None]]:
    return [(run.outcome, run.reason) for run in runs(context, job)]


def settled(worker: JobWorker) -> None:
    """Tick until nothing is unfinished."""
    unfinished = "SELECT id FROM jobs.job_runs WHERE active IS NOT NULL"

    def none_left() -> bool:
        worker.tick()
        return not rows(worker.context.engine, unfinished)

    eventually(none_left, what="all runs ended")


def test_a_round_fans_out_and_is_joined_once(orders: ServiceContext) -> None:
    """The joined run begins after all of its parents, and belongs to the round of the run that began it."""
    log: list[str] = []

    def body(name: str) -> Any:
        def run(_run: RunContext) -> Counts:
            log.append(name)
            return {}

        return run

    jobs = [
        off("root", run=body("root")),
        off("left", "root", run=body("left")),
        off("right", ["root"], run=body("right")),
        off("last", ["left", "right"], run=body("last")),
    ]
    with job_worker(orders, *jobs) as worker:
        root = worker.trigger("root")
        settled(worker)
        assert (log[0], sorted(log[1:3]), log[3:]) == ("root", ["left", "right"], ["last"])
        second = worker.trigger("root")
        settled(worker)
    assert [run.round for run in runs(orders, "last")] == [str(root), str(second)]
    parents = {run.id for name in ("left", "right") for run in runs(orders, name)}
    assert {run.parent_run_id for run in runs(orders, "last")} <= parents
