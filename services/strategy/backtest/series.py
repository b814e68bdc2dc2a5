"""The bars of a backtest: one series for each symbol, with the indicators that the strategy reads."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from heapq import merge
from itertools import groupby
from operator import attrgetter, itemgetter

import numpy as np

from services.strategy.strategies.view import Bar, History, Indicator
from shared.contracts.indicators import OUTPUTS, GivenParameters, IndicatorName, complete
from shared.indicators.bars import Bars
from shared.indicators.formulas import compute, numbers

EPOCH, MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)


@dataclass(frozen=True)
class Series:
    """A symbol's bars, oldest first and none twice, each ``interval`` long."""

    symbol: str
    bars: Sequence[Bar]
    interval: timedelta

    def history(self, indicators: Mapping[str, Indicator]) -> History:
        """The bars with the indicators, which know no bar beyond their own."""
        if not indicators:
            return History(self.bars, {})
        columns = _columns(self.bars)
        return History(self.bars, {name: _values(indicator, columns) for name, indicator in indicators.items()})


def moments(series: Sequence[Series]) -> Iterator[tuple[datetime, list[tuple[int, int]]]]:
    """Each time at which bars end, with the places of those bars: number of the series, index of the bar."""
    if len(series) == 1:
        interval = series[0].interval
        for index, bar in enumerate(series[0].bars):
            yield bar.start + interval, [(0, index)]
        return
    ends = merge(*(_ends(number, each) for number, each in enumerate(series)))
    for end, places in groupby(ends, key=itemgetter(0)):
        yield end, [place for _, place in places]


def _ends(number: int, series: Series) -> Iterator[tuple[datetime, tuple[int, int]]]:
    return ((bar.start + series.interval, (number, index)) for index, bar in enumerate(series.bars))


def _columns(bars: Sequence[Bar]) -> Bars:
    highs, lows, closes, volumes = (
        np.fromiter(map(float, map(attrgetter(name), bars)), np.float64, len(bars))
        for name in ("high", "low", "close", "volume")
    )
    starts = np.array([(bar.start - EPOCH) // MICROSECOND for bar in bars], dtype=np.int64)
    days = np.array([bar.start.toordinal() for bar in bars], dtype=np.int64)
    return Bars(starts, highs, lows, closes, volumes, days)


def _values(indicator: Indicator, columns: Bars) -> list[float | None]:
    name = IndicatorName(indicator.name)
    parameters = complete(name, GivenParameters(**indicator.parameters))
    if not len(columns):
        return []
    outputs = dict(zip(OUTPUTS[name], compute(name, numbers(parameters), columns), strict=True))
    chosen = outputs[indicator.output or OUTPUTS[name][0]]
    return [None if value != value else value for value in chosen.tolist()]  # noqa: PLR0124 - only NaN differs from itself
