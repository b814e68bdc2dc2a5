"""The feed on a real PostgreSQL: a steady push that goes on where it was, by one replica at a time."""

import pkgutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from datetime import date, datetime, timedelta
from decimal import Decimal

import pytest
from sqlalchemy import Connection

from services.marketdata.domain.recorded import RecordedDay
from services.marketdata.feed import Feed
from services.marketdata.providers.replay import ReplayProvider
from services.marketdata.providers.stateful import Answer, ProviderState, StatefulProvider
from services.marketdata.service import prepare
from services.marketdata.usecases.control_replay import control
from services.marketdata.usecases.update_prices import update_prices
from shared.bus.unit_of_work import ServiceContext
from shared.contracts.replay import ControlReplay, ReplayAction
from tests.component.watching import context_of, outbox
from tests.conftest import FakeClock
from tests.support import eventually, rows, value

FIRST_CLOSE = 1000
LENGTH = 5000
SPEED = 100


class ServiceKilled(RuntimeError):
    """Stands for the end of the process in the middle of a transaction."""


def recorded(number: int) -> RecordedDay:
    """The bar that closes at 1000 plus its number, so that a price tells its place."""
    price = Decimal(FIRST_CLOSE + number)
    return RecordedDay("AAPL", date(2000, 1, 1) + timedelta(days=number), price, price, price, price, Decimal(100))


class Counting(ReplayProvider):
    """A replay that counts how often it was moved on."""

    def __init__(self) -> None:
        super().__init__({"AAPL": tuple(recorded(number) for number in range(LENGTH))}, seed=1)
        self.moves = 0

    def advance(self, state: ProviderState | None, symbols: Sequence[str], now: datetime) -> Answer:
        self.moves += 1
        return super().advance(state, symbols, now)


@pytest.fixture
def marketdata(urls: dict[str, str]) -> Iterator[ServiceContext]:
    with context_of("marketdata", urls) as context:
        prepare(context)
        yield context


@contextmanager
def pushing(context: ServiceContext, provider: StatefulProvider) -> Iterator[None]:
    feed = Feed(context, provider, speed=SPEED)
    feed.start()
    try:
        yield
    finally:
        feed.stop()


def closes(context: ServiceContext) -> list[Decimal]:
    """The bars' closes in the order of time."""
    found = rows(context.engine, "SELECT close FROM marketdata.market_data WHERE interval = 'replay' ORDER BY start_at")
    return [row.close for row in found]


def place(context: ServiceContext) -> int:
    """The number of bars that the stored state has passed."""
    sql = "SELECT COALESCE((SELECT (state #>> '{places,AAPL,cursor}')::int FROM marketdata.provider_states), 0)"
    found: int = value(context.engine, sql)
    return found


def assert_whole(context: ServiceContext) -> None:
    """Bars, state, row and events tell of the same prices: from the first on, none missing, none twice."""
    pushed = [Decimal(FIRST_CLOSE + number) for number in range(place(context))]
    assert closes(context) == pushed
    assert [Decimal(sent.body["prices"][0]["last"]) for sent in outbox(context)] == pushed
    assert value(context.engine, "SELECT sequence FROM marketdata.instruments WHERE symbol = 'AAPL'") == len(pushed)


def looked(monkeypatch: pytest.MonkeyPatch) -> list[float | None]:
    """The periods that the feed finds from now on, each time that it looks."""
    found: list[float | None] = []
    look = Feed._current_period

    def noted(feed: Feed, lock: Connection) -> float | None:
        found.append(look(feed, lock))
        return found[-1]

    monkeypatch.setattr(Feed, "_current_period", noted)
    return found


def moved(context: ServiceContext, by: int = 20) -> Callable[[], bool]:
    """A probe: whether the feed has come so much further by then."""
    goal = place(context) + by
    return lambda: place(context) >= goal


def test_a_feed_goes_on_where_it_was_stopped(urls: dict[str, str], marketdata: ServiceContext) -> None:
    """Three starts, one series of bars."""
    for _ in range(3):
        with context_of("marketdata", urls) as context, pushing(context, Counting()):
            eventually(moved(marketdata))
        assert_whole(marketdata)


@pytest.mark.parametrize("after", ["providers.replay.ReplayProvider.advance", "persistence.prices.save_provider_state"])
def test_a_bar_and_the_place_of_the_feed_commit_together(
    marketdata: ServiceContext, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, after: str
) -> None:
    """Killed with the answer in hand or while it is stored, the feed pushes that bar at its next start."""
    feed = Feed(ServiceContext("marketdata", marketdata.engine, clock), Counting(), speed=SPEED)
    assert feed.push() == 1
    clock.move(seconds=1)
    done = pkgutil.resolve_name(f"services.marketdata.{after}")

    def do_it_and_die(*given: object) -> None:
        done(*given)
        raise ServiceKilled

    with monkeypatch.context() as dying:
        dying.setattr(f"services.marketdata.{after}", do_it_and_die)
        with pytest.raises(ServiceKilled):
            feed.push()
    assert place(marketdata) == 1
    assert_whole(marketdata)
    assert feed.push() == 1
    assert place(marketdata) == 2
    assert_whole(marketdata)


def test_of_two_feeds_one_pushes_and_the_other_takes_over(
    urls: dict[str, str], marketdata: ServiceContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the first has the lock the second does not touch the provider. When it stops, the second goes on."""
    monkeypatch.setattr("services.marketdata.feed.PAUSE_SECONDS", 0.02)
    first, second = Counting(), Counting()
    with ExitStack() as stack:
        one, two = (stack.enter_context(context_of("marketdata", urls)) for _ in range(2))
        with pushing(one, first):
            eventually(moved(marketdata))
            stack.enter_context(pushing(two, second))
            eventually(moved(marketdata, by=50))
            assert second.moves == 0
        pushed = first.moves
        eventually(moved(marketdata))
        assert first.moves == pushed
    assert first.moves + second.moves == place(marketdata)
    assert_whole(marketdata)


def test_a_feed_that_loses_its_lock_stops_until_it_has_it_again(
    urls: dict[str, str], marketdata: ServiceContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each time the session with the lock is cut, one of two feeds goes on. No bar is lost or pushed twice."""
    monkeypatch.setattr("services.marketdata.feed.PAUSE_SECONDS", 0.02)
    with ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(pushing(stack.enter_context(context_of("marketdata", urls)), Counting()))
        for _ in range(5):
            eventually(moved(marketdata))
            _cut_the_session_with_the_lock(marketdata)
        eventually(moved(marketdata))
    assert_whole(marketdata)


def _cut_the_session_with_the_lock(context: ServiceContext) -> None:
    holders = """SELECT pg_terminate_backend(pid) FROM pg_locks
                 WHERE locktype = 'advisory' AND granted
                   AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"""
    assert len(rows(context.engine, holders)) == 1


def test_a_push_that_is_older_than_a_poll_loses_no_bar(marketdata: ServiceContext, clock: FakeClock) -> None:
    """A push that waited for a poll has the older time: its bar is not skipped but comes with the next push."""
    context, provider, begun = ServiceContext("marketdata", marketdata.engine, clock), Counting(), clock.now
    feed = Feed(context, provider, speed=SPEED)
    feed.push()
    clock.now = begun + timedelta(milliseconds=2)
    update_prices(context, provider, provider.poll, interval="1m", length=None)
    for milliseconds in (1, 3, 4):
        clock.now = begun + timedelta(milliseconds=milliseconds)
        feed.push()
    assert closes(marketdata) == [FIRST_CLOSE + number for number in range(3)]
    assert place(marketdata) == 3


def test_pushes_at_the_same_time_take_turns(urls: dict[str, str], marketdata: ServiceContext) -> None:
    """Also without the feeds' lock no bar is pushed twice: one that finds the state moved on stores nothing."""
    with ExitStack() as stack, ThreadPoolExecutor(2) as pool:
        feeds = [Feed(stack.enter_context(context_of("marketdata", urls)), Counting(), speed=SPEED) for _ in range(2)]
        list(pool.map(lambda number: feeds[number % 2].push(), range(100)))
    assert closes(marketdata) == [FIRST_CLOSE + number for number in range(place(marketdata))]


def test_a_paused_feed_pushes_nothing_until_it_is_resumed(
    marketdata: ServiceContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An operator's pause, and a speed of their own, hold for the feed that runs."""
    monkeypatch.setattr("services.marketdata.feed.LOOK_SECONDS", 0.02)
    provider = Counting()

    def change(action: ReplayAction, **given: Decimal) -> None:
        with marketdata.unit_of_work() as uow:
            control(uow, provider, ControlReplay(action=action, **given))

    with pushing(marketdata, provider):
        eventually(moved(marketdata))
        change(ReplayAction.PAUSE)
        paused_at = place(marketdata)
        looks = looked(monkeypatch)
        eventually(lambda: len(looks) > 3)
        assert place(marketdata) == paused_at
        change(ReplayAction.SPEED, speed=Decimal(1000))
        change(ReplayAction.RESUME)
        eventually(moved(marketdata))
    assert_whole(marketdata)
