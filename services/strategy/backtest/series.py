"""The bars of a backtest: one series for each symbol, with its market's sessions and the strategy's indicators."""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import cached_property
from heapq import merge
from itertools import groupby
from operator import itemgetter
from zoneinfo import ZoneInfo

from services.strategy.strategies.columns import array_of, columns_of, days_from
from services.strategy.strategies.view import NO_SESSION, Bar, History, Indicator, Session
from shared.contracts.markets import DEFAULT_MARKET, MARKETS
from shared.exchange.trading_days import ALWAYS_OPEN, Hours
from shared.indicators.bars import Array, Bars


@dataclass(frozen=True)
class Calendar:
    """Regular trading of a market, day by day. A market that never closes has no ``days``."""

    market: str = DEFAULT_MARKET
    days: Mapping[date, Session] = field(default_factory=dict)

    @cached_property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(MARKETS.get(self.market, MARKETS[DEFAULT_MARKET]).timezone)

    @cached_property
    def sessions(self) -> Sequence[Session]:
        return [self.days[day] for day in sorted(self.days)]

    @cached_property
    def _opens(self) -> Sequence[datetime]:
        return [each.open_at for each in self.sessions if each.open_at is not None]

    def session_at(self, now: datetime) -> Session:
        """The session of the market's day, before, in or after it."""
        return self.days.get(now.astimezone(self.zone).date(), NO_SESSION)

    def end_after(self, now: datetime) -> datetime | None:
        """The end of the first session that ends after that time, with which day orders end."""
        place = max(bisect_right(self._opens, now) - 1, 0)
        ends = (each.close_at for each in self.sessions[place:] if each.close_at is not None)
        return next((end for end in ends if end > now), None)

    def hours(self, start: datetime, end: datetime) -> Hours:
        """The hours of a bar. In extended hours nothing fills, as in live trading."""
        if not self.days:
            return ALWAYS_OPEN
        place = bisect_right(self._opens, start) - 1
        session = self.sessions[place] if place >= 0 else NO_SESSION
        inside = session.open_at is not None and session.close_at is not None
        bar = inside and start < session.close_at  # type: ignore[operator]
        quote = inside and end <= session.close_at  # type: ignore[operator]
        return Hours(bar=bar, bar_extended=bar, quote=quote, quote_extended=quote, opened_at=session.open_at)


ALWAYS = Calendar()


@dataclass(frozen=True)
class Series:
    """A symbol's bars, oldest first and none twice, each ``interval`` long."""

    symbol: str
    bars: Sequence[Bar]
    interval: timedelta
    calendar: Calendar = ALWAYS
    #: None where it is the account's.
    currency: str | None = None

    @cached_property
    def columns(self) -> Bars:
        days = days_from(self.calendar.sessions) if self.calendar.days else None
        return columns_of(self.bars, self.interval, days)

    @cached_property
    def ends(self) -> list[datetime]:
        """The ends of the bars."""
        return [bar.start + self.interval for bar in self.bars]

    def values(self, indicators: Mapping[str, Indicator]) -> dict[str, Array]:
        """The indicators as arrays."""
        return {name: array_of(indicator, self.columns) for name, indicator in indicators.items()}

    def history(self, indicators: Mapping[str, Indicator]) -> History:
        """The bars with the indicators, which know no bar beyond their own."""
        return self.with_values(self.values(indicators))

    def with_values(self, values: Mapping[str, Array]) -> History:
        """The bars with these values. Lists are read faster than arrays."""
        return History(self.bars, {name: _listed(array) for name, array in values.items()})


def moments(series: Sequence[Series]) -> Iterator[tuple[datetime, Sequence[tuple[int, int]]]]:
    """Each time at which bars end, with the places of those bars: number of the series, index of the bar."""
    if len(series) == 1:
        for index, end in enumerate(series[0].ends):
            yield end, ((0, index),)
        return
    ends = merge(*(_ends(number, each) for number, each in enumerate(series)))
    for end, places in groupby(ends, key=itemgetter(0)):
        yield end, [place for _, place in places]


def _ends(number: int, series: Series) -> Iterator[tuple[datetime, tuple[int, int]]]:
    return ((bar.start + series.interval, (number, index)) for index, bar in enumerate(series.bars))


def _listed(array: Array) -> list[float | None]:
    return [None if value != value else value for value in array.tolist()]  # noqa: PLR0124 - only NaN differs from itself
