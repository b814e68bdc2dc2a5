"""Runs on the in-process bus and a real PostgreSQL: begun by their message, finished once, whatever happens."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
import structlog
from dramatiq import Worker
from pydantic import BaseModel
from sqlalchemy.exc import OperationalError

from shared.bus.actors import Actors
from shared.bus.envelope import encode
from shared.bus.inprocess import InProcessBroker
from shared.bus.transaction import Unit
from shared.contracts.jobs import RunJob
from shared.jobs import control
from shared.jobs import runs as job_runs
from shared.jobs.breakers import Breaker, BreakerOpen
from shared.jobs.declaration import Job, Jobs
from shared.jobs.dispatching import LOST_AFTER
from shared.jobs.failures import Permanent
from shared.jobs.jobrun import Counts, JobRun
from shared.jobs.queues import QueueControl
from shared.jobs.rate_limits import RateLimited
from shared.jobs.settings import InvalidSetting
from shared.service import Service, attach, make_middleware
from tests.component.run_desk import Body, Gate, a_job, runs, working
from tests.component.watching import statements, unit_of
from tests.conftest import FakeClock
from tests.support import eventually, rows, send, value


class OutOfShares(RuntimeError):
    """What the failing job of these tests raises."""


class Symbols(BaseModel):
    symbols: list[str]


@pytest.fixture
def orders(urls: dict[str, str], clock: FakeClock) -> Iterator[Unit]:
    clock.now = clock.now.replace(hour=12, minute=0, second=1)  # far from where another hour or day begins
    with unit_of("orders", urls, clock) as unit:
        yield unit


def test_a_run_leaves_who_ran_it_when_and_what_it_counted(orders: Unit, clock: FakeClock) -> None:
    """The row that the tick wrote is filled in by the worker."""
    queued_at = clock.now
    with working(orders, a_job(lambda _: {"orders_filled": 3})) as at_work:
        at_work.tick()
        (run,) = runs(orders)
        assert run.worker == at_work.pulse.worker
    assert (run.trigger, run.attempt, run.state, run.outcome) == ("schedule", 1, "finished", "succeeded")
    assert (run.counts, run.error) == ({"orders_filled": 3}, None)
    assert queued_at == run.queued_at <= run.started_at <= run.finished_at


def test_a_run_costs_two_statements(orders: Unit) -> None:
    """One begins it and one ends it; the job's own and the bus's stand aside."""
    with working(orders, a_job(lambda _: {}, enabled=False)) as at_work:
        at_work.trigger()
        at_work.handled()
        with statements(orders.engine) as seen:
            at_work.trigger()
            at_work.handled()
    assert len([statement for statement in seen if "SET state = 'running'" in statement]) == 1
    assert len([statement for statement in seen if "SET state = 'finished'" in statement]) == 1


def test_a_trigger_runs_a_disabled_job_with_its_parameters(orders: Unit) -> None:
    """By hand a job runs at any time, and the operator's action is on record with the run's id."""
    given: list[Any] = []

    def note(run: JobRun) -> Counts:
        given.append((run.id, run.parameters))
        return {}

    job = Job("sweep", "orders", "Sweep.", note, {"enabled": False, "schedule": "1s"}, Symbols)
    with working(orders, job) as at_work:
        run_id = at_work.trigger(symbols=["AAPL"])
        at_work.handled()
        with pytest.raises(InvalidSetting) as refused:
            at_work.trigger(symbols=["AAPL", 3])
    (run,) = runs(orders)
    assert given == [(run_id, {"symbols": ["AAPL"]})]
    assert (run.id, run.trigger, run.scheduled_for, run.outcome) == (run_id, "manual", None, "succeeded")
    assert refused.value.field == "parameters.symbols.1"
    (action,) = rows(orders.engine, "SELECT * FROM jobs.operator_actions")
    assert (action.who, action.what, action.subject) == ("OPERATOR1", "trigger", "sweep")
    assert (action.before, action.after) == (None, {"run_id": str(run_id), "parameters": {"symbols": ["AAPL"]}})


def test_a_job_that_raises_leaves_its_traceback_and_the_next_slot_runs(orders: Unit, clock: FakeClock) -> None:
    """A failure is an outcome: nothing goes to the dead letters."""
    failures = [OutOfShares("sold 11 of 10")]

    def fail_once(_run: JobRun) -> Counts:
        if failures:
            raise failures.pop()
        return {}

    with working(orders, a_job(fail_once)) as at_work:
        for _ in range(2):
            at_work.tick()
            clock.move(seconds=1)
    failed, succeeded = runs(orders)
    assert (failed.outcome, failed.attempt, failed.counts, failed.error_kind) == ("failed", 1, {}, "unexpected")
    assert failed.error.startswith("Traceback (most recent call last):")
    assert "fail_once" in failed.error
    assert failed.error.splitlines()[-1].endswith("OutOfShares: sold 11 of 10")
    assert (succeeded.outcome, succeeded.error) == ("succeeded", None)
    assert value(orders.engine, "SELECT count(*) FROM orders.dead_letters") == 0


@pytest.mark.parametrize(
    ("error", "kind", "attempts"),
    [
        (ConnectionResetError("by peer"), "transient", 3),
        (OutOfShares("sold 11 of 10"), "unexpected", 3),
        (Permanent("no such account"), "permanent", 1),
        (ValueError("not a number"), "permanent", 1),
    ],
)
def test_a_failure_is_tried_again_as_its_kind_has_it(
    orders: Unit, clock: FakeClock, error: Exception, kind: str, attempts: int
) -> None:
    """With growing pauses and as often as the job says; a permanent one never."""

    def fail(_run: JobRun) -> Counts:
        raise error

    with working(orders, a_job(fail, schedule="1d", retries=2, backoff="10s")) as at_work:
        at_work.tick()
        pauses = []
        while (run := runs(orders)[0]).state == "waiting":
            pauses.append((run.not_before - clock.now).total_seconds())
            clock.now = run.not_before - timedelta(milliseconds=1)
            at_work.tick()
            assert runs(orders)[0].attempt == run.attempt
            clock.now = run.not_before
            at_work.tick()
    assert (run.outcome, run.error_kind, run.attempt, run.failures) == ("failed", kind, attempts, attempts)
    for pause, most in zip(pauses, (10, 20), strict=False):
        assert most / 2 <= pause <= most


def test_a_rate_limited_run_waits_until_the_limit_is_over(orders: Unit, clock: FakeClock) -> None:
    """Not a moment before, however short its own pause is."""
    retry_at = clock.now + timedelta(minutes=5)
    refusals: list[Exception] = [RateLimited("alphavantage", retry_at)]

    def fetch(_run: JobRun) -> Counts:
        if refusals:
            raise refusals.pop()
        return {"prices_written": 1}

    with working(orders, a_job(fetch, schedule="1d", retries=1, backoff="1s")) as at_work:
        at_work.tick()
        assert [(run.state, run.not_before, run.error_kind) for run in runs(orders)] == [
            ("waiting", retry_at, "rate_limited")
        ]
        clock.now = retry_at
        at_work.tick()
    assert [(run.outcome, run.counts) for run in runs(orders)] == [("succeeded", {"prices_written": 1})]


def test_a_run_that_needs_what_is_away_is_put_off_and_does_not_fail(orders: Unit, clock: FakeClock) -> None:
    """While the breaker is open it does not begin; a critical job begins all the same."""
    ran: list[str] = []
    breaker = Breaker(orders, "provider", failures=1, pause=timedelta(minutes=1))
    with pytest.raises(ConnectionError), breaker:
        raise ConnectionError
    with pytest.raises(BreakerOpen), breaker:
        pass

    def note(name: str) -> Body:
        def body(_run: JobRun) -> Counts:
            ran.append(name)
            return {}

        return body

    needs = ("provider",)
    critical = {"schedule": "1d", "priority": "critical"}
    needy = Job("needy", "orders", "Needs it.", note("needy"), {"schedule": "1d"}, needs=needs)
    urgent = Job("urgent", "orders", "Needs it, too.", note("urgent"), critical, needs=needs)
    with working(orders, needy, urgent) as at_work:
        at_work.tick()
        (waiting,) = runs(orders, "needy")
        assert (waiting.state, waiting.failures, waiting.reason) == ("waiting", 0, "waits for provider")
        assert ran == ["urgent"]
        clock.now = waiting.not_before
        at_work.tick()
    assert ran == ["urgent", "needy"]
    assert runs(orders, "needy")[0].outcome == "succeeded"


def test_skips_for_one_reason_are_one_row(orders: Unit, clock: FakeClock) -> None:
    """First slot, last slot and how many; another reason, or a run between, begins a new one."""
    reasons: list[str | None] = ["stale", "stale", "stale", "closed", None, "closed"]
    told = iter(reasons)
    job = Job("sweep", "orders", "Sweep.", lambda _: {}, {"schedule": "1s"}, when=lambda _: next(told))
    first = clock.now.replace(microsecond=0)
    with working(orders, job) as at_work:
        for _ in reasons:
            at_work.tick()
            clock.move(seconds=1)
    found = [(run.outcome, run.reason, run.scheduled_for, run.last_slot, run.slots) for run in runs(orders)]
    assert found == [
        ("skipped", "stale", first, first + timedelta(seconds=2), 3),
        ("skipped", "closed", first + timedelta(seconds=3), first + timedelta(seconds=3), 1),
        ("succeeded", None, first + timedelta(seconds=4), None, 1),
        ("skipped", "closed", first + timedelta(seconds=5), first + timedelta(seconds=5), 1),
    ]


def test_who_starts_a_job_by_hand_is_not_refused_by_its_condition(orders: Unit) -> None:
    """They know why they do it."""
    job = Job("sweep", "orders", "Sweep.", lambda _: {}, {"schedule": "off"}, when=lambda _: "never")
    with working(orders, job) as at_work:
        at_work.trigger()
        at_work.handled()
    assert [run.outcome for run in runs(orders)] == ["succeeded"]


def test_progress_shows_while_it_runs_and_a_cancel_ends_it(orders: Unit) -> None:
    """Done and total with the next beat; the run ends where it looks."""
    gate = Gate()

    def count_up(run: JobRun) -> Counts:
        run.progress(3, 10)
        return gate(run)

    with working(orders, a_job(count_up, enabled=False)) as at_work:
        run_id = at_work.trigger()
        assert gate.entered.wait(10)
        at_work.pulse.beat()
        (running,) = runs(orders)
        assert (running.state, running.done, running.total) == ("running", 3, 10)
        assert at_work.cancel(run_id) == "running"
        at_work.pulse.beat()
        at_work.handled()
    (ended,) = runs(orders)
    assert (ended.outcome, ended.done, ended.total, ended.reason) == ("canceled", 3, 10, "canceled while it ran")


def test_a_canceled_run_that_waits_never_begins(orders: Unit, clock: FakeClock) -> None:
    """It waited for the one before it."""
    gate = Gate()
    with working(orders, a_job(gate, enabled=False)) as at_work:
        at_work.trigger()
        assert gate.entered.wait(10)
        clock.move(seconds=1)
        second = at_work.trigger()
        assert at_work.cancel(second) == "finished"
        gate.opened.set()
        at_work.handled()
        at_work.tick()
    assert [(run.outcome, run.attempt) for run in runs(orders)] == [("succeeded", 1), ("canceled", 0)]


def test_a_canceled_run_whose_message_is_on_its_way_never_begins(orders: Unit) -> None:
    """Its queue is paused, so that the message lies there; when it comes, there is nothing to do."""
    ran: list[UUID] = []

    def note(run: JobRun) -> Counts:
        ran.append(run.id)
        return {}

    with working(orders, a_job(note, enabled=False)) as at_work:
        consumer = at_work.worker.consumers["orders.jobs"]
        consumer.pause()
        assert consumer.paused_event.wait(10)
        run_id = at_work.trigger()
        eventually(lambda: at_work.broker.queues["orders.jobs"].qsize() == 1)
        assert at_work.cancel(run_id) == "finished"
        consumer.resume()
        at_work.handled()
    assert [(run.outcome, run.attempt) for run in runs(orders)] == [("canceled", 0)]
    assert ran == []


def test_the_next_run_begins_when_the_one_before_it_ends(orders: Unit) -> None:
    """Two by hand while one runs: one after the other, without waiting for a tick."""
    gate = Gate()
    with working(orders, a_job(gate, enabled=False)) as at_work:
        ids = [at_work.trigger() for _ in range(3)]
        assert gate.entered.wait(10)
        assert [run.state for run in runs(orders)].count("waiting") == 2
        gate.opened.set()
        eventually(lambda: [run.state for run in runs(orders)] == ["finished"] * 3)
    assert sorted(run.id for run in gate.runs) == sorted(ids)


def test_a_run_over_its_time_limit_is_ended_and_fails(orders: Unit) -> None:
    """Also one that never looks; the thread is free for others."""
    entered = threading.Event()

    def hang(_run: JobRun) -> Counts:
        entered.set()
        while True:
            threading.Event().wait(0.01)

    with working(orders, a_job(hang, enabled=False, time_limit="1s"), threads=1) as at_work:
        at_work.trigger()
        assert entered.wait(10)

        def ended() -> bool:
            at_work.pulse.beat()
            return bool(runs(orders)[0].state == "finished")

        eventually(ended)
        at_work.handled()
    (run,) = runs(orders)
    assert (run.outcome, run.error_kind) == ("failed", "transient")
    assert "TimeLimitExceeded" in run.error


@pytest.mark.parametrize(("on_lost", "outcome", "attempts"), [("rerun", "succeeded", 2), ("fail", "lost", 1)])
def test_a_run_whose_worker_died_is_detected(
    orders: Unit, clock: FakeClock, on_lost: str, outcome: str, attempts: int
) -> None:
    """It says nothing for ten seconds: the run begins again, or is lost, as its job has it."""
    ran: list[int] = []

    def note(run: JobRun) -> Counts:
        ran.append(run.attempt)
        return {}

    with working(orders, a_job(note, enabled=False, on_lost=on_lost, retries=1)) as at_work:
        run_id = _begun_by_a_worker_that_died(orders)
        clock.now += LOST_AFTER
        at_work.tick()
        assert runs(orders)[0].state == "running"
        clock.move(seconds=0.001)
        at_work.tick()
    (run,) = runs(orders)
    assert (run.id, run.outcome, run.attempt, len(ran)) == (run_id, outcome, attempts, attempts - 1)
    assert run.reason == (None if on_lost == "rerun" else "its worker dead:1 died")


def _begun_by_a_worker_that_died(unit: Unit) -> UUID:
    with unit.engine.begin() as connection:
        insert = """INSERT INTO jobs.job_runs (id, job, service, trigger, state, attempt, queued_at, started_at, worker,
                                               heartbeat_at)
                    VALUES (gen_random_uuid(), 'sweep', 'orders', 'manual', 'running', 1, %(now)s, %(now)s,
                            'dead:1', %(now)s)
                    RETURNING id"""
        run_id: UUID = connection.exec_driver_sql(insert, {"now": unit.clock()}).scalar_one()
        return run_id


def test_a_worker_that_was_taken_for_dead_writes_nothing(orders: Unit, clock: FakeClock) -> None:
    """It was frozen; meanwhile another ran its run. It is told to end, and what it found stays unwritten."""
    gates = [Gate(), Gate()]
    taken = iter(gates)

    def hold(run: JobRun) -> Counts:
        gate = next(taken)
        gate.entered.set()
        gate.opened.wait(20)
        return {"attempt": run.attempt}

    with working(orders, a_job(hold, enabled=False, retries=1)) as at_work:
        at_work.trigger()
        assert gates[0].entered.wait(10)
        clock.now += 2 * LOST_AFTER
        at_work.ticker.move_on()  # this process's pulse did not beat
        # the run begins again; here the same process would refuse it, so another takes it
        with working_beside(orders, a_job(hold, enabled=False, retries=1)):
            assert gates[1].entered.wait(10)
            gates[0].opened.set()
            eventually(lambda: runs(orders)[0].attempt == 2)
            gates[1].opened.set()
            eventually(lambda: runs(orders)[0].state == "finished")
    (run,) = runs(orders)
    assert (run.outcome, run.attempt, run.counts) == ("succeeded", 2, {"attempt": 2})


@contextmanager
def working_beside(unit: Unit, job: Job) -> Iterator[None]:
    """A second worker process's runner on the messages that the first one does not take."""
    broker = InProcessBroker(middleware=make_middleware({"orders": unit}), queues=["orders.jobs"])
    attach(Service("orders", Actors(), Jobs("orders")), broker, unit, {job.name: job})
    worker = Worker(broker, worker_timeout=50, worker_threads=2)
    worker.start()
    (row,) = rows(unit.engine, "SELECT id, attempt FROM jobs.job_runs")
    try:
        broker.send(encode(RunJob(to="orders", run_id=row.id, job=job.name, attempt=row.attempt)))
        yield
    finally:
        worker.stop()


def test_a_message_that_comes_again_begins_nothing(orders: Unit) -> None:
    """Neither while the run is under way nor afterwards, nor that of an earlier attempt."""
    ran: list[UUID] = []

    def note(run: JobRun) -> Counts:
        ran.append(run.id)
        return {"times": len(ran)}

    with working(orders, a_job(note, enabled=False)) as at_work:
        run_id = at_work.trigger()
        at_work.handled()
        (first,) = runs(orders)
        for attempt in (None, 0, 1):
            send(orders, RunJob(to="orders", run_id=run_id, job="sweep", attempt=attempt))
            at_work.handled()
        assert runs(orders) == [first]
    assert ran == [run_id]


def test_a_late_message_does_not_swallow_the_next_one(orders: Unit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both come at once after an outage, an earlier try's first: the run begins all the same (found by a storm)."""
    entered, never, begin = threading.Event(), threading.Event(), job_runs.begin

    def begin_slowly(connection: Any, run_id: UUID, **given: Any) -> Any:
        if given["attempt"] == 7:  # the late one
            entered.set()
            never.wait(0.5)  # as long as the other message takes to be there
        return begin(connection, run_id, **given)

    monkeypatch.setattr("shared.jobs.runs.begin", begin_slowly)
    with working(orders, a_job(lambda _: {}, enabled=False)) as at_work:
        with orders.transaction() as tx:
            run_id = control.trigger(tx, "sweep", parameters={}, who="OPERATOR1")
            tx.outgoing.clear()
        late, right = (RunJob(to="orders", run_id=run_id, job="sweep", attempt=attempt) for attempt in (7, 0))
        send(orders, late)
        assert entered.wait(10)
        send(orders, right)
        at_work.handled()
    assert [(run.outcome, run.attempt) for run in runs(orders)] == [("succeeded", 1)]


def test_a_run_that_lost_the_database_is_tried_again(orders: Unit, clock: FakeClock) -> None:
    """It is not failed by an outage: the same run succeeds."""
    outages = [1]

    def lose_the_database_once(run: JobRun) -> Counts:
        with run.unit.transaction() as tx:
            if outages:
                outages.pop()
                tx.connection.exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())")
        return {"done": 1}

    with working(orders, a_job(lose_the_database_once, schedule="1d", retries=1)) as at_work:
        at_work.tick()
        (run,) = runs(orders)
        assert (run.state, run.error_kind) == ("waiting", "transient")
        clock.now = run.not_before
        at_work.tick()
    (run,) = runs(orders)
    assert (run.attempt, run.outcome, run.error, run.counts) == (2, "succeeded", None, {"done": 1})


def test_how_a_run_went_is_written_when_the_database_is_back(orders: Unit, monkeypatch: pytest.MonkeyPatch) -> None:
    """The job has done its work: it is not done twice because its end could not be written at once."""
    ran: list[UUID] = []
    outages = [1, 1]
    finish = job_runs.finish

    def fail_twice(tx: Any, run: Any, ending: Any) -> bool:
        if outages:
            outages.pop()
            tx.connection.exec_driver_sql("SELECT pg_terminate_backend(pg_backend_pid())")
        return bool(finish(tx, run, ending))

    def note(run: JobRun) -> Counts:
        ran.append(run.id)
        return {"done": 1}

    monkeypatch.setattr("shared.jobs.runs.finish", fail_twice)
    with working(orders, a_job(note, enabled=False)) as at_work:
        run_id = at_work.trigger()
        eventually(lambda: runs(orders)[0].state == "finished", seconds=30)
    (run,) = runs(orders)
    assert (run.outcome, run.attempt, run.counts, ran) == ("succeeded", 1, {"done": 1}, [run_id])


def test_a_job_follows_another_that_succeeded_or_finished(orders: Unit) -> None:
    """Each chained run names the one that it follows; a disabled one does not follow."""
    log: list[str] = []

    def body(name: str, *, fails: bool = False) -> Body:
        def run(_run: JobRun) -> Counts:
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
    with working(orders, *jobs) as at_work:
        good = at_work.trigger("good")
        bad = at_work.trigger("bad")
        eventually(lambda: sorted(log) == ["after_good", "bad", "good", "later", "whatever"])
        at_work.handled()
    (after_good,), (later,), (whatever,) = (runs(orders, name) for name in ("after_good", "later", "whatever"))
    assert (after_good.parent_run_id, later.parent_run_id, whatever.parent_run_id) == (good, after_good.id, bad)
    assert (after_good.trigger, runs(orders, "after_bad"), runs(orders, "disabled")) == ("chain", [], [])


def test_a_run_in_parts_runs_as_many_at_a_time_as_it_may_and_joins_them(orders: Unit) -> None:
    """Ten parts, three at a time on eight threads; what each counted comes together in their order."""
    under_way, most, lock = [0], [0], threading.Lock()
    joined: list[Sequence[Counts]] = []

    def value_account(run: JobRun) -> Counts:
        with lock:
            under_way[0] += 1
            most[0] = max(most[0], under_way[0])
        threading.Event().wait(0.02)  # so that parts overlap if they can
        with lock:
            under_way[0] -= 1
        return {"account": run.parameters["account"]}

    def parts(_run: JobRun) -> Sequence[Mapping[str, Any]]:
        return [{"account": number} for number in range(10)]

    def join(_run: JobRun, results: Sequence[Counts]) -> Counts:
        joined.append(results)
        return {"accounts": len(results)}

    settings = {"schedule": "off", "parallel": 3}
    job = Job("sweep", "orders", "In parts.", value_account, settings, parts=parts, join=join)
    with working(orders, job, threads=8) as at_work:
        at_work.trigger()
        eventually(lambda: runs(orders)[0].state == "finished")
        at_work.handled()
    parent, *children = runs(orders)
    assert (parent.outcome, parent.counts, parent.done, parent.total) == ("succeeded", {"accounts": 10}, 10, 10)
    assert [(child.part, child.outcome, child.parent_run_id) for child in children] == [
        (number, "succeeded", parent.id) for number in range(1, 11)
    ]
    assert joined == [[{"account": number} for number in range(10)]]
    assert 1 < most[0] <= 3


def test_a_run_without_parts_to_do_succeeds(orders: Unit) -> None:
    """No accounts yet: there is nothing to join."""
    job = Job("sweep", "orders", "In parts.", lambda _: {}, {"schedule": "off"}, parts=lambda _: [])
    with working(orders, job) as at_work:
        at_work.trigger()
        eventually(lambda: runs(orders)[0].state == "finished")
    assert [(run.outcome, run.total) for run in runs(orders)] == [("succeeded", 0)]


def test_a_part_that_fails_is_tried_again_and_then_fails_the_whole(orders: Unit, clock: FakeClock) -> None:
    """The other parts are done all the same."""

    def work(run: JobRun) -> Counts:
        if run.part == 2:
            raise OutOfShares
        return {"done": 1}

    settings = {"schedule": "off", "retries": 1, "backoff": "1s"}
    job = Job("sweep", "orders", "In parts.", work, settings, parts=lambda _: [{}, {}, {}])
    with working(orders, job) as at_work:
        at_work.trigger()
        eventually(lambda: [run.state for run in runs(orders)][1:] == ["finished", "waiting", "finished"])
        clock.move(seconds=2)
        at_work.tick()
        eventually(lambda: runs(orders)[0].state == "finished")
    parent, first, second, third = runs(orders)
    assert (first.outcome, second.outcome, second.attempt, third.outcome) == ("succeeded", "failed", 2, "succeeded")
    assert parent.outcome == "failed"
    assert "1 of 3 parts did not succeed: 2 failed" in parent.error


def test_a_cancel_ends_the_parts_too(orders: Unit) -> None:
    """Those that wait never begin; when those under way have ended, so has the whole."""
    gate = Gate()
    settings = {"schedule": "off", "parallel": 2}
    job = Job("sweep", "orders", "In parts.", gate, settings, parts=lambda _: [{}] * 5)
    with working(orders, job) as at_work:
        run_id = at_work.trigger()
        eventually(lambda: len(gate.runs) == 2)
        assert at_work.cancel(run_id) == "joining"
        at_work.pulse.beat()
        eventually(lambda: runs(orders)[0].state == "finished")
    assert [run.outcome for run in runs(orders)] == ["canceled"] * 6
    assert len(gate.runs) == 2


def test_a_run_goes_on_elsewhere_when_its_worker_is_stopped(orders: Unit) -> None:
    """A run that looks is not lost to a deployment, and the try does not count."""
    gate = Gate()
    with working(orders, a_job(gate, enabled=False)) as at_work:
        at_work.trigger()
        assert gate.entered.wait(10)
        at_work.pulse.interrupt()
        at_work.handled()
        (run,) = runs(orders)
        assert (run.state, run.failures, run.reason) == ("waiting", 0, "its worker was stopped")
        gate.opened.set()
        at_work.tick()
    assert [(run.outcome, run.attempt) for run in runs(orders)] == [("succeeded", 2)]


def test_a_retry_is_a_run_of_its_own_for_the_same_slot(orders: Unit, clock: FakeClock) -> None:
    """It names the run that it repeats; one that has not ended cannot be repeated."""
    slots: list[Any] = []
    gate = Gate()

    def note(run: JobRun) -> Counts:
        slots.append(run.slot)
        return gate(run) if len(slots) == 2 else {}

    with working(orders, a_job(note, schedule="1d")) as at_work:
        at_work.tick()
        (first,) = runs(orders)
        clock.move(minutes=5)
        with orders.transaction() as tx:
            again = control.retry(tx, first.id, who="OPERATOR1")
        assert gate.entered.wait(10)
        with pytest.raises(control.RunUnfinished), orders.transaction() as tx:
            control.retry(tx, again, who="OPERATOR1")
        gate.opened.set()
        at_work.handled()
    _, second = runs(orders)
    assert (second.id, second.trigger, second.parent_run_id, second.outcome) == (again, "retry", first.id, "succeeded")
    assert slots == [first.scheduled_for, first.scheduled_for]


def test_a_backfill_runs_the_slots_of_a_time_in_their_order(orders: Unit, clock: FakeClock) -> None:
    """One after the other, each for its slot, also of a disabled job."""
    slots: list[Any] = []

    def note(run: JobRun) -> Counts:
        slots.append(run.slot)
        return {}

    end = clock.now.replace(minute=0, second=0, microsecond=0)
    with working(orders, a_job(note, schedule="1h", enabled=False)):
        with orders.transaction() as tx:
            ids = control.backfill(tx, "sweep", end - timedelta(hours=5), end, parameters={}, who="OPERATOR1")
        eventually(lambda: [run.state for run in runs(orders)] == ["finished"] * 5)
    assert slots == [end - timedelta(hours=hours) for hours in (5, 4, 3, 2, 1)]
    assert {run.id for run in runs(orders)} == set(ids)


def test_a_backfill_that_asks_for_too_much_or_nothing_is_refused(orders: Unit, clock: FakeClock) -> None:
    """A thousand slots at a time, and at least one."""
    with working(orders, a_job(lambda _: {}, schedule="1h", enabled=False)):
        for hours, refusal in ((1001, control.TooManySlots), (0, control.NoSlots)):
            begin = clock.now - timedelta(hours=hours)
            with pytest.raises(refusal), orders.transaction() as tx:
                control.backfill(tx, "sweep", begin, clock.now, parameters={}, who="OPERATOR1")
    assert runs(orders) == []


def test_a_paused_queue_waits_and_goes_on(orders: Unit) -> None:
    """Its messages stay where they are; the operator's doing is on record."""
    ran: list[UUID] = []

    def note(run: JobRun) -> Counts:
        ran.append(run.id)
        return {}

    with working(orders, a_job(note, enabled=False)) as at_work:
        queues = QueueControl(orders, lambda: [at_work.worker])
        _set_paused(orders, paused=True)
        queues.look()
        assert queues.paused == {"orders.jobs"}
        consumer = at_work.worker.consumers["orders.jobs"]
        assert consumer.paused_event.wait(10)
        run_id = at_work.trigger()
        eventually(lambda: runs(orders)[0].state == "queued" and at_work.broker.queues["orders.jobs"].qsize() == 1)
        assert ran == []
        _set_paused(orders, paused=False)
        queues.look()
        at_work.handled()
    assert ran == [run_id]
    noted = "SELECT what, subject, before, after FROM jobs.operator_actions WHERE what <> 'trigger'"
    actions = rows(orders.engine, noted)
    assert [tuple(row) for row in actions] == [
        ("pause", "orders.jobs", {"paused": False}, {"paused": True}),
        ("resume", "orders.jobs", {"paused": True}, {"paused": False}),
    ]


def _set_paused(unit: Unit, *, paused: bool) -> None:
    with unit.transaction() as tx:
        control.set_queue_paused(tx, "orders.jobs", paused=paused, who="OPERATOR1")


def test_a_run_s_log_lines_carry_its_job_and_id(orders: Unit) -> None:
    """By them the system log finds what belongs to a run."""
    bound: list[Any] = []

    def note(_run: JobRun) -> Counts:
        bound.append(structlog.contextvars.get_contextvars())
        return {}

    with working(orders, a_job(note, enabled=False)) as at_work:
        run_id = at_work.trigger()
        at_work.handled()
    assert (bound[0]["job"], bound[0]["run_id"]) == ("sweep", str(run_id))


def test_an_outage_of_the_database_kills_no_run(orders: Unit, clock: FakeClock) -> None:
    """Nobody could say that it lives while PostgreSQL was away: its worker has ten seconds once more."""
    gate = Gate()
    with working(orders, a_job(gate, enabled=False)) as at_work:
        at_work.trigger()
        assert gate.entered.wait(10)
        clock.now += 3 * LOST_AFTER
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(at_work.ticker, "move_on", _away)
            at_work.ticker.send_with_options()
        at_work.ticker.send_with_options()
        assert runs(orders)[0].state == "running"
        at_work.pulse.beat()
        gate.opened.set()
        at_work.handled()
    assert [(run.outcome, run.attempt) for run in runs(orders)] == [("succeeded", 1)]


def _away() -> None:
    raise OperationalError("", {}, Exception("away"))
