"""Trading days and their auctions: which one an order is for, and until when it may come."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from shared.contracts.orders import TimeInForce

#: So long before its auction an order comes at the latest; from then on it stays.
CUTOFFS = {TimeInForce.OPG: timedelta(minutes=2), TimeInForce.CLS: timedelta(minutes=10)}
#: An auction without a price for so long: who does not want to wait any more may cancel again.
OVERDUE = timedelta(hours=1)
#: The official close is waited for until the next open; for so long where that is not known.
A_DAY = timedelta(days=1)


@dataclass(frozen=True)
class TradingDay:
    """Regular trading of the market's day, from its first open to its last close: a midday break has no auction."""

    day: date
    open_at: datetime
    close_at: datetime


@dataclass(frozen=True)
class Auction:
    """``at``: when it is due. ``until``: so long its price is waited for."""

    day: date
    at: datetime
    until: datetime


def coming(time_in_force: TimeInForce, days: Sequence[TradingDay], at: datetime) -> Auction | None:
    """The next auction after that time. ``days`` are those that were not over then, the earliest first."""
    if time_in_force is TimeInForce.OPG:
        return next((Auction(day.day, day.open_at, day.close_at) for day in days if day.open_at > at), None)
    ahead = [day for day in days if day.close_at > at]
    if not ahead:
        return None
    until = ahead[1].open_at if len(ahead) > 1 else ahead[0].close_at + A_DAY
    return Auction(ahead[0].day, ahead[0].close_at, until)


def is_closed(time_in_force: TimeInForce, due_at: datetime, now: datetime) -> bool:
    """Whether the auction that is due then takes no orders any more, and gives none back."""
    return now > due_at - CUTOFFS[time_in_force]
