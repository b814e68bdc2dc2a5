"""Indicators on a real PostgreSQL: whatever cuts their updates, the values equal a computation of the whole."""

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from math import isnan
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from sqlalchemy import Connection

from services.marketdata.jobs import old_values
from services.marketdata.persistence.instruments import Instrument, add_instruments
from services.marketdata.providers.replay import recording
from services.marketdata.settings import Settings
from services.marketdata.usecases import indicators
from services.marketdata.usecases.corporate_actions import apply_due, enter
from services.marketdata.usecases.update_indicators import Memory, update
from shared.bus.unit_of_work import ServiceContext
from shared.contracts.corporate_actions import ActionKind, EnterCorporateAction
from shared.contracts.indicators import (
    AddIndicator,
    GivenParameters,
    IndicatorName,
    RemoveIndicator,
    complete,
    indicator_id,
)
from shared.indicators.bars import LENGTHS, Bars, days_of
from shared.indicators.formulas import compute, numbers
from shared.jobs.maintenance import remove
from shared.storage.driver import fetch
from tests.component.watching import context_of, marketdata_at, statements
from tests.conftest import FakeClock
from tests.support import rows, value

NOW = datetime(2013, 3, 1, 12, tzinfo=UTC)
BEGIN = datetime(2012, 1, 2, tzinfo=UTC)
#: Recorded days, as bars of an interval of our choice: real prices in a real order.
DAYS = {symbol: days[-1500:] for symbol, days in recording().items() if len(days) > 1500}
KEEP = 100_000
ALL = {name: complete(name, GivenParameters()) for name in IndicatorName}


@pytest.fixture
def marketdata(urls: dict[str, str], clock: FakeClock) -> Iterator[ServiceContext]:
    with marketdata_at(NOW, urls, clock) as context:
        yield context


def ask_for(context: ServiceContext, symbol: str, interval: str, *names: IndicatorName) -> None:
    with context.unit_of_work() as uow:
        for name in names or IndicatorName:
            command = AddIndicator(symbol=symbol, interval=interval, name=name, requested_at=uow.now)
            indicators.add(uow, command)


def store(context: ServiceContext, symbol: str, interval: str, first: int, last: int, *, by: str = "1") -> datetime:
    """Write the recorded days from one number to another as bars of the interval, and return the end of the last."""
    length = LENGTHS[interval]
    bars = [
        {
            "symbol": symbol,
            "interval": interval,
            "start": BEGIN + number * length,
            **{name: getattr(DAYS[symbol][number], name) * Decimal(by) for name in ("open", "high", "low", "close")},
            "volume": DAYS[symbol][number].volume,
        }
        for number in range(first, last)
    ]
    with context.engine.begin() as connection:
        connection.exec_driver_sql(_STORE, bars)
    return BEGIN + last * length


_STORE = """
INSERT INTO marketdata.market_data (symbol, interval, start_at, open, high, low, close, volume, provider)
VALUES (%(symbol)s, %(interval)s, %(start)s, %(open)s, %(high)s, %(low)s, %(close)s, %(volume)s, 'test')
ON CONFLICT (symbol, interval, start_at) DO UPDATE SET
  open = excluded.open, high = excluded.high, low = excluded.low, close = excluded.close, volume = excluded.volume
"""


def run(context: ServiceContext, memory: Memory, keep: int = KEEP) -> dict[str, int]:
    return update(context, memory, keep_bars=keep, progress=lambda _done, _total: None)


def stored(context: ServiceContext, symbol: str, interval: str, name: IndicatorName) -> dict[datetime, list[float]]:
    """The values of the indicator's outputs by the starts of their bars."""
    found = indicator_id(symbol, interval, name, ALL[name])
    return {
        row.start_at: row.values
        for row in rows(
            context.engine,
            """
            SELECT v.start_at, v.values[i.slot * 3 + 1:i.slot * 3 + 3] AS values FROM marketdata.indicators_v1 i
            JOIN marketdata.indicator_values_v1 v USING (symbol, interval) WHERE i.id = :id AND i.ready ORDER BY 1
            """,
            id=found,
        )
    }


def whole(context: ServiceContext, symbol: str, interval: str) -> Bars:
    """All bars of the series in today's shares. The market is always open."""
    found = rows(
        context.engine,
        "SELECT * FROM marketdata.bars_v2 WHERE symbol = :s AND interval = :i ORDER BY start_at",
        s=symbol,
        i=interval,
    )
    starts = np.array([int(row.start_at.timestamp()) * 1_000_000 for row in found], dtype=np.int64)
    columns = [np.array([float(getattr(row, name)) for row in found]) for name in ("high", "low", "close", "volume")]
    return Bars(starts, *columns, starts if interval == "1d" else days_of(starts))


def check(context: ServiceContext, symbol: str, interval: str, *, last: int | None = None) -> None:
    """Assert that every value, or the last ones, equal a computation of the whole, and that none is missing."""
    bars = whole(context, symbol, interval)
    for name in IndicatorName:
        kept = stored(context, symbol, interval, name)
        expected = compute(name, numbers(ALL[name]), bars)
        if last is None:
            assert len(kept) == len(bars), name
        for number, output in enumerate(expected):
            ours = np.array([values[number] for values in kept.values()][-(last or len(kept)) :])
            theirs = output[-len(ours) :]
            assert (np.isnan(ours) == np.isnan(theirs)).all(), name
            off = np.abs(ours - theirs) / np.maximum(1.0, np.abs(theirs))
            assert np.nanmax(off, initial=0) <= 1e-9, name


@pytest.mark.parametrize("interval", ["15m", "1d"])
def test_values_equal_a_whole_computation_wherever_updates_and_restarts_cut_it(
    marketdata: ServiceContext, urls: dict[str, str], clock: FakeClock, interval: str
) -> None:
    """Two replicas take turns, and each is started again now and then. Restarts read the last bars only."""
    chance = random.Random(7)
    ask_for(marketdata, "AAPL", interval)
    with context_of("marketdata", urls, clock) as other:
        replicas = [(marketdata, Memory()), (other, Memory())]
        number = 0
        while number < len(DAYS["AAPL"]):
            step = chance.choice([1, 2, 3, 40, 300])
            clock.now = store(marketdata, "AAPL", interval, number, min(number + step, len(DAYS["AAPL"])))
            number += step
            context, memory = chance.choice(replicas)
            run(context, memory)
            if chance.random() < 0.3:
                again = chance.randrange(2)
                replicas[again] = (replicas[again][0], Memory())
    check(marketdata, "AAPL", interval)
    assert value(marketdata.engine, "SELECT count(*) FROM marketdata.changed_bars") == 0


def test_values_follow_a_split(marketdata: ServiceContext, clock: FakeClock) -> None:
    """All are of today's shares, those of before the split too, and updates go on from there."""
    ask_for(marketdata, "IBM", "1h")
    memory = Memory()
    clock.now = store(marketdata, "IBM", "1h", 0, 600)
    run(marketdata, memory)
    split = {"symbol": "IBM", "kind": ActionKind.SPLIT, "new_shares": 3, "old_shares": 1, "effective_at": clock.now}
    with marketdata.unit_of_work() as uow:
        enter(uow, EnterCorporateAction(**split, action_id=uuid4()))
        assert apply_due(uow) == 1
    clock.now = store(marketdata, "IBM", "1h", 600, 620, by="0.333333333333")
    assert run(marketdata, memory)["series_recomputed"] == 1
    check(marketdata, "IBM", "1h")
    clock.now = store(marketdata, "IBM", "1h", 620, 625, by="0.333333333333")
    assert run(marketdata, memory)["series_recomputed"] == 0
    check(marketdata, "IBM", "1h")


def test_late_and_corrected_bars_change_the_values_from_there_on(marketdata: ServiceContext, clock: FakeClock) -> None:
    """A bar that was missing, one that was wrong, and the last one. No value before them is written again."""
    ask_for(marketdata, "MSFT", "1h")
    memory = Memory()
    store(marketdata, "MSFT", "1h", 0, 500)
    clock.now = store(marketdata, "MSFT", "1h", 501, 900)
    run(marketdata, memory)
    assert run(marketdata, memory) == {"bars_computed": 0, "series_updated": 1, "series_recomputed": 0}
    for first, last, by in ((500, 501, "1"), (700, 702, "1.05"), (899, 900, "0.9")):
        store(marketdata, "MSFT", "1h", first, last, by=by)
        before = stored(marketdata, "MSFT", "1h", IndicatorName.RSI)
        counts = run(marketdata, memory)
        assert 0 < counts["bars_computed"] <= 900 - first
        check(marketdata, "MSFT", "1h")
        start = BEGIN + first * LENGTHS["1h"]
        after = stored(marketdata, "MSFT", "1h", IndicatorName.RSI)
        assert all(after[each][0] == values[0] for each, values in list(before.items())[20:] if each < start)


def test_an_update_that_fails_leaves_the_memory_as_the_database_is(
    marketdata: ServiceContext, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The series had taken the bars in already. The next update computes them, in the same process."""
    ask_for(marketdata, "AAPL", "5m")
    memory = Memory()
    clock.now = store(marketdata, "AAPL", "5m", 0, 500)
    run(marketdata, memory)
    clock.now = store(marketdata, "AAPL", "5m", 500, 503)
    with monkeypatch.context() as patch:
        patch.setattr("services.marketdata.persistence.indicators.save_series", _fail)
        with pytest.raises(RuntimeError):
            run(marketdata, memory)
    run(marketdata, memory)
    check(marketdata, "AAPL", "5m")


def _fail(*_: object) -> None:
    raise RuntimeError


def test_a_long_history_is_computed_in_parts_and_only_for_as_long_as_values_are_kept(
    marketdata: ServiceContext, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run that is ended in between is continued, and the values are those of the whole history."""
    monkeypatch.setattr("services.marketdata.usecases.update_indicators.BARS", 100)
    clock.now = store(marketdata, "IBM", "1h", 0, 1400)
    ask_for(marketdata, "IBM", "1h")
    parts: list[int] = []

    def progress(done: int, _total: int) -> None:
        parts.append(done)
        if len(parts) == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        update(marketdata, Memory(), keep_bars=900, progress=progress)
    first = value(marketdata.engine, "SELECT dirty_from FROM marketdata.indicator_series")
    assert first > BEGIN + 700 * LENGTHS["1h"]
    update(marketdata, Memory(), keep_bars=900, progress=progress)
    assert len(stored(marketdata, "IBM", "1h", IndicatorName.OBV)) == 900
    check(marketdata, "IBM", "1h", last=900)


def test_a_bar_that_has_not_closed_has_no_value(marketdata: ServiceContext, clock: FakeClock) -> None:
    """It changes with every price."""
    ask_for(marketdata, "AAPL", "1h", IndicatorName.SMA)
    clock.now = store(marketdata, "AAPL", "1h", 0, 30) - timedelta(seconds=1)
    run(marketdata, Memory())
    assert len(stored(marketdata, "AAPL", "1h", IndicatorName.SMA)) == 29
    clock.move(seconds=1)
    run(marketdata, Memory())
    assert len(stored(marketdata, "AAPL", "1h", IndicatorName.SMA)) == 30


def test_vwap_begins_anew_with_each_session_and_is_null_outside(
    marketdata: ServiceContext, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The session of New York on 2012-01-03 is from 14:30 to 21:00 UTC."""
    with marketdata.engine.begin() as connection:
        add_instruments(connection, [Instrument("NY", "New York", "XNYS")])
        connection.exec_driver_sql(_SESSION)
    monkeypatch.setitem(DAYS, "NY", DAYS["IBM"])
    ask_for(marketdata, "NY", "15m", IndicatorName.VWAP)
    clock.now = store(marketdata, "NY", "15m", 0, 200)
    run(marketdata, Memory())
    found = {start: values[0] for start, values in stored(marketdata, "NY", "15m", IndicatorName.VWAP).items()}
    opened = datetime(2012, 1, 3, 14, 30, tzinfo=UTC)
    inside = [start for start, vwap in found.items() if not isnan(vwap)]
    assert (inside[0], inside[-1], len(inside)) == (opened, datetime(2012, 1, 3, 20, 45, tzinfo=UTC), 26)
    first = DAYS["NY"][(opened - BEGIN) // LENGTHS["15m"]]
    assert found[opened] == pytest.approx(float((first.high + first.low + first.close) / 3), abs=1e-9)


_SESSION = """
INSERT INTO marketdata.market_sessions (market, open_at, close_at, day)
VALUES ('XNYS', '2012-01-03T14:30Z', '2012-01-03T21:00Z', '2012-01-03')
"""


def test_a_removed_indicator_leaves_no_value_to_its_successor(marketdata: ServiceContext, clock: FakeClock) -> None:
    """An indicator that is asked for twice is one. The last one takes all values of its series along."""
    memory = Memory()
    for _ in range(2):
        ask_for(marketdata, "AAPL", "1d", IndicatorName.EMA, IndicatorName.OBV)
    clock.now = store(marketdata, "AAPL", "1d", 0, 30)
    run(marketdata, memory)
    assert value(marketdata.engine, "SELECT array_agg(slot ORDER BY slot) FROM marketdata.indicators") == [0, 1]
    drop(marketdata, IndicatorName.EMA)
    ask_for(marketdata, "AAPL", "1d", IndicatorName.SMA)
    assert value(marketdata.engine, "SELECT max(slot) FROM marketdata.indicators") == 1
    assert stored(marketdata, "AAPL", "1d", IndicatorName.SMA) == {}
    run(marketdata, memory)
    (expected,) = compute(IndicatorName.SMA, {"period": 20}, whole(marketdata, "AAPL", "1d"))
    ours = [values[0] for values in stored(marketdata, "AAPL", "1d", IndicatorName.SMA).values()]
    assert ours == pytest.approx(expected.tolist(), abs=1e-9, nan_ok=True)
    for name in (IndicatorName.SMA, IndicatorName.OBV):
        drop(marketdata, name)
    for table in ("indicators", "indicator_series", "indicator_values"):
        assert value(marketdata.engine, f"SELECT count(*) FROM marketdata.{table}") == 0


def drop(context: ServiceContext, name: IndicatorName) -> None:
    with context.unit_of_work() as uow:
        gone = indicator_id("AAPL", "1d", name, ALL[name])
        indicators.remove(uow, RemoveIndicator(symbol="AAPL", indicator_id=gone))


def test_an_update_takes_as_many_statements_for_40_series_as_for_one(
    marketdata: ServiceContext, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that go past SQLAlchemy are counted too."""
    symbols = ["AAPL", *(f"S{number}" for number in range(39))]
    by_driver: list[str] = []

    def counted_fetch(connection: Connection, statement: str, given: dict[str, Any]) -> Any:
        by_driver.append(statement)
        return fetch(connection, statement, given)

    monkeypatch.setattr("services.marketdata.persistence.indicators.fetch", counted_fetch)
    monkeypatch.setattr(f"{__name__}.DAYS", {**DAYS, **dict.fromkeys(symbols, DAYS["AAPL"])})
    with marketdata.engine.begin() as connection:
        add_instruments(connection, [Instrument(symbol, "") for symbol in symbols[1:]])
    counts, memory = [], Memory()
    for number in (1, 40):
        for symbol in symbols[:number]:
            ask_for(marketdata, symbol, "1h", IndicatorName.SMA, IndicatorName.OBV)
            clock.now = store(marketdata, symbol, "1h", 0, 40)
        run(marketdata, memory)
        for symbol in symbols[:number]:
            clock.now = store(marketdata, symbol, "1h", 40, 41)
        by_driver.clear()
        with statements(marketdata.engine) as seen:
            assert run(marketdata, memory)["bars_computed"] == number
        counts.append(len(seen) + len(by_driver))
        with marketdata.engine.begin() as connection:
            connection.exec_driver_sql("DELETE FROM marketdata.market_data")
            connection.exec_driver_sql("TRUNCATE marketdata.indicators, marketdata.indicator_series")
            connection.exec_driver_sql("TRUNCATE marketdata.indicator_values")
        clock.now = NOW
    assert counts[0] == counts[1]


def test_old_values_are_removed_by_the_intervals_of_their_bars(marketdata: ServiceContext, clock: FakeClock) -> None:
    """As many bars stay of minutes as of days."""
    for interval in ("1m", "1d"):
        ask_for(marketdata, "AAPL", interval, IndicatorName.SMA)
        clock.now = store(marketdata, "AAPL", interval, 0, 300)
        run(marketdata, Memory())
        assert len(stored(marketdata, "AAPL", interval, IndicatorName.SMA)) == 300
        remove(marketdata, old_values(Settings(keep_indicator_bars=100)))
        assert len(stored(marketdata, "AAPL", interval, IndicatorName.SMA)) == 100
