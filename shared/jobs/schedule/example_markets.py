"""Made-up sessions of every kind for the known markets, to tell whether a schedule can have a slot there at all.

Hours, half days and fixed holidays are those of each market. A fifth of the other days are holidays and a fifth are
half days, on each day of the week.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from zoneinfo import ZoneInfo

from shared.contracts.markets import CURRENCIES, MARKETS, KnownMarket
from shared.jobs.schedule.calendar import Market, Phase, Session

#: The sessions begin here, and last until every day of the year was each day of the week.
EXAMPLE_BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
EXAMPLE_END = datetime(2054, 1, 1, tzinfo=UTC)
_DAY = timedelta(days=1)
_SATURDAY = 5
#: A day of each cycle of so many days is a holiday, and the next one a half day. They fall on all days of the week.
_CYCLE, _HOLIDAY, _HALF_DAY = 5, 0, 1


@dataclass(frozen=True)
class _Days:
    """Trading by the market's clock: regular sessions of a day and of a half day, and days of the year without any."""

    regular: str
    half: str
    closed: str
    extended: bool = False


_NEW_YORK = _Days("09:30-16:00", "09:30-13:00", "01-01 06-19 07-04 12-25", extended=True)
_EURONEXT = _Days("09:00-17:30", "09:00-14:05", "01-01 05-01 12-25 12-26")
_FRANKFURT = _Days("09:00-17:30", "09:00-14:00", "01-01 05-01 12-24 12-25 12-26 12-31")
_TOKYO_CLOSED = "01-01 01-02 01-03 02-11 02-23 04-29 05-03 05-04 05-05 08-11 11-03 11-23 12-31"
_DAYS = {
    "XNYS": _NEW_YORK,
    "XNAS": _NEW_YORK,
    "XTSE": _Days("09:30-16:00", "09:30-13:00", "01-01 07-01 12-25 12-26"),
    "XLON": _Days("08:00-16:30", "08:00-12:30", "01-01 12-25 12-26"),
    "XETR": _FRANKFURT,
    "XPAR": _EURONEXT,
    "XAMS": _EURONEXT,
    "XMIL": _Days("09:00-17:30", "09:00-17:30", "01-01 05-01 08-15 12-24 12-25 12-26 12-31"),
    "XMAD": _Days("09:00-17:30", "09:00-14:00", "01-01 05-01 12-25 12-26"),
    "XSWX": _Days("09:00-17:30", "09:00-17:30", "01-01 01-02 05-01 08-01 12-24 12-25 12-26 12-31"),
    "XSTO": _Days("09:00-17:30", "09:00-13:00", "01-01 01-06 05-01 06-06 12-24 12-25 12-26 12-31"),
    "XTKS": _Days("09:00-11:30 12:30-15:30", "09:00-11:30", _TOKYO_CLOSED),
    "XHKG": _Days("09:30-12:00 13:00-16:00", "09:30-12:00", "01-01 05-01 07-01 10-01 12-25 12-26"),
    "XSHG": _Days("09:30-11:30 13:00-15:00", "09:30-11:30", "01-01 05-01 10-01 10-02 10-03"),
    "XASX": _Days("10:00-16:00", "10:00-14:10", "01-01 01-26 04-25 12-25 12-26"),
    CURRENCIES: _Days("", "", "01-01 12-25"),
}
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
    days, kind = _DAYS[market.code], day.toordinal() % _CYCLE
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
