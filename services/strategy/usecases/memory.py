"""The bars that a process has read: an evaluation reads the new ones only, and computes indicators of arrays.

A series is read as a whole again after some minutes, after a split, and when a bar that was read twice has changed.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from threading import Lock
from weakref import WeakKeyDictionary

import numpy as np
from sqlalchemy import Connection, Engine

from services.strategy.persistence import market
from services.strategy.persistence.market import INTERVALS, InstrumentRow, SeriesKey
from services.strategy.strategies.columns import Days, Values, array_of, columns_of, sessions_of
from services.strategy.strategies.view import Bar, History, Indicator
from shared.contracts.indicators import IndicatorName
from shared.indicators.bars import Bars

#: A bar that somebody corrects or adds further back is seen after this time.
KEEP = timedelta(minutes=10)
#: The last bars are read again each time, because a provider may still correct them.
AGAIN = 3
#: Bars beyond those that are wanted, after which the oldest ones are dropped.
SLACK = 256


@dataclass(frozen=True, slots=True)
class Remembered:
    """The last bars of a series and their columns. ``wanted`` is the number that was read, if there were as many."""

    bars: list[Bar]
    columns: Bars
    loaded_at: datetime
    splits: int
    wanted: int


class Memory:
    """The series of one process and database. ``lock`` is held while they are read."""

    def __init__(self) -> None:
        self.lock = Lock()
        self._known: dict[SeriesKey, Remembered] = {}

    def read(
        self,
        connection: Connection,
        wanted: Mapping[SeriesKey, int],
        instruments: Mapping[str, InstrumentRow],
        now: datetime,
    ) -> dict[SeriesKey, Remembered]:
        """At least so many of the last complete bars of each series, if it has as many."""
        splits = {key: found.splits if (found := instruments.get(key[0])) else 0 for key in wanted}
        valid = {key: old for key, most in wanted.items() if (old := self._valid(key, most, splits[key], now))}
        since = {key: old.bars[-AGAIN].start for key, old in valid.items()}
        read = market.bars(connection, {key: (most, since.get(key)) for key, most in wanted.items()}, now)
        self._known = {}
        for key, new in read.items():
            old = valid.get(key)
            if old is None:
                self._known[key] = Remembered(new, columns_of(new, INTERVALS[key[1]]), now, splits[key], wanted[key])
            else:
                self._known[key] = _joined(old, new, INTERVALS[key[1]])
        return self._known

    def _valid(self, key: SeriesKey, most: int, splits: int, now: datetime) -> Remembered | None:
        old = self._known.get(key)
        if old is None or old.wanted < most or len(old.bars) < AGAIN or old.splits != splits:
            return None
        return old if timedelta(0) <= now - old.loaded_at < KEEP else None


_MEMORIES: WeakKeyDictionary[Engine, Memory] = WeakKeyDictionary()


def memory_of(engine: Engine) -> Memory:
    """The memory of this process for the database."""
    return _MEMORIES.setdefault(engine, Memory())


def history_of(
    series: Remembered, indicators: Mapping[str, Indicator], interval: timedelta, days: Days = None
) -> History:
    """The bars with the indicators by their names. ``days`` are the sessions of those that depend on them."""
    columns = series.columns
    if any(each.name == IndicatorName.VWAP for each in indicators.values()):
        columns = replace(columns, sessions=sessions_of(columns.starts, interval, days))
    return History(series.bars, {name: Values(array_of(each, columns)) for name, each in indicators.items()})


def _joined(old: Remembered, new: list[Bar], interval: timedelta) -> Remembered:
    """The bars with the new ones at the end. A bar that has changed has the whole series read again next time."""
    same = new[:AGAIN] == old.bars[-AGAIN:]
    if same and len(new) == AGAIN:
        return old
    drop = max(0, len(old.bars) - old.wanted - SLACK)
    bars, tail = old.bars[drop:-AGAIN] + new, columns_of(new, interval)
    columns = Bars(
        *(
            np.concatenate([getattr(old.columns, name)[drop:-AGAIN], getattr(tail, name)])
            for name in ("starts", "highs", "lows", "closes", "volumes", "sessions")
        )
    )
    return Remembered(bars, columns, old.loaded_at if same else old.loaded_at - KEEP, old.splits, old.wanted)
