"""Made-up sessions of every kind for the known markets, to tell whether a schedule can have a slot there at all.

Hours, half days and fixed holidays are those of each market. A fifth of the other days are holidays and a fifth are
half days, on each day of the week.
"""

from collections.abc import Iterator
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from zoneinfo import ZoneInfo

from shared.contracts.market_hours import MARKET_DAYS
from shared.contracts.markets import CURRENCIES, MARKETS, KnownMarket
from shared.jobs.schedule.calendar import Market, Phase, Session

#: The sessions begin here, and last until every day of the year was each day of the week.
EXAMPLE_BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
EXAMPLE_END = datetime(2054, 1, 1, tzinfo=UTC)
_DAY = timedelta(days=1)
_SATURDAY = 5
#: A day of each cycle of so many days is a holiday, and the next one a half day. They fall on all days of the week.
_CYCLE, _HOLIDAY, _HALF_DAY = 5, 0, 1
_PRE_MARKET_OPENS, _AFTER_HOURS = time(4), timedelta(hours=4)


@cache
def example_market(code: str) -> Market:
    """Make up sessions for a known market. Raises KeyError for an unknown market."""
    known = MARKETS[code]
    zone = ZoneInfo(known.timezone)
    if known.always_open:
        return Market(code, zone, always_open=True)
    days = (EXAMPLE_BEGIN.date() + number * _DAY for number in range((EXAMPLE_END - EXAMPLE_BEGIN).days))
    return Market(code, zone, tuple(session for day in days for session in _sessions(known, day)))


def _sessions(market: KnownMarket, day: date) -> Iterator[Session]:
    """List the sessions of one day, none on weekends and holidays."""
    days, kind = MARKET_DAYS[market.code], day.toordinal() % _CYCLE
    if day.weekday() >= _SATURDAY or kind == _HOLIDAY or f"{day:%m-%d}" in days.closed:
        return
    if market.code == CURRENCIES:
        begin, end = market.day_bounds(day)
        yield Session(day, Phase.REGULAR, begin.astimezone(UTC), end.astimezone(UTC))
        return
    spans = (days.half if kind == _HALF_DAY else days.regular).split()
    edges = [tuple(_at(market, day, time.fromisoformat(text)) for text in span.split("-")) for span in spans]
    yield from (Session(day, Phase.REGULAR, *span) for span in edges)
    if days.extended:
        (first, *_), (*_, last) = edges[0], edges[-1]
        yield Session(day, Phase.PRE_MARKET, _at(market, day, _PRE_MARKET_OPENS), first)
        yield Session(day, Phase.AFTER_HOURS, last, last + _AFTER_HOURS)


def _at(market: KnownMarket, day: date, at: time) -> datetime:
    return datetime.combine(day, at, ZoneInfo(market.timezone)).astimezone(UTC)
