"""Compute the indicators of the bars that have closed, and again those of bars that were changed.

A process keeps the last bars of each series in memory, so an update reads only bars that are new. The database says
how far a series is computed and counts its changes. A process whose memory is of another state, because it was started
since or another replica updated the series, reads the last bars again. The values do not depend on that.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from itertools import islice
from math import isnan, nan
from threading import Lock

import numpy as np

from services.marketdata.persistence import indicators
from services.marketdata.persistence.columns_of_arrays import EPOCH, MICROSECOND, time_of
from services.marketdata.persistence.indicators import Key, SeriesRow, StoredBars, Values
from shared.bus.unit_of_work import ServiceContext, UnitOfWork
from shared.contracts.indicators import IndicatorName
from shared.contracts.markets import MARKETS
from shared.indicators.bars import LENGTHS, Bars, Times, days_of, sessions_between
from shared.indicators.series import OUTPUTS, Series, Wanted, needed

#: Series in one transaction.
BATCH = 500
#: Bars of a series in one transaction.
BARS = 2_000

Progress = Callable[[int, int], None]


class Memory:
    """The series that this process knows, each with the version and the last start of its state in the database.

    A series whose transaction is not known to have committed is not kept.
    """

    def __init__(self) -> None:
        self.lock = Lock()
        self._known: dict[Key, tuple[int, datetime | None, Series]] = {}

    def take(self, row: SeriesRow) -> Series | None:
        """Return the series in that state, if it is known. It is not known then until it is kept again."""
        version, computed_to, series = self._known.pop(row.key, (-1, None, None))
        return series if (version, computed_to) == (row.version, row.computed_to) else None

    def keep(self, row: SeriesRow, series: Series) -> None:
        self._known[row.key] = row.version, row.computed_to, series

    def forget_others(self, keys: Sequence[Key]) -> None:
        self._known = {key: self._known[key] for key in keys if key in self._known}


def update(context: ServiceContext, memory: Memory, *, keep_bars: int, progress: Progress) -> dict[str, int]:
    """Bring all indicators up to date, and count the values that changed.

    Values are stored for ``keep_bars`` intervals back. ``progress`` is told of series, and may raise to end the run.
    """
    with memory.lock:
        with context.unit_of_work() as uow:
            indicators.mark_changed(uow.connection)
            dirty = indicators.series_keys(uow.connection, dirty=True)
            clean = indicators.series_keys(uow.connection, dirty=False)
        memory.forget_others([*clean, *dirty])
        done, written, total = 0, 0, len(clean) + len(dirty)
        keys = iter(clean)
        while batch := list(islice(keys, BATCH)):
            for number in _advance(context, memory, batch):
                written += number
                progress(done, total)
            done += len(batch)
        for key in dirty:
            for number in _recompute(context, memory, key, keep_bars):
                written += number
                progress(done, total)
            done += 1
        progress(done, total)
    return {"bars_computed": written, "series_updated": len(clean), "series_recomputed": len(dirty)}


def _advance(context: ServiceContext, memory: Memory, keys: Sequence[Key]) -> Iterator[int]:
    """Compute the values of the bars that have closed since the last update, and yield the number of changed bars.

    The last bar is read again, as it may have changed while the last update ran.
    """
    more = True
    while more:
        with context.unit_of_work() as uow:
            rows = indicators.lock_series(uow.connection, keys, dirty=False)
            remembered = [memory.take(row) for row in rows]
            unknown = [row for row, series in zip(rows, remembered, strict=True) if series is None]
            read = iter(_read(uow, unknown, trusted=True))
            known = [series or next(read) for series in remembered]
            since = [row.computed_to or EPOCH for row in rows]
            until = [uow.now - LENGTHS[row.interval] for row in rows]
            found = indicators.next_bars(uow.connection, [row.key for row in rows], since, until, BARS)
            more = any(len(bars) == BARS for bars in found)
            moved, number = _take_in(uow, rows, known, found)
            indicators.save_series(
                uow.connection, [after for row, after in zip(rows, moved, strict=True) if row != after]
            )
        for row, series in zip(moved, known, strict=True):
            memory.keep(row, series)
        yield number


def _recompute(context: ServiceContext, memory: Memory, key: Key, keep_bars: int) -> Iterator[int]:
    """Compute the values of a series again from where it is dirty, and yield the number of changed bars.

    Each transaction takes some bars, and leaves the series dirty from the last of them. A run that ends early is
    continued by the next one.
    """
    more = True
    while more:
        with context.unit_of_work() as uow:
            rows = indicators.lock_series(uow.connection, [key], dirty=True)
            if not rows:
                return
            row, length = rows[0], LENGTHS[rows[0].interval]
            oldest = uow.now - keep_bars * length
            dirty_from = row.dirty_from or oldest
            since = max(dirty_from, oldest)
            if whole := dirty_from < oldest:
                indicators.remove_values(uow.connection, key, oldest)
            begin = replace(row, version=row.version + 1, computed_to=since - MICROSECOND)
            (series,) = _read(uow, [begin], trusted=not whole)
            found = indicators.next_bars(uow.connection, [key], [since], [uow.now - length], BARS)
            more = len(found[0]) == BARS
            again_from = time_of(int(found[0].starts[-1])) if more else None
            (after,), number = _take_in(uow, [begin], [series], found)
            after = replace(after, dirty_from=again_from)
            indicators.save_series(uow.connection, [after])
            if not more:
                indicators.mark_ready(uow.connection, key)
        memory.keep(after, series)
        yield number


def _read(uow: UnitOfWork, rows: Sequence[SeriesRow], *, trusted: bool) -> list[Series]:
    """Read the last bars of each series up to where it is computed. ``trusted`` tells if their values are right."""
    if not rows:
        return []
    keys = [row.key for row in rows]
    wanted = indicators.wanted(uow.connection, keys)
    most = [needed(wanted[key]) for key in keys]
    found = indicators.last_bars(uow.connection, keys, [row.computed_to or EPOCH for row in rows], most)
    bars = _with_sessions(uow, rows, found)
    obv = _obv_at_last(uow, wanted, dict(zip(keys, bars, strict=True)), trusted=trusted)
    return [Series(wanted[key], each, obv.get(key)) for key, each in zip(keys, bars, strict=True)]


def _obv_at_last(
    uow: UnitOfWork, wanted: Mapping[Key, Sequence[Wanted]], bars: Mapping[Key, Bars], *, trusted: bool
) -> dict[Key, float]:
    """Return the on-balance volume at the last bar of each series that has it among its indicators, and has bars."""
    slots = {
        key: each.slot
        for key, indicators_of_it in wanted.items()
        for each in indicators_of_it
        if each.name is IndicatorName.OBV and len(bars[key])
    }
    last = {key: int(bars[key].starts[-1]) for key in slots}
    stored = indicators.stored_values(uow.connection, list(last), list(last.values())) if trusted and last else {}
    found = {key: values[slots[key] * OUTPUTS] for key, values in stored.items() if slots[key] * OUTPUTS < len(values)}
    return {
        key: found[key] if not isnan(found.get(key, nan)) else indicators.obv_at(uow.connection, key, start)
        for key, start in last.items()
    }


def _take_in(
    uow: UnitOfWork, rows: Sequence[SeriesRow], known: Sequence[Series], found: Sequence[StoredBars]
) -> tuple[list[SeriesRow], int]:
    """Have the series take in the bars, and store the values. Return the rows as they are now, and the number."""
    moved, values = [], []
    for row, series, bars in zip(rows, known, _with_sessions(uow, rows, found), strict=True):
        number = series.extend(bars)
        moved.append(replace(row, computed_to=time_of(int(bars.starts[-1]))) if number else row)
        if number:
            values.append(Values(row.key, bars.starts[-number:], series.values(number)))
    return moved, indicators.save_values(uow.connection, values)


def _with_sessions(uow: UnitOfWork, rows: Sequence[SeriesRow], found: Sequence[StoredBars]) -> list[Bars]:
    """Add the session of each bar: the day's regular trading, or the day of a market that is always open."""
    within = [(row, bars) for row, bars in zip(rows, found, strict=True) if len(bars) and _has_sessions(row)]
    days: Mapping[str, tuple[Times, Times]] = {}
    if within:
        first = min(int(bars.starts[0]) for _, bars in within)
        last = max(int(bars.starts[-1]) for _, bars in within)
        days = indicators.trading_days(uow.connection, sorted({row.market for row, _ in within}), first, last)
    made = []
    for row, bars in zip(rows, found, strict=True):
        if row.interval == "1d":
            sessions = bars.starts
        elif _has_sessions(row):
            sessions = sessions_between(bars.starts, *days.get(row.market, _NO_DAYS))
        else:
            sessions = days_of(bars.starts)
        made.append(Bars(bars.starts, bars.highs, bars.lows, bars.closes, bars.volumes, sessions))
    return made


def _has_sessions(row: SeriesRow) -> bool:
    return row.interval != "1d" and not (row.market in MARKETS and MARKETS[row.market].always_open)


_NO_DAYS: tuple[Times, Times] = (np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))
