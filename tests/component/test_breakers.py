"""Circuit breakers on a real PostgreSQL, shared by all replicas."""

import threading
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import pytest
from dramatiq.middleware import Shutdown, TimeLimitExceeded
from sqlalchemy import text
from sqlalchemy.exc import OperationalError, ProgrammingError

from shared.bus.unit_of_work import ServiceContext
from shared.clock import utc_now
from shared.resilience.breakers import Breaker, BreakerOpen, breaker_rows
from shared.resilience.rate_limits import RateLimited
from tests.component.replicas import ROUNDS, THREADS, together
from tests.component.watching import context_of, statements
from tests.conftest import FakeClock
from tests.servers.proxy import proxy_to

PAUSE, LONGEST, TRIAL = timedelta(seconds=30), timedelta(minutes=10), timedelta(minutes=2)


class ProviderAway(RuntimeError):
    """The error of a provider that does not answer."""


@pytest.fixture
def context(replicas: list[ServiceContext]) -> ServiceContext:
    return replicas[0]


def breaker_of(context: ServiceContext, name: str = "yahoo", failures: int = 1) -> Breaker:
    return Breaker(context, name, failures=failures, pause=PAUSE, longest=LONGEST, trial=TRIAL)


def fail(breaker: Breaker, error: BaseException | None = None) -> None:
    """Make a call that fails."""
    raised = error or ProviderAway("no answer")
    with pytest.raises(type(raised)), breaker:
        raise raised


def succeed(breaker: Breaker) -> None:
    with breaker:
        pass


def is_refused(breaker: Breaker) -> bool:
    try:
        succeed(breaker)
    except BreakerOpen:
        return True
    return False


def shown(context: ServiceContext, name: str = "yahoo") -> dict[str, Any]:
    with context.engine.connect() as connection:
        return next((row for row in breaker_rows(connection) if row["name"] == name), {})


def said(caplog: pytest.LogCaptureFixture, message: str) -> int:
    return sum(record.message == message for record in caplog.records)


def open_and_wait(context: ServiceContext, clock: FakeClock, name: str = "yahoo") -> None:
    """Open a breaker, and wait until its pause is over."""
    fail(breaker_of(context, name))
    clock.now = shown(context, name)["next_attempt_at"]


def test_failures_in_a_row_open_it_for_all_replicas(replicas: list[ServiceContext], clock: FakeClock) -> None:
    """Further calls are rejected at once, with the time of the next attempt."""
    one, other = (breaker_of(context, failures=3) for context in replicas)
    for breaker in (one, other, one):
        fail(breaker)
    with pytest.raises(BreakerOpen, match="yahoo keeps failing") as refused:
        succeed(other)
    assert clock.now + PAUSE / 2 <= refused.value.next_attempt_at <= clock.now + PAUSE
    assert shown(replicas[0]) == {
        "name": "yahoo",
        "state": "open",
        "failures": 3,
        "since": clock.now,
        "next_attempt_at": refused.value.next_attempt_at,
        "last_error": "ProviderAway: no answer",
    }


def test_a_success_between_failures_begins_the_count_anew(replicas: list[ServiceContext]) -> None:
    """Only failures in a row open the breaker."""
    one, other = (breaker_of(context, failures=2) for context in replicas)
    for _ in range(3):
        fail(one)
        succeed(other)
    assert (shown(replicas[0])["state"], shown(replicas[0])["failures"]) == ("closed", 0)


def test_while_nothing_fails_nothing_is_written(context: ServiceContext) -> None:
    """A call costs one statement, which only reads."""
    breaker = breaker_of(context, failures=2)
    with statements(context.engine) as seen:
        succeed(breaker)
    assert len(seen) == 1
    assert shown(context) == {}
    fail(breaker)
    succeed(breaker)
    before = _version(context)
    with statements(context.engine) as seen:
        succeed(breaker)
    assert (len(seen), _version(context)) == (1, before)


def _version(context: ServiceContext) -> Any:
    with context.engine.connect() as connection:
        return connection.execute(text("SELECT xmin, ctid FROM jobs.breakers")).one()


def test_after_the_pause_a_success_closes_it(
    replicas: list[ServiceContext], clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """The breaker closes for all replicas, with a log line for each change."""
    caplog.set_level("INFO")
    open_and_wait(replicas[0], clock)
    for context in replicas:
        succeed(breaker_of(context))
    row = shown(replicas[0])
    assert (row["state"], row["failures"], row["next_attempt_at"]) == ("closed", 0, None)
    assert [(record.levelname, record.message) for record in caplog.records] == [
        ("WARNING", "breaker opened"),
        ("INFO", "breaker closed"),
    ]


def test_each_attempt_that_fails_doubles_the_pause(context: ServiceContext, clock: FakeClock) -> None:
    """The pause grows up to the longest, and half of it is random. After a success it starts over."""
    breaker = breaker_of(context)
    for most in (30, 60, 120, 240, 480, 600, 600):
        fail(breaker)
        pause = shown(context)["next_attempt_at"] - clock.now
        assert timedelta(seconds=most / 2) <= pause <= timedelta(seconds=most)
        clock.now += pause
    assert shown(context)["failures"] == 7
    succeed(breaker)
    fail(breaker)
    assert shown(context)["next_attempt_at"] - clock.now <= PAUSE


def test_of_all_replicas_exactly_one_makes_the_attempt(
    replicas: list[ServiceContext], clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """All other calls are rejected during the attempt. Its success closes the breaker once."""
    caplog.set_level("INFO")
    for number in range(ROUNDS):
        name = f"provider {number}"
        open_and_wait(replicas[0], clock, name)
        refused = threading.Semaphore(0)

        def call(thread: int, name: str = name, refused: threading.Semaphore = refused) -> datetime:
            try:
                with breaker_of(replicas[thread % 2], name):
                    assert all(refused.acquire(timeout=15) for _ in range(THREADS - 1))
            except BreakerOpen as error:
                refused.release()
                return error.next_attempt_at
            return clock.now

        attempt, *others = sorted(together(call))
        assert attempt == clock.now
        assert all(clock.now < later <= clock.now + PAUSE for later in others)
        assert shown(replicas[0], name)["state"] == "closed"
    assert (said(caplog, "breaker opened"), said(caplog, "breaker closed")) == (ROUNDS, ROUNDS)


def test_calls_that_fail_at_the_same_time_open_it_once(
    replicas: list[ServiceContext], clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """There is one log line, and the pause is that of a first opening."""
    for number in range(ROUNDS):
        under_way = threading.Barrier(THREADS)

        def call(thread: int, number: int = number, under_way: threading.Barrier = under_way) -> None:
            breaker = breaker_of(replicas[thread % 2], f"provider {number}", failures=5)
            with suppress(ProviderAway), breaker:
                under_way.wait(15)
                raise ProviderAway("no answer")

        together(call)
        row = shown(replicas[0], f"provider {number}")
        assert (row["state"], row["since"]) == ("open", clock.now)
        assert 5 <= row["failures"] <= THREADS
        assert row["next_attempt_at"] <= clock.now + PAUSE
        assert said(caplog, "breaker opened") == number + 1


def test_an_attempt_whose_process_died_is_made_again(replicas: list[ServiceContext], clock: FakeClock) -> None:
    """Exactly one replica makes it, after the longest time that an attempt may take."""
    for number in range(ROUNDS):
        name = f"provider {number}"
        open_and_wait(replicas[0], clock, name)
        breaker_of(replicas[0], name).__enter__()  # and this process dies
        assert is_refused(breaker_of(replicas[1], name))
        clock.now += TRIAL
        attempts = [breaker_of(replicas[thread % 2], name) for thread in range(THREADS)]
        admitted = together(lambda thread, attempts=attempts: _is_admitted(attempts[thread]))  # type: ignore[misc]
        assert sorted(admitted) == [False] * (THREADS - 1) + [True]


def _is_admitted(breaker: Breaker) -> bool:
    """Tell whether the breaker admits a call. The call does not end."""
    try:
        breaker.__enter__()
    except BreakerOpen:
        return False
    return True


@pytest.mark.parametrize("error", [None, ProviderAway("no answer")])
def test_an_attempt_that_was_taken_for_dead_changes_nothing(
    replicas: list[ServiceContext], clock: FakeClock, error: BaseException | None
) -> None:
    """If it ends after all, only the attempt that replaced it counts."""
    open_and_wait(replicas[0], clock)
    late, current = (breaker_of(context) for context in replicas)
    late.__enter__()
    clock.now += TRIAL
    current.__enter__()
    before = shown(replicas[0])
    late.__exit__(type(error) if error else None, error, None)
    assert shown(replicas[0]) == before
    current.__exit__(None, None, None)
    assert shown(replicas[0])["state"] == "closed"


@pytest.mark.parametrize(
    "error",
    [ValueError("no such symbol"), KeyError("price"), BreakerOpen("other", utc_now()), Shutdown(), SystemExit()],
    ids=lambda error: type(error).__name__,
)
def test_an_error_that_says_nothing_about_the_dependency_does_not_count(
    context: ServiceContext, error: BaseException
) -> None:
    """Such errors are our own mistakes, rejected calls, and the end of the process."""
    fail(breaker_of(context), error)
    assert shown(context) == {}


@pytest.mark.parametrize("error", [ProviderAway(), TimeoutError(), ConnectionError(), TimeLimitExceeded()])
def test_an_error_of_the_dependency_counts(context: ServiceContext, error: BaseException) -> None:
    """The time limit of the caller counts too."""
    fail(breaker_of(context), error)
    assert shown(context)["state"] == "open"


def test_the_caller_may_choose_the_errors_that_count(context: ServiceContext) -> None:
    """Some providers return garbage during an outage."""
    fail(
        Breaker(context, "yahoo", failures=1, counts=lambda error: isinstance(error, ValueError)), ValueError("rubbish")
    )
    assert shown(context)["state"] == "open"


def test_an_attempt_without_a_finding_is_repeated_by_the_next_call(context: ServiceContext, clock: FakeClock) -> None:
    """An error that does not count neither closes the breaker nor delays the next attempt."""
    open_and_wait(context, clock)
    fail(breaker_of(context), RateLimited("yahoo", clock.now))
    assert shown(context)["state"] == "open"
    succeed(breaker_of(context))
    assert shown(context)["state"] == "closed"


def test_the_same_breaker_may_be_used_by_many_threads(context: ServiceContext) -> None:
    """Calls of several threads do not mix."""
    breaker = breaker_of(context, failures=THREADS + 1)
    together(lambda thread: fail(breaker) if thread % 2 else succeed(breaker))
    assert shown(context)["state"] == "closed"


def test_a_failure_of_our_database_is_not_the_provider_s(context: ServiceContext) -> None:
    """The guarded block may also write to the database."""
    with pytest.raises(ProgrammingError), breaker_of(context), context.unit_of_work() as uow:
        uow.connection.execute(text("SELECT * FROM marketdata.missing"))
    assert shown(context) == {}


def test_without_a_database_the_database_error_is_raised(urls: dict[str, str]) -> None:
    """It is unknown then whether the dependency may be called."""
    url = urls["marketdata"]
    with proxy_to(url) as proxy, context_of("marketdata", {"marketdata": proxy.through(url)}) as context:
        proxy.refuse()
        with pytest.raises(OperationalError), breaker_of(context):
            pytest.fail("the provider was called")


def test_an_error_is_shown_without_its_secrets(context: ServiceContext) -> None:
    """A provider's address may contain the key, which is replaced."""
    fail(breaker_of(context), ConnectionError("GET /query?apikey=hunter2 failed\nand more"))
    assert shown(context)["last_error"] == "ConnectionError: GET /query?apikey=*** failed"


def test_operators_see_every_breaker_that_counted_a_failure(context: ServiceContext) -> None:
    """Breakers are listed by name, including closed ones."""
    for name in ("yahoo", "alphavantage", "other"):
        fail(breaker_of(context, name))
    fail(breaker_of(context, "well", failures=2))
    with context.engine.connect() as connection:
        assert [row["name"] for row in breaker_rows(connection)] == ["alphavantage", "other", "well", "yahoo"]


def test_a_pause_from_before_the_clock_went_back_says_nothing(context: ServiceContext, clock: FakeClock) -> None:
    """The next call is the attempt, instead of none for as long as the clock went back."""
    breaker = breaker_of(context)
    fail(breaker)
    assert is_refused(breaker)
    clock.move(seconds=-3600)
    succeed(breaker)
    assert shown(context)["state"] == "closed"
