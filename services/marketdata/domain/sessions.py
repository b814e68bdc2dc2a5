"""The sessions of a trading day, from the hours that the exchange's calendar gives it.

A midday break divides regular trading into two sessions. New York also trades before and after: from 04:00, and for
four hours after the close, which on a half day is 13:00 to 17:00.
"""

from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from shared.contracts.markets import KnownMarket

#: Markets that trade outside of regular hours.
EXTENDED = frozenset({"XNYS", "XNAS"})
PRE_MARKET_OPENS = time(4)
AFTER_HOURS = timedelta(hours=4)


@dataclass(frozen=True, slots=True)
class Hours:
    """Regular trading of one day, in UTC. The times of a midday break are None where there is none."""

    day: date
    open_at: datetime
    close_at: datetime
    early_close: bool = False
    break_start: datetime | None = None
    break_end: datetime | None = None


@dataclass(frozen=True, slots=True)
class Session:
    """``kind`` is pre, regular or post. ``early_close`` marks every session of a short day."""

    market: str
    day: date
    kind: str
    open_at: datetime
    close_at: datetime
    early_close: bool


def sessions_of(market: KnownMarket, hours: Hours) -> list[Session]:
    """The day's sessions in order, none overlapping another."""
    if hours.break_start is None or hours.break_end is None:
        regular = [(hours.open_at, hours.close_at)]
    else:
        regular = [(hours.open_at, hours.break_start), (hours.break_end, hours.close_at)]
    # a day that ends with its morning has a break without length, and no afternoon
    spans = [("regular", begin, end) for begin, end in regular if begin < end]
    if market.code in EXTENDED:
        first = datetime.combine(hours.day, PRE_MARKET_OPENS, ZoneInfo(market.timezone)).astimezone(UTC)
        spans = [("pre", first, hours.open_at), *spans, ("post", hours.close_at, hours.close_at + AFTER_HOURS)]
    return [Session(market.code, hours.day, kind, begin, end, hours.early_close) for kind, begin, end in spans]
