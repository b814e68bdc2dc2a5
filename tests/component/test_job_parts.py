"""Runs that follow one another, and runs in parts that are joined."""

import json
import threading
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import pytest

from shared.bus.unit_of_work import ServiceContext
from shared.jobs.admin import control
from shared.jobs.declaration import Job
from shared.jobs.engine.failures import Permanent
from shared.jobs.engine.parts import LONGEST_PARAMETERS, MOST_PARTS
from shared.jobs.run_context import Counts, RunContext
from shared.jobs.settings import MAX_WAITING
from tests.component.job_worker import Body, Gate, OutOfShares, a_job, job_worker, runs
from tests.conftest import FakeClock
from tests.support import eventually


def test_a_job_follows_another_that_succeeded_or_finished(orders: ServiceContext) -> None:
    """Each chained run names the run that it follows. A disabled job does not follow."""
    log: list[str] = []

    def body(name: str, *, fails: bool = False) -> Body:
        def run(_run: RunContext) -> Counts:
            log.append(name)
            if fails:
                raise Permanent(name)
            return {}

        return run

    jobs = [
        a_job(body("good"), "good", schedule="off"),
        a_job(body("bad", fails=True), "bad", schedule="off"),
        a_job(body("after_good"), "after_good", schedule="off", after="good"),
        a_job(body("later"), "later", schedule="off", after="after_good"),
        a_job(body("after_bad"), "after_bad", schedule="off", after="bad"),
        a_job(body("whatever"), "whatever", schedule="off", after="bad", after_outcome="finished"),
        a_job(body("disabled"), "disabled", schedule="off", after="good", enabled=False),
    ]
    with job_worker(orders, *jobs) as worker:
        good = worker.trigger("good")
        bad = worker.trigger("bad")
        eventually(lambda: sorted(log) == ["after_good", "bad", "good", "later", "whatever"])
        worker.handled()
    (after_good,), (later,), (whatever,) = (runs(orders, name) for name in ("after_good", "later", "whatever"))
    assert (after_good.parent_run_id, later.parent_run_id, whatever.parent_run_id) == (good, after_good.id, bad)
    assert (after_good.trigger, runs(orders, "after_bad"), runs(orders, "disabled")) == ("chain", [], [])


@pytest.mark.parametrize("after", ["sweep", [{"job": "sweep"}]], ids=["by its name", "joined"])
def test_a_follower_that_does_not_keep_up_has_a_bounded_backlog(orders: ServiceContext, after: Any) -> None:
    """A run too many is skipped with the reason, and the run before it succeeds all the same."""
    follower = a_job(lambda _: {}, "slow", schedule="off", after=after)
    with job_worker(orders, a_job(lambda _: {}, schedule="off"), follower) as worker:
        with orders.engine.begin() as connection:
            connection.exec_driver_sql(
                "INSERT INTO jobs.job_runs (id, job, service, trigger, state, queued_at, not_before)"
                " SELECT gen_random_uuid(), 'slow', 'orders', 'chain', 'waiting', %(at)s - interval '1 h',"
                " %(at)s + interval '1 h' FROM generate_series(1, %(runs)s)",
                {"at": orders.clock(), "runs": MAX_WAITING},
            )
        worker.trigger()
        worker.handled()
        worker.tick()
    assert [run.outcome for run in runs(orders)] == ["succeeded"]
    assert [(run.outcome, run.reason) for run in runs(orders, "slow")][MAX_WAITING:] == [
        ("skipped", "1000 runs are already waiting")
    ]


def test_a_run_in_parts_runs_as_many_at_a_time_as_allowed_and_joins_them(orders: ServiceContext) -> None:
    """Ten parts run three at a time on eight threads, and their counts are joined in their order."""
    in_progress, most, lock = [0], [0], threading.Lock()
    joined: list[Sequence[Counts]] = []

    def value_account(run: RunContext) -> Counts:
        with lock:
            in_progress[0] += 1
            most[0] = max(most[0], in_progress[0])
        threading.Event().wait(0.02)  # so that parts overlap if they can
        with lock:
            in_progress[0] -= 1
        return {"account": run.parameters["account"]}

    def parts(_run: RunContext) -> Sequence[Mapping[str, Any]]:
        return [{"account": number} for number in range(10)]

    def join(_run: RunContext, results: Sequence[Counts]) -> Counts:
        joined.append(results)
        return {"accounts": len(results)}

    settings = {"schedule": "off", "parallel": 3}
    job = Job("sweep", "orders", "In parts.", value_account, settings, parts=parts, join=join)
    with job_worker(orders, job, threads=8) as worker:
        worker.trigger()
        eventually(lambda: runs(orders)[0].state == "finished")
        worker.handled()
    parent, *children = runs(orders)
    assert (parent.outcome, parent.counts, parent.done, parent.total) == ("succeeded", {"accounts": 10}, 10, 10)
    assert [(child.part, child.outcome, child.parent_run_id) for child in children] == [
        (number, "succeeded", parent.id) for number in range(1, 11)
    ]
    assert joined == [[{"account": number} for number in range(10)]]
    assert 1 < most[0] <= 3


def test_a_run_without_parts_to_do_succeeds(orders: ServiceContext) -> None:
    """A run with no parts has nothing to join."""
    job = Job("sweep", "orders", "In parts.", lambda _: {}, {"schedule": "off"}, parts=lambda _: [])
    with job_worker(orders, job) as worker:
        worker.trigger()
        eventually(lambda: runs(orders)[0].state == "finished")
    assert [(run.outcome, run.total) for run in runs(orders)] == [("succeeded", 0)]


def test_a_part_that_fails_is_retried_and_then_fails_the_whole_run(orders: ServiceContext, clock: FakeClock) -> None:
    """The other parts still succeed."""

    def work(run: RunContext) -> Counts:
        if run.part == 2:
            raise OutOfShares
        return {"done": 1}

    settings = {"schedule": "off", "retries": 1, "backoff": "1s"}
    job = Job("sweep", "orders", "In parts.", work, settings, parts=lambda _: [{}, {}, {}])
    with job_worker(orders, job) as worker:
        worker.trigger()
        eventually(lambda: [run.state for run in runs(orders)][1:] == ["finished", "waiting", "finished"])
        clock.move(seconds=2)
        worker.tick()
        eventually(lambda: runs(orders)[0].state == "finished")
    parent, first, second, third = runs(orders)
    assert (first.outcome, second.outcome, second.attempt, third.outcome) == ("succeeded", "failed", 2, "succeeded")
    assert parent.outcome == "failed"
    assert "1 of 3 parts did not succeed: 2 failed" in parent.error


def test_a_retried_part_runs_alone_and_is_joined_with_the_others(orders: ServiceContext) -> None:
    """The follower of the job runs once, after the join."""
    ran: list[int | None] = []
    broken = [True]

    def work(run: RunContext) -> Counts:
        ran.append(run.part)
        if run.part == 2 and broken[0]:
            raise Permanent("broken")
        return {"done": run.parameters["n"]}

    parts = [{"n": 1}, {"n": 20}, {"n": 300}]
    job = Job("sweep", "orders", "In parts.", work, {"schedule": "off", "retries": 0}, parts=lambda _: parts)
    follower = a_job(lambda _: {}, "follower", schedule="off", after="sweep")
    with job_worker(orders, job, follower) as worker:
        first = worker.trigger()
        eventually(lambda: runs(orders)[0].state == "finished")
        broken[0] = False
        ran.clear()
        failed = next(run for run in runs(orders) if run.part == 2)
        with orders.unit_of_work() as uow:
            again = control.retry(uow, failed.id, who="OPERATOR1")
        eventually(lambda: [run.state for run in runs(orders, "follower")] == ["finished"])
    assert ran == [2]
    whole = next(run for run in runs(orders) if run.id == again)
    assert (whole.trigger, whole.parent_run_id, whole.outcome) == ("retry", first, "succeeded")
    assert whole.counts == {"done": 321}
    assert [run.outcome for run in runs(orders) if run.parent_run_id == again] == ["succeeded"] * 3
    (followed,) = runs(orders, "follower")
    assert followed.parent_run_id == again


def test_canceling_a_run_cancels_its_parts(orders: ServiceContext) -> None:
    """Waiting parts never begin. The run ends when the parts in progress have ended."""
    gate = Gate()
    settings = {"schedule": "off", "parallel": 2}
    job = Job("sweep", "orders", "In parts.", gate, settings, parts=lambda _: [{}] * 5)
    with job_worker(orders, job) as worker:
        run_id = worker.trigger()
        eventually(lambda: len(gate.runs) == 2)
        assert worker.cancel(run_id) == "joining"
        worker.heartbeat.beat()
        eventually(lambda: runs(orders)[0].state == "finished")
    assert [run.outcome for run in runs(orders)] == ["canceled"] * 6
    assert len(gate.runs) == 2


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (float("nan"), "is no JSON"),
        (float("-inf"), "is no JSON"),
        ("a\0b", "must not contain NUL"),
        ({"deep": ["a\0b"]}, "must not contain NUL"),
        ("\ud800", "is no JSON"),
        (Decimal(1), "is no JSON"),
        (b"x", "is no JSON"),
        ("x" * LONGEST_PARAMETERS, "characters as JSON"),
        (10**200, "at most 128 characters"),
        (json.loads("[" * 40 + "]" * 40), "more than 32 levels"),
    ],
    ids=["nan", "infinite", "nul", "nested nul", "surrogate", "decimal", "bytes", "long", "huge", "deep"],
)
def test_a_parameter_of_a_part_that_cannot_be_stored_is_the_failure_of_the_run(
    orders: ServiceContext, value: object, says: str
) -> None:
    """At once and for good: a retry would make the same parts. The failure names the part and the parameter."""
    made: list[int] = []

    def parts(run: RunContext) -> Sequence[Mapping[str, Any]]:
        made.append(run.attempt)
        return [{"symbol": "\\u0000"}, {"symbol": value}]

    job = Job("sweep", "orders", "Has parts.", lambda _: {}, {"schedule": "off", "retries": 3}, parts=parts)
    with job_worker(orders, job) as worker:
        worker.trigger()
        worker.handled()
        (run,) = runs(orders)
    assert (run.outcome, run.error_kind, made) == ("failed", "permanent", [1])
    assert "part 2: parameters" in run.reason
    assert says in run.reason


@pytest.mark.parametrize(
    ("made", "says"),
    [
        (None, "must be a list, not NoneType"),
        (({"n": n} for n in range(2)), "must be a list, not generator"),
        ("ab", "must be a list, not str"),
        ([{"n": 1}, None], "part 2: must be a mapping of parameters, not NoneType"),
        ([{}] * (MOST_PARTS + 1), "must be at most 10000, not 10001"),
    ],
    ids=["none", "generator", "text", "no mapping", "too many"],
)
def test_parts_that_are_none_are_the_failure_of_the_run(orders: ServiceContext, made: Any, says: str) -> None:
    """A run that makes no list of parts does not stay in progress for ever."""
    job = Job("sweep", "orders", "Has parts.", lambda _: {}, {"schedule": "off"}, parts=lambda _: made)
    with job_worker(orders, job) as worker:
        worker.trigger()
        worker.handled()
        (run,) = runs(orders)
    assert (run.outcome, run.error_kind) == ("failed", "permanent")
    assert says in run.reason


def test_values_that_the_database_refuses_fail_a_run_for_good(orders: ServiceContext) -> None:
    """The body's own statement would be refused again."""
    ran: list[int] = []

    def refused(run: RunContext) -> Counts:
        ran.append(run.attempt)
        with run.context.engine.begin() as connection:
            connection.exec_driver_sql("SELECT CAST('NaN' AS integer)")
        return {}

    with job_worker(orders, a_job(refused, schedule="off", retries=3)) as worker:
        worker.trigger()
        worker.handled()
        (run,) = runs(orders)
    assert (run.outcome, run.error_kind, ran) == ("failed", "permanent", [1])
