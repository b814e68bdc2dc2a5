"""Runs that fail: by kind of error, over their time limit, or without a dependency."""

import threading
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, cast

import pytest
from sqlalchemy import text

from shared.bus.unit_of_work import ServiceContext
from shared.jobs.declaration import Job
from shared.jobs.engine.failures import Permanent
from shared.jobs.run_context import Counts, RunContext, RunInterrupted
from shared.resilience.breakers import Breaker, BreakerOpen
from shared.resilience.rate_limits import RateLimited
from tests.component.job_worker import Body, Gate, JobWorker, OutOfShares, a_job, job_worker, runs
from tests.conftest import FakeClock
from tests.support import eventually, value


def test_a_job_that_raises_leaves_its_traceback_and_the_next_slot_runs(
    orders: ServiceContext, clock: FakeClock
) -> None:
    """A failure is an outcome of the run, not a dead letter."""
    failures = [OutOfShares("sold 11 of 10")]

    def fail_once(_run: RunContext) -> Counts:
        if failures:
            raise failures.pop()
        return {}

    with job_worker(orders, a_job(fail_once)) as worker:
        for _ in range(2):
            worker.tick()
            clock.move(seconds=1)
    failed, succeeded = runs(orders)
    assert (failed.outcome, failed.attempt, failed.counts, failed.error_kind) == ("failed", 1, {}, "unexpected")
    assert failed.error.startswith("Traceback (most recent call last):")
    assert "fail_once" in failed.error
    assert failed.error.splitlines()[-1].endswith("OutOfShares: sold 11 of 10")
    assert (succeeded.outcome, succeeded.error) == ("succeeded", None)
    assert value(orders.engine, "SELECT count(*) FROM orders.dead_letters") == 0


def test_an_error_of_the_database_is_shown_by_its_first_line(orders: ServiceContext) -> None:
    """Without the statement, its values and the link of SQLAlchemy. A list shows the last line."""

    def insert(run: RunContext) -> Counts:
        with run.context.engine.begin() as connection:
            statement = text("INSERT INTO orders.inbox VALUES (:consumer, gen_random_uuid(), NULL)")
            connection.execute(statement, {"consumer": "hunter2"})
        return {}

    with job_worker(orders, a_job(insert)) as worker:
        worker.tick()
    (failed,) = runs(orders)
    assert failed.outcome == "failed"
    assert failed.reason == failed.error.splitlines()[-1]
    assert 'null value in column "processed_at"' in failed.error.splitlines()[-1]
    for left_out in ("sqlalche.me", "VALUES", "[SQL"):
        assert left_out not in failed.error
        assert left_out not in failed.reason


@pytest.mark.parametrize(
    ("error", "kind", "attempts"),
    [
        (ConnectionResetError("by peer"), "transient", 3),
        (OutOfShares("sold 11 of 10"), "unexpected", 3),
        (Permanent("no such account"), "permanent", 1),
        (ValueError("not a number"), "permanent", 1),
    ],
)
def test_a_failure_is_retried_according_to_its_kind(
    orders: ServiceContext, clock: FakeClock, error: Exception, kind: str, attempts: int
) -> None:
    """The delays grow, and the job's setting limits the retries. A permanent error is never retried."""

    def fail(_run: RunContext) -> Counts:
        raise error

    with job_worker(orders, a_job(fail, schedule="1d", retries=2, backoff="10s")) as worker:
        worker.tick()
        pauses = []
        while (run := runs(orders)[0]).state == "waiting":
            pauses.append((run.not_before - clock.now).total_seconds())
            clock.now = run.not_before - timedelta(milliseconds=1)
            worker.tick()
            assert runs(orders)[0].attempt == run.attempt
            clock.now = run.not_before
            worker.tick()
    assert (run.outcome, run.error_kind, run.attempt, run.failures) == ("failed", kind, attempts, attempts)
    for pause, most in zip(pauses, (10, 20), strict=False):
        assert most / 2 <= pause <= most


def test_a_rate_limited_run_waits_until_the_limit_is_over(orders: ServiceContext, clock: FakeClock) -> None:
    """The run is not retried before, even if its own backoff is shorter."""
    retry_at = clock.now + timedelta(minutes=5)
    refusals: list[Exception] = [RateLimited("alphavantage", retry_at)]

    def fetch(_run: RunContext) -> Counts:
        if refusals:
            raise refusals.pop()
        return {"prices_written": 1}

    with job_worker(orders, a_job(fetch, schedule="1d", retries=1, backoff="1s")) as worker:
        worker.tick()
        assert [(run.state, run.not_before, run.error_kind) for run in runs(orders)] == [
            ("waiting", retry_at, "rate_limited")
        ]
        clock.now = retry_at
        worker.tick()
    assert [(run.outcome, run.counts) for run in runs(orders)] == [("succeeded", {"prices_written": 1})]


def test_a_run_whose_dependency_is_down_is_postponed_and_does_not_fail(
    orders: ServiceContext, clock: FakeClock
) -> None:
    """The run does not begin while the breaker is open, unless the job is critical."""
    ran: list[str] = []
    breaker = Breaker(orders, "provider", failures=1, pause=timedelta(minutes=1))
    with pytest.raises(ConnectionError), breaker:
        raise ConnectionError
    with pytest.raises(BreakerOpen), breaker:
        pass

    def record(name: str) -> Body:
        def body(_run: RunContext) -> Counts:
            ran.append(name)
            return {}

        return body

    needs = ("provider",)
    critical = {"schedule": "1d", "priority": "critical"}
    needy = Job("needy", "orders", "Needs it.", record("needy"), {"schedule": "1d"}, needs=needs)
    urgent = Job("urgent", "orders", "Needs it, too.", record("urgent"), critical, needs=needs)
    with job_worker(orders, needy, urgent) as worker:
        worker.tick()
        (waiting,) = runs(orders, "needy")
        assert (waiting.state, waiting.failures, waiting.reason) == ("waiting", 0, "waits for provider")
        assert ran == ["urgent"]
        clock.now = waiting.not_before
        worker.tick()
    assert ran == ["urgent", "needy"]
    assert runs(orders, "needy")[0].outcome == "succeeded"


def test_a_run_over_its_time_limit_is_ended_and_fails(orders: ServiceContext) -> None:
    """The run ends even if it never checks, and its thread is free again."""
    entered = threading.Event()

    def hang(_run: RunContext) -> Counts:
        entered.set()
        while True:
            threading.Event().wait(0.01)

    with job_worker(orders, a_job(hang, enabled=False, time_limit="1s"), threads=1) as worker:
        worker.trigger()
        assert entered.wait(10)

        def ended() -> bool:
            worker.heartbeat.beat()
            return bool(runs(orders)[0].state == "finished")

        eventually(ended)
        worker.handled()
    (run,) = runs(orders)
    assert (run.outcome, run.error_kind) == ("failed", "transient")
    assert "TimeLimitExceeded" in run.error


@pytest.mark.parametrize(
    "counted",
    [
        {"cash": Decimal("1.5")},
        {"at": datetime(2026, 11, 27, tzinfo=UTC)},
        {"rate": float("nan")},
        {"large": 2**63},
        {"nul\0": 1},
        {"": 1},
        {f"n{number}": 1 for number in range(101)},
        [1, 2],
        "many",
    ],
    ids=str,
)
def test_counts_that_cannot_be_stored_are_the_failure_of_their_run(orders: ServiceContext, counted: Any) -> None:
    """It is permanent: the body has done its work, and would do it again."""
    ran: list[int] = []

    def count(run: RunContext) -> Counts:
        ran.append(run.attempt)
        return cast("Counts", counted)

    with job_worker(orders, a_job(count, schedule="off", retries=3)) as worker:
        worker.trigger()
        eventually(lambda: [run.state for run in runs(orders)] == ["finished"])
        worker.trigger()
        eventually(lambda: [run.state for run in runs(orders)] == ["finished"] * 2)
    first, _ = runs(orders)
    assert (first.outcome, first.error_kind, first.attempt, ran) == ("failed", "permanent", 1, [1, 1])
    assert "InvalidCount" in first.reason


@pytest.mark.parametrize("done", [2**63, float("nan"), Decimal(1), "7"], ids=str)
def test_progress_that_cannot_be_stored_fails_its_run_and_no_other(
    orders: ServiceContext, clock: FakeClock, done: Any
) -> None:
    gate = Gate()

    def report(run: RunContext) -> Counts:
        run.progress(done, 10)
        return {}

    with job_worker(orders, a_job(report, schedule="off"), a_job(gate, "beside", schedule="off")) as worker:
        worker.trigger("beside")
        assert gate.entered.wait(10)
        worker.trigger()
        eventually(lambda: [run.state for run in runs(orders)] == ["finished"])
        before = runs(orders, "beside")[0].heartbeat_at
        clock.move(seconds=3)
        worker.heartbeat.beat()
        assert runs(orders, "beside")[0].heartbeat_at > before
        gate.opened.set()
        eventually(lambda: [run.outcome for run in runs(orders, "beside")] == ["succeeded"])
    assert [(run.outcome, run.error_kind) for run in runs(orders)] == [("failed", "permanent")]


@pytest.mark.parametrize("character", ["\0", "\ud800"], ids=["NUL", "surrogate"])
def test_an_outcome_that_the_database_refuses_ends_the_run(orders: ServiceContext, character: str) -> None:
    """A skip's reason with a NUL is one. The run neither stays under way nor runs again."""
    job = Job("sweep", "orders", "Skips.", lambda _: {}, {"schedule": "1s"}, when=lambda _: f"nothing{character}to do")
    with job_worker(orders, job) as worker:
        worker.tick()
        eventually(lambda: [run.state for run in runs(orders)] == ["finished"])
    (run,) = runs(orders)
    assert (run.outcome, run.error_kind, run.attempt) == ("failed", "permanent", 1)
    assert run.reason == "the database refused the outcome; see the log"


@pytest.mark.parametrize(
    "raised", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), RunInterrupted(), OutOfShares("x" * 2_000_000)]
)
def test_whatever_a_body_raises_the_run_ends(orders: ServiceContext, raised: BaseException) -> None:
    """Its worker stays, and the next run begins."""

    def end(_run: RunContext) -> Counts:
        raise raised

    with job_worker(orders, a_job(end, schedule="off"), threads=1) as worker:
        for ended in (1, 2):
            worker.trigger()
            worker.handled()
            assert [run.state for run in runs(orders)] == ["finished"] * ended
    (run, _) = runs(orders)
    assert (run.outcome, run.attempt) == ("failed", 1)
    assert type(raised).__name__ in run.reason
    assert len(run.reason) <= 500
    assert len(run.error) < 21_000


def test_a_long_reason_to_skip_is_cut(orders: ServiceContext) -> None:
    job = Job("sweep", "orders", "Skips.", lambda _: {}, {"schedule": "1s"}, when=lambda _: "x" * 1_000_000)
    with job_worker(orders, job) as worker:
        worker.tick()
        eventually(lambda: [run.outcome for run in runs(orders)] == ["skipped"])
    assert [run.reason for run in runs(orders)] == ["x" * 500]


@pytest.mark.parametrize(("overlap", "outcomes"), [("skip", [None, "skipped"]), ("cancel", ["canceled", "failed"])])
def test_a_slot_replaces_a_waiting_retry_if_the_job_says_so(
    orders: ServiceContext, clock: FakeClock, overlap: str, outcomes: list[str | None]
) -> None:
    """By default the run that waits for its retry is unfinished, so the slot is skipped."""

    def fail(run: RunContext) -> Counts:
        raise OutOfShares if run.slot == first else Permanent

    clock.now = clock.now.replace(second=30, microsecond=0)
    first = clock.now.replace(second=0)
    with job_worker(orders, a_job(fail, schedule="1m", retries=3, backoff="10m", overlap=overlap)) as worker:
        worker.tick()
        assert [run.state for run in runs(orders)] == ["waiting"]
        clock.move(seconds=40)
        worker.tick()
    assert [run.outcome for run in runs(orders)] == outcomes


def beaten(worker: JobWorker) -> list[str]:
    """Beat once, and return the states of the runs."""
    worker.heartbeat.beat()
    return [run.state for run in runs(worker.context)]


def test_a_time_limit_that_is_swallowed_comes_again(orders: ServiceContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.jobs.engine.heartbeat.AGAIN_SECONDS", 0.05)
    swallowed: list[BaseException] = []

    def stubborn(_run: RunContext) -> Counts:
        while True:
            try:
                threading.Event().wait(0.01)
            except BaseException as error:
                swallowed.append(error)
                if len(swallowed) == 3:
                    raise

    with job_worker(orders, a_job(stubborn, schedule="off", time_limit="1s")) as worker:
        worker.trigger()
        eventually(lambda: beaten(worker) == ["finished"])
    assert [run.outcome for run in runs(orders)] == ["failed"]
    assert len(swallowed) == 3


def test_a_canceled_run_that_hits_its_time_limit_ends_canceled(orders: ServiceContext) -> None:
    entered = threading.Event()

    def deaf(_run: RunContext) -> Counts:
        entered.set()
        while True:
            threading.Event().wait(0.01)

    with job_worker(orders, a_job(deaf, schedule="off", time_limit="1s")) as worker:
        run_id = worker.trigger()
        assert entered.wait(10)
        worker.cancel(run_id)
        eventually(lambda: beaten(worker) == ["finished"])
    assert [run.outcome for run in runs(orders)] == ["canceled"]


def test_an_error_is_saved_without_secrets_and_nul_characters(orders: ServiceContext) -> None:
    """An error with a provider's key and a NUL character fails the run, and the row can be written."""

    def fail(_run: RunContext) -> Counts:
        raise OutOfShares("GET /query?apikey=hunter2 answered \0")

    with job_worker(orders, a_job(fail, enabled=False)) as worker:
        worker.trigger()
        worker.handled()
    (run,) = runs(orders)
    assert (run.outcome, run.error_kind) == ("failed", "unexpected")
    assert run.reason.endswith("GET /query?apikey=*** answered \N{REPLACEMENT CHARACTER}")
    assert "hunter2" not in run.error
