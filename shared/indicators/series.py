"""The indicators of one series, kept up to date as its bars come.

The series keeps as many of its last bars as its indicators depend on. A new bar, or another version of the last one,
costs the same whatever the length of the history, and the values equal those of a computation of the whole.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from shared.contracts.indicators import IndicatorName, Parameters
from shared.indicators.bars import NO_SESSION, Array, Bars
from shared.indicators.formulas import bars_before, compute, numbers
from shared.indicators.ta_lib import talib

#: The largest number of outputs of an indicator.
OUTPUTS = 3
#: Bars that come before the columns are moved to make room.
ROOM = 256


@dataclass(frozen=True)
class Wanted:
    """An indicator to compute of a series. Its outputs are at ``slot`` times OUTPUTS in the values of a bar."""

    name: IndicatorName
    parameters: Parameters
    interval: str
    slot: int
    before: int = field(init=False)
    numbers: dict[str, Any] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "before", bars_before(self.name, self.parameters, self.interval))
        object.__setattr__(self, "numbers", numbers(self.parameters))


class Series:
    """``bars`` are the last ones, at least ``needed`` if there are as many. ``obv`` is the OBV at the last of them.

    Without ``obv``, they are all bars of the series.
    """

    def __init__(self, wanted: Sequence[Wanted], bars: Bars, obv: float | None) -> None:
        self.wanted = tuple(wanted)
        self.needed = needed(wanted)
        self._capacity = max(self.needed, len(bars)) + ROOM
        self._times = np.empty((2, self._capacity), dtype=np.int64)
        self._values = np.empty((5, self._capacity))
        self._size = 0
        self._width = OUTPUTS * (1 + max((each.slot for each in wanted), default=0))
        self._has_obv = any(each.name is IndicatorName.OBV for each in wanted)
        self._append(bars)
        if self._has_obv and len(bars):
            raw = talib.OBV(bars.closes, bars.volumes)
            self._values[4, : self._size] = raw if obv is None else raw + (obv - raw[-1])

    @property
    def bars(self) -> Bars:
        times, values, size = self._times, self._values, self._size
        return Bars(
            times[0, :size], values[0, :size], values[1, :size], values[2, :size], values[3, :size], times[1, :size]
        )

    def extend(self, bars: Bars) -> int:
        """Take bars in that follow, of which the first may replace the last one, and return how many values change."""
        if self._size and len(bars) and bars.starts[0] == self._times[0, self._size - 1]:
            if self._is_last(bars):
                bars = bars.between(1, None)
            else:
                self._size -= 1
        if not len(bars):
            return 0
        before = self._size
        self._append(bars)
        if self._has_obv:
            begin = max(0, self._size - len(bars) - 1)
            raw = talib.OBV(self._values[2, begin : self._size], self._values[3, begin : self._size])
            first = self._values[4, begin] if before else raw[0]
            self._values[4, begin : self._size] = raw + (first - raw[0])
        return len(bars)

    def values(self, number: int) -> Array:
        """Return the values at the last ``number`` bars: a row for each, with the outputs of all indicators."""
        bars, size = self.bars, self._size
        found = np.full((number, self._width), np.nan)
        for each in self.wanted:
            column = each.slot * OUTPUTS
            if each.name is IndicatorName.OBV:
                found[:, column] = self._values[4, size - number : size]
                continue
            begin = max(0, size - number - each.before)
            if each.name is IndicatorName.VWAP:
                begin = self._begin_of_session(size - number)
            for output in compute(each.name, each.numbers, bars.between(begin, None)):
                found[:, column] = output[-number:]
                column += 1
        return found

    def _begin_of_session(self, number: int) -> int:
        """Return the first bar in the session of that bar. A session's number is the time of its open."""
        session = self._times[1, number]
        if session == NO_SESSION:
            return number
        return int(np.searchsorted(self._times[0, : self._size], session))

    def _is_last(self, bars: Bars) -> bool:
        """Tell whether the first of the bars is the last one as it is known."""
        new = (bars.highs[0], bars.lows[0], bars.closes[0], bars.volumes[0], bars.sessions[0])
        return new == (*self._values[:4, self._size - 1], self._times[1, self._size - 1])

    def _append(self, bars: Bars) -> None:
        if self._size + len(bars) > self._capacity:
            self._make_room(len(bars))
        end = self._size + len(bars)
        self._times[:, self._size : end] = bars.starts, bars.sessions
        self._values[:4, self._size : end] = bars.highs, bars.lows, bars.closes, bars.volumes
        self._size = end

    def _make_room(self, number: int) -> None:
        """Keep the bars that are needed, and have room for so many more."""
        kept = min(self._size, self.needed)
        last = slice(self._size - kept, self._size)
        times, values = self._times[:, last].copy(), self._values[:, last].copy()
        if kept + number > self._capacity:
            self._capacity = kept + number + ROOM
            self._times = np.empty((2, self._capacity), dtype=np.int64)
            self._values = np.empty((5, self._capacity))
        self._times[:, :kept], self._values[:, :kept] = times, values
        self._size = kept


def needed(wanted: Sequence[Wanted]) -> int:
    """Return the number of bars that a series keeps: one more than its values depend on, as the last may change."""
    return max((each.before for each in wanted), default=0) + 2
