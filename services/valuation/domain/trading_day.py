"""Which trading day a run sums up. A day lasts from the close of the one before to its own."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo

_DAY = timedelta(days=1)
_INSTANT = timedelta(microseconds=1)


class NoTradingDay(LookupError):
    """The market has no close that a summary could follow."""


@dataclass(frozen=True)
class TradingDay:
    """``begin`` is the close before, ``end`` its own, or now while it is under way; only ``end`` belongs to it.

    An account's last value until ``until`` counts for the day.
    """

    day: date
    begin: datetime
    end: datetime
    until: datetime


def trading_day(closes: Sequence[datetime], slot: datetime | None, now: datetime, zone: tzinfo) -> TradingDay:
    """The latest day that had closed at the slot. Without a slot, today where the market has yet to close today.

    ``closes`` are the market's, in order. Raises NoTradingDay.
    """
    past = [close for close in closes if close <= (slot or now)]
    if not past:
        raise NoTradingDay(f"no close before {slot or now} is known; update_sessions writes them")
    today = now.astimezone(zone).date()
    if slot is None and any(_date(close, zone) == today for close in closes if close > now):
        return TradingDay(today, past[-1], now, now)
    begin = past[-2] if len(past) > 1 else past[-1] - _DAY
    return TradingDay(_date(past[-1], zone), begin, past[-1], _until(closes, past[-1], slot, now))


def _until(closes: Sequence[datetime], end: datetime, slot: datetime | None, now: datetime) -> datetime:
    """Now, unless another day has closed since: what an account is worth now belongs to that one."""
    superseded = any(end < close <= now for close in closes)
    return slot if slot and superseded else now


def _date(close: datetime, zone: tzinfo) -> date:
    """A close at midnight is that of the day which ends."""
    return (close - _INSTANT).astimezone(zone).date()
