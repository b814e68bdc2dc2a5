"""The tape: the bars of a file, all symbols at their common times, as live quotes.

Each step is the next time at which one of the wanted symbols has a bar. After the last time nothing comes any more.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable
from dataclasses import replace
from datetime import datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from services.marketdata.domain.bar import Bar
from services.marketdata.domain.quote import SPREAD_BPS, TICK, Quote, quote_of_bar
from services.marketdata.domain.replay import NAME, quoted_size
from shared.money import ZERO

_HALF_BPS = 20_000


class Tape:
    """Bars of one interval, by their starts. ``first`` and ``last`` are the times of the first and last bar."""

    def __init__(self, bars: Iterable[Bar], *, spread_bps: Decimal = SPREAD_BPS) -> None:
        self._steps: dict[datetime, dict[str, Bar]] = {}
        self._series: dict[str, list[Bar]] = {}
        for bar in sorted(bars, key=lambda each: (each.start, each.symbol)):
            self._steps.setdefault(bar.start, {})[bar.symbol] = bar
            self._series.setdefault(bar.symbol, []).append(bar)
        self._starts = {symbol: [bar.start for bar in series] for symbol, series in self._series.items()}
        self._times = list(self._steps)
        self._spread_bps = spread_bps
        self.first, self.last = self._times[0], self._times[-1]

    def next_quotes(self, at: datetime | None, symbols: Collection[str], now: datetime) -> tuple[list[Quote], datetime]:
        """The quotes of the next time after ``at`` that has any, stamped ``now``, and that time. None is the begin."""
        place = 0 if at is None else bisect_right(self._times, at)
        for time in self._times[place:]:
            found = [self._quote(bar, now) for symbol, bar in self._steps[time].items() if symbol in symbols]
            if found:
                return found, time
        return [], at or self.first

    def current_quotes(self, at: datetime | None, symbols: Collection[str], now: datetime) -> list[Quote]:
        """The newest price of each symbol that has one by then, in a bar in which nothing traded."""
        quotes = []
        for symbol in symbols:
            place = bisect_right(self._starts.get(symbol, []), at) if at else 0
            if place:
                bar = self._series[symbol][place - 1]
                last = bar.close
                untraded = replace(bar, open=last, high=last, low=last, volume=ZERO)
                quotes.append(self._quote(untraded, now, size=quoted_size(bar.volume)))
        return quotes

    def before(self, at: datetime) -> datetime | None:
        """The last time before ``at``. None if there is none."""
        place = bisect_left(self._times, at)
        return self._times[place - 1] if place else None

    def _quote(self, bar: Bar, now: datetime, *, size: Decimal | None = None) -> Quote:
        sides = _spread(bar.close, self._spread_bps)
        return quote_of_bar(bar, now, NAME, sides=sides, size=size or quoted_size(bar.volume))


def _spread(last: Decimal, spread_bps: Decimal) -> tuple[Decimal, Decimal]:
    """The assumed bid and ask, on ticks as fine as the price itself. There is no bid below the smallest price."""
    exponent = last.as_tuple().exponent
    tick = min(TICK, Decimal(1).scaleb(exponent)) if isinstance(exponent, int) else TICK
    half = max(tick, last * spread_bps / _HALF_BPS)
    bid = (last - half).quantize(tick, rounding=ROUND_FLOOR)
    return bid if bid > 0 else last, (last + half).quantize(tick, rounding=ROUND_CEILING)
