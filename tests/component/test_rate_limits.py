"""Rate limits on a real PostgreSQL, shared by all replicas, and the order of waiting callers."""

from datetime import datetime, timedelta
from itertools import combinations
from random import Random
from typing import Any

import pytest

from shared.bus.unit_of_work import ServiceContext
from shared.resilience.rate_limits import RateLimit, RateLimited, rate_limit_rows
from tests.component.replicas import ROUNDS, THREADS, together
from tests.component.watching import statements
from tests.conftest import FakeClock

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def context(replicas: list[ServiceContext]) -> ServiceContext:
    return replicas[0]


def limit_of(
    context: ServiceContext, name: str = "alphavantage", *, allowed: int = 5, period: timedelta = MINUTE
) -> RateLimit:
    return RateLimit(context, name, allowed=allowed, period=period)


def is_taken(limit: RateLimit) -> bool:
    try:
        limit.take()
    except RateLimited:
        return False
    return True


def shown(context: ServiceContext, now: datetime) -> dict[str, Any]:
    with context.engine.connect() as connection:
        (row,) = rate_limit_rows(connection, now)
    return row


class Waiting:
    """A fake wait, which records the seconds and moves the clock."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.seconds: list[float] = []

    def __call__(self, seconds: float) -> bool:
        self.seconds.append(seconds)
        self.clock.move(seconds=seconds)
        return False


def test_as_many_calls_as_allowed_pass_at_once_over_all_replicas(
    replicas: list[ServiceContext], clock: FakeClock
) -> None:
    """The next call is rejected with the time at which one would pass. Then exactly one passes."""
    one, other = map(limit_of, replicas)
    for limit in (one, other, one, other, one):
        limit.take()
    with pytest.raises(RateLimited, match="alphavantage allows no call before") as refused:
        other.take()
    assert refused.value.retry_at == clock.now + MINUTE / 5
    clock.now = refused.value.retry_at
    assert [is_taken(limit) for limit in (one, other)] == [True, False]


def test_a_call_that_passes_is_one_statement(context: ServiceContext) -> None:
    """The first call and later ones cost one statement each."""
    for _ in range(2):
        with statements(context.engine) as seen:
            limit_of(context).take()
        assert len(seen) == 1


def test_calls_at_the_same_time_never_exceed_the_rate(replicas: list[ServiceContext], clock: FakeClock) -> None:
    """Any stretch of time has at most the calls at once and one call for each part of the period."""
    jitter = Random(4)
    period, allowed = timedelta(seconds=10), 7  # a part is not a whole number of microseconds
    for number in range(ROUNDS):
        granted: list[tuple[datetime, int]] = []
        for _ in range(6):
            limits = [limit_of(context, f"provider {number}", allowed=allowed, period=period) for context in replicas]
            taken = together(lambda thread, limits=limits: is_taken(limits[thread % 2]))  # type: ignore[misc]
            granted.append((clock.now, sum(taken)))
            clock.move(seconds=jitter.choice([0.1, 1.4286, 3, 8]))
        assert granted[0][1] == allowed
        assert sum(calls for _, calls in granted) > allowed
        for first, last in combinations(range(len(granted)), 2):
            length = granted[last][0] - granted[first][0]
            assert sum(calls for _, calls in granted[first : last + 1]) <= allowed + length / (period / allowed)


def test_each_waiting_caller_gets_its_own_turn(replicas: list[ServiceContext]) -> None:
    """No caller waits and then finds its turn taken."""
    for number in range(ROUNDS):
        waited: list[float] = []

        def take(thread: int, number: int = number, waited: list[float] = waited) -> None:
            def pause(seconds: float) -> bool:
                waited.append(seconds)
                return False

            name = f"provider {number}"
            RateLimit(replicas[thread % 2], name, allowed=3, period=3 * SECOND, pause=pause).take(wait=MINUTE)

        together(take)
        assert sorted(waited) == [float(turn) for turn in range(1, THREADS - 2)]


def test_a_caller_waits_at_most_as_long_as_it_allows(context: ServiceContext, clock: FakeClock) -> None:
    """It is rejected at once if its turn would come later."""
    waiting = Waiting(clock)
    limit = RateLimit(context, "alphavantage", allowed=2, period=20 * SECOND, pause=waiting)
    for _ in range(4):
        limit.take(wait=10 * SECOND)
    assert waiting.seconds == [10, 10]
    with pytest.raises(RateLimited) as refused:
        limit.take(wait=9 * SECOND)
    assert refused.value.retry_at == clock.now + 10 * SECOND
    assert waiting.seconds == [10, 10]


def test_a_caller_that_is_told_to_stop_waits_no_longer(context: ServiceContext) -> None:
    """The call is not made."""
    limit = RateLimit(context, "alphavantage", allowed=1, period=MINUTE, pause=lambda _: True)
    limit.take()
    with pytest.raises(RateLimited):
        limit.take(wait=MINUTE)


def test_by_default_the_wait_is_real(context: ServiceContext, clock: FakeClock) -> None:
    """The default wait takes real time."""
    limit = limit_of(context, allowed=1, period=timedelta(milliseconds=1))
    for _ in range(3):
        limit.take(wait=SECOND)


def test_limits_are_shown_with_the_calls_that_are_left(context: ServiceContext, clock: FakeClock) -> None:
    """A limit shows the allowed calls, the calls available now, the next free time, and the rejected calls."""
    taken = [is_taken(limit_of(context)) for _ in range(7)]
    assert taken == [True] * 5 + [False] * 2
    row = {"name": "alphavantage", "allowed": 5, "period": MINUTE, "refused": 2}
    now = clock.now
    assert shown(context, now) == {**row, "available": 0, "next_free_at": now + 12 * SECOND}
    assert shown(context, now + 12 * SECOND) == {**row, "available": 1, "next_free_at": now + 12 * SECOND}
    assert shown(context, now + 35 * SECOND) == {**row, "available": 2, "next_free_at": now + 35 * SECOND}
    assert shown(context, now + timedelta(days=1)) == {**row, "available": 5, "next_free_at": now + timedelta(days=1)}


def test_a_limit_that_was_changed_does_not_block_by_the_old_one(context: ServiceContext, clock: FakeClock) -> None:
    """Calls that used up a day's limit count for at most a minute after the change."""
    for _ in range(3):
        limit_of(context, allowed=3, period=timedelta(days=1)).take()
    assert not is_taken(limit_of(context))
    clock.now += MINUTE / 5
    assert is_taken(limit_of(context))
    assert shown(context, clock.now)["period"] == MINUTE


def test_calls_from_before_the_clock_went_back_count_for_one_period(context: ServiceContext, clock: FakeClock) -> None:
    """The limit would refuse all calls for as long as the clock went back."""
    limit = limit_of(context)
    while is_taken(limit):
        pass
    clock.move(seconds=-7200)
    assert not is_taken(limit)
    clock.move(seconds=MINUTE.total_seconds())
    assert is_taken(limit)
