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
from shared.jobs.engine import claims, run_store
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


def test_an_edge_has_an_outcome_and_a_condition(orders: ServiceContext) -> None:
    """A run that does not satisfy an edge leaves a skipped run of the follower, which says why."""
    counts = {"prices_written": 5, "errors": 0}
    satisfied = [
        {"job": "good"},
        {"job": "good", "when": "prices_written > 4"},
        {"job": "good", "outcome": "finished", "when": "errors == 0"},
        {"job": "good", "when": "prices_written != -5"},
        {"job": "bad", "outcome": "failed"},
        {"job": "bad", "outcome": "finished"},
    ]
    unsatisfied = [
        ({"job": "good", "outcome": "failed"}, "good did not fail"),
        ({"job": "good", "when": "prices_written >= 6"}, "good ended without prices_written >= 6"),
        ({"job": "good", "when": "prices_written < 5"}, "good ended without prices_written < 5"),
        ({"job": "good", "when": "prices_read <= 5"}, "good ended without prices_read <= 5"),
        ({"job": "bad"}, "bad failed"),
        ({"job": "bad", "outcome": "finished", "when": "errors == 0"}, "bad ended without errors == 0"),
    ]
    jobs = [off("good", run=lambda _: counts), off("bad", run=fails)]
    jobs += [off(f"starts_{n}", [edge]) for n, edge in enumerate(satisfied)]
    jobs += [off(f"skips_{n}", [edge]) for n, (edge, _) in enumerate(unsatisfied)]
    with job_worker(orders, *jobs) as worker:
        worker.trigger("good")
        worker.trigger("bad")
        settled(worker)
    started = [outcomes(orders, f"starts_{n}") for n in range(len(satisfied))]
    assert started == [[("succeeded", None)]] * len(satisfied)
    skipped = [outcomes(orders, f"skips_{n}") for n in range(len(unsatisfied))]
    assert skipped == [[("skipped", why)] for _, why in unsatisfied]


def test_any_satisfied_edge_starts_the_run_once(orders: ServiceContext) -> None:
    """It is skipped if no edge can be satisfied, and that is heard of by the jobs after it."""
    jobs = [
        off("root"),
        off("good", "root"),
        off("better", "root"),
        off("bad", ["root"], run=fails),
        off("once", ["good", "better", "bad"], join="any"),
        off("never", ["bad", {"job": "good", "outcome": "failed"}], join="any"),
        off("after_never", ["never"]),
    ]
    with job_worker(orders, *jobs) as worker:
        worker.trigger("root")
        settled(worker)
    assert outcomes(orders, "once") == [("succeeded", None)]
    assert outcomes(orders, "never") == [("skipped", "bad failed and good did not fail")]
    assert outcomes(orders, "after_never") == [("skipped", "never was skipped")]


def test_a_retry_that_satisfies_the_last_edge_starts_the_join_once(orders: ServiceContext) -> None:
    """Its skipped run stays in the history. A retry of a parent that had succeeded starts nothing."""
    broken = [True]

    def body(_run: RunContext) -> Counts:
        if broken[0]:
            raise Permanent("no price")
        return {}

    jobs = [off("root"), off("good", "root"), off("bad", ["root"], run=body), off("last", ["good", "bad"])]
    with job_worker(orders, *jobs) as worker:
        worker.trigger("root")
        settled(worker)
        assert outcomes(orders, "last") == [("skipped", "bad failed")]
        broken[0] = False
        for job in ("good", "bad", "bad", "good"):
            with orders.unit_of_work() as uow:
                control.retry(uow, runs(orders, job)[0].id, who="OPERATOR1")
            settled(worker)
    assert outcomes(orders, "last") == [("skipped", "bad failed"), ("succeeded", None)]


def test_a_parent_that_was_canceled_leaves_a_skipped_run(orders: ServiceContext) -> None:
    """It was canceled while it waited. The other parents are not waited for."""
    gate = threading.Event()
    jobs = [
        off("root"),
        off("slow", ["root"], run=lambda _: {"waited": gate.wait(20)}),
        off("other", ["root"], run=lambda _: {"waited": gate.wait(20)}),
        off("last", ["slow", "other"]),
    ]
    with job_worker(orders, *jobs) as worker:
        worker.trigger("slow")
        worker.trigger("root")
        eventually(lambda: [run.state for run in runs(orders, "slow")] == ["running", "waiting"])
        worker.cancel(runs(orders, "slow")[1].id)
        worker.ticker.run()
        canceled = [run for run in runs(orders, "last") if run.round == runs(orders, "other")[0].round]
        assert [(run.outcome, run.reason) for run in canceled] == [("skipped", "slow was canceled")]
        gate.set()
        worker.cancel(eventually(lambda: [run for run in runs(orders, "last") if run.state == "waiting"])[0].id)
        settled(worker)


def test_two_jobs_that_people_start_one_after_the_other_are_joined(orders: ServiceContext) -> None:
    """Nothing leads from one to the other, so the run waits for the next run of the other, however often one runs."""
    jobs = [off("first"), off("second"), off("last", ["first", "second"])]
    with job_worker(orders, *jobs) as worker:
        for name in ("first", "first", "first", "second"):
            worker.trigger(name)
            eventually(lambda: not rows(orders.engine, "SELECT FROM jobs.job_runs WHERE active"))
            worker.tick()
        settled(worker)
        assert outcomes(orders, "last") == [("succeeded", None)]
        worker.trigger("second")
        eventually(lambda: [run.state for run in runs(orders, "last")] == ["finished", "waiting"])
        worker.tick()
        worker.trigger("first")
        settled(worker)
    assert outcomes(orders, "last") == [("succeeded", None)] * 2


def test_a_parent_that_was_lost_or_skipped_leaves_a_skipped_run(orders: ServiceContext) -> None:
    """The worker of one died, and the condition of the other did not hold."""
    closed = Job("closed", "orders", "", lambda _: {}, {"after": ["root"]}, when=lambda _: "the market is closed")
    jobs = [off("root"), off("good", ["root"]), closed, off("last", ["good", "closed"])]
    jobs += [
        off("dies", on_lost="fail"),
        off("after_it", ["dies"]),
        off("mends", [{"job": "dies", "outcome": "failed"}]),
    ]
    with job_worker(orders, *jobs) as worker:
        worker.trigger("root")
        settled(worker)
        assert outcomes(orders, "last") == [("skipped", "closed has no run in this round")]
        dead = running(orders, "dies")
        with orders.engine.begin() as connection:
            connection.execute(
                text("UPDATE jobs.job_runs SET heartbeat_at = now() - interval '1 hour' WHERE id = :i"), {"i": dead}
            )
        for _ in range(12):
            worker.tick()
        settled(worker)
    assert outcomes(orders, "after_it") == [("skipped", "dies was lost")]
    assert outcomes(orders, "mends") == [("succeeded", None)]


def running(context: ServiceContext, job: str, round_name: str | None = None) -> UUID:
    """Add a run that a worker holds."""
    add = text("""
    INSERT INTO jobs.job_runs (id, job, service, trigger, state, attempt, queued_at, started_at, worker, heartbeat_at,
                               round)
    VALUES (gen_random_uuid(), :job, :service, 'chain', 'running', 1, :now, :now, 'w', now(), :round) RETURNING id
    """)
    given = {"job": job, "service": context.service, "now": context.clock(), "round": round_name}
    with context.engine.begin() as connection:
        run_id: UUID = connection.execute(add, given).scalar_one()
        return run_id


def test_skips_for_one_reason_are_one_row(orders: ServiceContext) -> None:
    """The row counts them."""
    with job_worker(orders, off("idle"), off("busy", [{"job": "idle", "when": "orders_filled > 0"}])) as worker:
        for _ in range(3):
            worker.trigger("idle")
            settled(worker)
    assert [(run.reason, run.slots) for run in runs(orders, "busy")] == [("idle ended without orders_filled > 0", 3)]


def test_scheduled_runs_belong_to_the_round_of_their_slot(orders: ServiceContext, clock: FakeClock) -> None:
    """Two jobs of their own schedules are joined slot by slot. A round in which one has no slot is skipped."""
    clock.now = clock.now.replace(minute=0, second=0, microsecond=0)
    jobs = [a_job(lambda _: {}, "minutely", schedule="1m"), a_job(lambda _: {}, "rare", schedule="2m")]
    with job_worker(orders, *jobs, off("last", ["minutely", "rare"])) as worker:
        for _ in range(5):
            clock.move(minutes=1)
            settled(worker)
    last = sorted((run.round, run.outcome, run.reason) for run in runs(orders, "last"))[1:]  # from 12:01 on
    missing, begin = ("skipped", "rare has no run in this round"), clock.now.replace(minute=0)
    assert last == [
        (f"{begin:%Y-%m-%dT%H}:01:00Z", *missing),
        (f"{begin:%Y-%m-%dT%H}:02:00Z", "succeeded", None),
        (f"{begin:%Y-%m-%dT%H}:03:00Z", *missing),
        (f"{begin:%Y-%m-%dT%H}:04:00Z", "succeeded", None),
        (f"{begin:%Y-%m-%dT%H}:05:00Z", *missing),
    ]


@contextmanager
def two_services(urls: dict[str, str], clock: FakeClock) -> Iterator[list[ServiceContext]]:
    """Two parents of different services, and a follower of the second service."""
    with ExitStack() as stack:
        contexts = [stack.enter_context(context_of(name, urls, clock)) for name in ("orders", "marketdata")]
        first, second = contexts
        parents = [Job("first", "orders", "", lambda _: {}), Job("second", "marketdata", "", lambda _: {})]
        joined = Job("joined", "marketdata", "", lambda _: {}, {"after": edges(["first", "second"])})
        for context, jobs in ((first, parents[:1]), (second, [parents[1], joined])):
            with context.engine.begin() as connection:
                claims.declare(connection, jobs, clock(), load_market=load_market)
        yield contexts


def end(context: ServiceContext, run_id: UUID) -> bool:
    """End the run as its worker does."""
    with context.unit_of_work() as uow:
        return end_in(uow, run_id)


def end_in(uow: Any, run_id: UUID) -> bool:
    with uow.connection.begin_nested():
        held: Any = type("Held", (), {"id": run_id, "attempt": 1})
        return run_store.finish(uow, held, Finished(Outcome.SUCCEEDED))


def started(context: ServiceContext, round_name: str) -> list[Any]:
    """The joined runs of the round that may begin, or did."""
    find = """
    SELECT r.id FROM jobs.job_runs r JOIN jobs.joins k ON k.run_id = r.id
    WHERE r.job = 'joined' AND r.round = :round AND k.started_by IS NOT NULL
    """
    return rows(context.engine, find, round=round_name)


def test_parents_of_two_services_that_end_at_once_start_the_join_once(urls: dict[str, str], clock: FakeClock) -> None:
    """Twenty rounds, each with two parents that end at the same moment on connections of their own."""
    with two_services(urls, clock) as contexts:
        for number in range(20):
            round_name = f"round {number}"
            ids = [
                running(context, job, round_name) for context, job in zip(contexts, ("first", "second"), strict=True)
            ]
            barrier = threading.Barrier(2)

            def finish(context: ServiceContext, run_id: UUID, barrier: threading.Barrier = barrier) -> None:
                barrier.wait(10)
                end(context, run_id)

            threads = [threading.Thread(target=finish, args=each) for each in zip(contexts, ids, strict=True)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(20)
            assert len(started(contexts[0], round_name)) == 1
        assert len(runs(contexts[0], "joined")) == 20


@pytest.mark.parametrize("commits", [True, False])
def test_a_parent_waits_for_the_uncommitted_end_of_another(
    urls: dict[str, str], clock: FakeClock, *, commits: bool
) -> None:
    """The second end begins before the first is committed. If that is rolled back, its next try starts the run."""
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    with two_services(urls, clock) as (orders, marketdata):
        first, second = running(orders, "first", "r"), running(marketdata, "second", "r")
        thread = threading.Thread(target=end, args=(marketdata, second))
        with ExitStack() as stack:
            if not commits:
                stack.enter_context(pytest.raises(ConnectionError))
            uow = stack.enter_context(orders.unit_of_work())
            assert end_in(uow, first)
            thread.start()
            eventually(lambda: rows(marketdata.engine, waiting)[0][0] == 1)
            if not commits:
                raise ConnectionError("the process died before its commit")
        thread.join(20)
        assert len(started(orders, "r")) == (1 if commits else 0)
        assert end(orders, first) is not commits
        assert not end(marketdata, second)
        assert len(started(orders, "r")) == 1
        assert len(runs(orders, "joined")) == 1
