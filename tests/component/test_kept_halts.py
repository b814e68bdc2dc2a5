"""Halts on a real PostgreSQL: their history, and that no price is taken while one stands."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.exc import NoResultFound

from services.marketdata.actors import halt_trading
from services.marketdata.persistence import instruments, prices
from shared.bus.unit_of_work import ServiceContext
from shared.contracts.halts import HaltTrading, TradingHalted, TradingResumed
from tests.component.halting import halt, halts, quoted, resume, said, told
from tests.component.scripted_prices import made_up_quote
from tests.component.watching import marketdata_at, outbox
from tests.conftest import FakeClock
from tests.support import eventually, rows, value
from tests.unit.trading_examples import facts

Step = tuple[str, int, int]
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
SECOND = timedelta(seconds=1)


@pytest.fixture
def marketdata(urls: dict[str, str], clock: FakeClock) -> Iterator[ServiceContext]:
    """The service's context at noon of a Monday, with its instruments and no price yet."""
    with marketdata_at(NOON, urls, clock) as context:
        yield context


def test_a_halt_is_kept_with_its_reason_and_its_times(marketdata: ServiceContext, clock: FakeClock) -> None:
    """And told: when it begins, and when it ends."""
    halt_id = halt(marketdata, "T1")
    clock.move(minutes=5)
    resume(marketdata)
    (kept,) = halts(marketdata)
    assert (kept.id, kept.symbol, kept.reason) == (halt_id, "AAPL", "T1")
    assert (kept.began_at, kept.ended_at) == (NOON, NOON + timedelta(minutes=5))
    begun, ended = (sent.body for sent in outbox(marketdata))
    assert TradingHalted.model_validate(begun).began_at == kept.began_at
    assert TradingResumed.model_validate(ended) == TradingResumed(
        halt_id=halt_id, symbol="AAPL", ended_at=kept.ended_at
    )


def test_halting_and_resuming_twice_is_done_once(marketdata: ServiceContext, clock: FakeClock) -> None:
    """The first halt stays with its reason. A resume of what trades changes nothing. The history has each halt."""
    resume(marketdata)
    for reason in ("first", "second"):
        halt(marketdata, reason)
        clock.move(seconds=1)
    for _ in range(2):
        resume(marketdata)
        clock.move(seconds=1)
    assert [(each.reason, each.ended_at) for each in halts(marketdata)] == [("first", NOON + 2 * SECOND)]
    assert said(marketdata) == ["TradingHalted", "TradingResumed"]
    halt(marketdata, "third")
    assert [each.reason for each in halts(marketdata)] == ["first", "third"]


def test_a_command_that_comes_again_halts_nothing_again(marketdata: ServiceContext) -> None:
    """Under one id there is one halt, and that one is over."""
    command = HaltTrading(halt_id=uuid4(), symbol="AAPL", reason="news")
    for _ in range(2):
        with marketdata.unit_of_work() as uow:
            halt_trading(command, uow)
        resume(marketdata)
    assert len(halts(marketdata)) == 1
    assert instrument(marketdata).halted_at is None


def test_what_is_no_instrument_cannot_be_halted(marketdata: ServiceContext) -> None:
    for change in (halt, resume):
        with pytest.raises(NoResultFound):
            change(marketdata, symbol="NOPE")
    assert (halts(marketdata), said(marketdata)) == ([], [])


def test_no_price_is_taken_while_a_halt_stands(marketdata: ServiceContext, clock: FakeClock) -> None:
    """No row, no bar and no event has it. The provider is not even asked for it."""
    quoted(marketdata, "100")
    before = instrument(marketdata)
    clock.move(seconds=1)
    halt(marketdata)
    with marketdata.engine.connect() as connection:
        assert "AAPL" not in instruments.tradable(connection)
    for last in ("90", "80"):
        clock.move(seconds=1)
        assert quoted(marketdata, last) == 0
    after = instrument(marketdata)
    assert (after.sequence, after.last_price, after.quoted_at) == (before.sequence, before.last_price, NOON)
    assert value(marketdata.engine, "SELECT min(low) FROM marketdata.market_data") == 100


def test_the_first_price_after_a_halt_has_no_bar(marketdata: ServiceContext, clock: FakeClock) -> None:
    """Trades since the price before it may lie in the halt. A price from there comes too late for ever."""
    quoted(marketdata, "100")
    clock.move(seconds=1)
    halt(marketdata)
    clock.move(minutes=1)
    resume(marketdata)
    assert quoted(marketdata, "90", NOON + 2 * SECOND) == 0
    clock.move(seconds=1)
    lows = []
    for last in ("101", "102"):
        assert quoted(marketdata, last, low="50", high="150") == 1
        clock.move(seconds=1)
        lows.append(value(marketdata.engine, "SELECT low FROM marketdata.market_data ORDER BY start_at DESC LIMIT 1"))
    assert lows == [101, 50]
    _, first, second = (event.prices[0] for event in told(marketdata))
    assert (first.since, first.low, first.high, first.open) == (None, first.last, first.last, first.last)
    assert second.since == first.quoted_at
    assert facts(second.low, second.high) == (50, 150)
    assert second.sequence == first.sequence + 1 == 3


def test_a_halt_that_meets_a_price_begins_after_it(marketdata: ServiceContext, clock: FakeClock) -> None:
    """The price is written and not committed: the halt waits, and what the price said was before it."""
    with ThreadPoolExecutor(1) as pool:
        with marketdata.unit_of_work() as uow:
            late = clock.move(seconds=5)
            assert prices.save_prices(uow.connection, [made_up_quote("AAPL", "100", late)], uow.now)
            clock.now = NOON + SECOND
            halting = pool.submit(halt, marketdata)
            eventually(lambda: waiting(marketdata) == 1)
        halting.result()
    (kept,) = halts(marketdata)
    assert kept.began_at == late


def test_a_price_that_meets_a_halt_is_not_taken(marketdata: ServiceContext, clock: FakeClock) -> None:
    """The halt is written and not committed: the price waits, and finds that it is too late."""
    command = HaltTrading(halt_id=uuid4(), symbol="AAPL", reason="news")
    with ThreadPoolExecutor(1) as pool:
        with marketdata.unit_of_work() as uow:
            halt_trading(command, uow)
            clock.move(seconds=1)
            pricing = pool.submit(quoted, marketdata, "100")
            eventually(lambda: waiting(marketdata) == 1)
        assert pricing.result() == 0
    assert told(marketdata) == []


CHANGES: dict[str, Callable[[ServiceContext], object]] = {"halt": halt, "resume": resume}
#: What happens next, and how many seconds later; a price is as many seconds old.
steps = st.lists(
    st.tuples(st.sampled_from(["halt", "resume", "quote", "quote"]), st.integers(0, 5), st.integers(0, 8)), max_size=25
)


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(steps)
def test_no_price_is_ever_told_whose_time_lies_in_a_halt(
    marketdata: ServiceContext, clock: FakeClock, steps: list[Step]
) -> None:
    """Prices may be late. Halts of a symbol never overlap, and one that has ended is followed by others."""
    with marketdata.engine.begin() as connection:
        connection.exec_driver_sql(_FORGET)
    clock.now = NOON
    for what, seconds, age in steps:
        now = clock.move(seconds=seconds)
        if what == "quote":
            quoted(marketdata, "100", now - age * SECOND)
        else:
            CHANGES[what](marketdata)
    kept = halts(marketdata)
    ends = [each.ended_at for each in kept]
    assert None not in ends[:-1]
    assert all(end <= later.began_at for end, later in zip(ends, kept[1:], strict=False))
    for event in told(marketdata):
        (price,) = event.prices
        begun = [each for each in kept if each.began_at < price.quoted_at]
        assert not [each for each in begun if _lasted_beyond(each, price.since or price.quoted_at)]
    assert (instrument(marketdata).halted_at is not None) == (None in ends)


def _lasted_beyond(halt: Any, at: datetime) -> bool:
    return halt.ended_at is None or halt.ended_at > at


def instrument(context: ServiceContext) -> Any:
    (row,) = rows(context.engine, "SELECT * FROM marketdata.instruments WHERE symbol = 'AAPL'")
    return row


def waiting(context: ServiceContext) -> int:
    """The sessions that wait for a lock."""
    return int(value(context.engine, _WAITING))


_WAITING = """
SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
"""
_FORGET = """
TRUNCATE marketdata.halts, marketdata.outbox, marketdata.market_data;
UPDATE marketdata.instruments SET halted_at = NULL, halt_reason = NULL, resumed_at = NULL, quoted_at = NULL,
  sequence = 0, since = NULL, last_price = NULL
"""
