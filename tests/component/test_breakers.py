"""Circuit breakers on a real PostgreSQL: what all replicas together let through, and what they leave alone."""

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
from tests.component.watching import statements, unit_of
from tests.conftest import FakeClock
from tests.servers.proxy import proxy_to

PAUSE, LONGEST, TRIAL = timedelta(seconds=30), timedelta(minutes=10), timedelta(minutes=2)


class ProviderAway(RuntimeError):
    """What a provider raises that does not answer."""


@pytest.fixture
def context(replicas: list[ServiceContext]) -> ServiceContext:
    return replicas[0]


def breaker_of(context: ServiceContext, name: str = "yahoo", failures: int = 1) -> Breaker:
    return Breaker(context, name, failures=failures, pause=PAUSE, longest=LONGEST, trial=TRIAL)


def fail(breaker: Breaker, error: BaseException | None = None) -> None:
    """A call that does not come back with an answer."""
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
    """A breaker whose pause is over."""
    fail(breaker_of(context, name))
    clock.now = shown(context, name)["next_attempt_at"]


def test_failures_in_a_row_open_it_for_all_replicas(replicas: list[ServiceContext], clock: FakeClock) -> None:
    """The others are refused at once, and told until when."""
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
    """Only what fails again and again is left alone."""
    one, other = (breaker_of(context, failures=2) for context in replicas)
    for _ in range(3):
        fail(one)
        succeed(other)
    assert (shown(replicas[0])["state"], shown(replicas[0])["failures"]) == ("closed", 0)


def test_as_long_as_nothing_fails_nothing_is_written(context: ServiceContext) -> None:
    """A call costs one statement, which reads."""
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
    """For all replicas, with a log line for each change."""
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
    """Up to the longest; half of it is random. Once closed, it begins with the first again."""
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
    """While it lasts, all others are refused; its success closes the breaker once."""
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
    """With one log line, and the pause of a first opening."""
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
    """By exactly one, after the time that an attempt may take."""
    for number in range(ROUNDS):
        name = f"provider {number}"
        open_and_wait(replicas[0], clock, name)
        breaker_of(replicas[0], name).__enter__()  # and never heard of again
        assert is_refused(breaker_of(replicas[1], name))
        clock.now += TRIAL
        attempts = [breaker_of(replicas[thread % 2], name) for thread in range(THREADS)]
        admitted = together(lambda thread, attempts=attempts: _is_admitted(attempts[thread]))  # type: ignore[misc]
        assert sorted(admitted) == [False] * (THREADS - 1) + [True]


def _is_admitted(breaker: Breaker) -> bool:
    """Whether it lets a call through, which then lasts."""
    try:
        breaker.__enter__()
    except BreakerOpen:
        return False
    return True


@pytest.mark.parametrize("error", [None, ProviderAway("no answer")])
def test_an_attempt_that_was_taken_for_dead_decides_nothing(
    replicas: list[ServiceContext], clock: FakeClock, error: BaseException | None
) -> None:
    """It may end after all: the attempt that was made in its place has the say."""
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
def test_an_error_that_is_not_the_dependency_s_fault_does_not_count(
    context: ServiceContext, error: BaseException
) -> None:
    """A mistake of ours, a refusal, or the end of the process."""
    fail(breaker_of(context), error)
    assert shown(context) == {}


@pytest.mark.parametrize("error", [ProviderAway(), TimeoutError(), ConnectionError(), TimeLimitExceeded()])
def test_an_error_that_is_its_fault_counts(context: ServiceContext, error: BaseException) -> None:
    """Also the time limit of who waited for it."""
    fail(breaker_of(context), error)
    assert shown(context)["state"] == "open"


def test_what_counts_is_the_caller_s_to_say(context: ServiceContext) -> None:
    """Some providers answer an outage with rubbish."""
    fail(
        Breaker(context, "yahoo", failures=1, counts=lambda error: isinstance(error, ValueError)), ValueError("rubbish")
    )
    assert shown(context)["state"] == "open"


def test_an_attempt_that_found_out_nothing_is_made_by_the_next(context: ServiceContext, clock: FakeClock) -> None:
    """It neither closes the breaker nor keeps others from trying."""
    open_and_wait(context, clock)
    fail(breaker_of(context), RateLimited("yahoo", clock.now))
    assert shown(context)["state"] == "open"
    succeed(breaker_of(context))
    assert shown(context)["state"] == "closed"


def test_the_same_breaker_may_be_used_by_many_threads(context: ServiceContext) -> None:
    """Each call is its own."""
    breaker = breaker_of(context, failures=THREADS + 1)
    together(lambda thread: fail(breaker) if thread % 2 else succeed(breaker))
    assert shown(context)["state"] == "closed"


def test_a_failure_of_our_database_is_not_the_provider_s(context: ServiceContext) -> None:
    """The block that is guarded stores what the provider said."""
    with pytest.raises(ProgrammingError), breaker_of(context), context.unit_of_work() as uow:
        uow.connection.execute(text("SELECT * FROM marketdata.missing"))
    assert shown(context) == {}


def test_without_a_database_its_error_passes_as_it_is(urls: dict[str, str]) -> None:
    """Nobody can know then whether the dependency may be called."""
    url = urls["marketdata"]
    with proxy_to(url) as proxy, unit_of("marketdata", {"marketdata": proxy.through(url)}) as context:
        proxy.refuse()
        with pytest.raises(OperationalError), breaker_of(context):
            pytest.fail("the provider was called")


def test_an_error_is_shown_without_its_secrets(context: ServiceContext) -> None:
    """A provider's address may hold the key; operators see the rest."""
    fail(breaker_of(context), ConnectionError("GET /query?apikey=hunter2 failed\nand more"))
    assert shown(context)["last_error"] == "ConnectionError: GET /query?apikey=*** failed"


def test_operators_see_every_breaker_that_counted_a_failure(context: ServiceContext) -> None:
    """By name, the closed ones too."""
    for name in ("yahoo", "alphavantage", "other"):
        fail(breaker_of(context, name))
    fail(breaker_of(context, "well", failures=2))
    with context.engine.connect() as connection:
        assert [row["name"] for row in breaker_rows(connection)] == ["alphavantage", "other", "well", "yahoo"]
