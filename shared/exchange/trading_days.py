"""Trading days and their auctions: the auction that an order is for, its cutoff, and the end of a day order."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import NamedTuple

from shared.contracts.orders import AUCTIONS, TimeInForce
from shared.exchange.order import Order
from shared.exchange.values import changed

#: Alpaca: the time before its auction from which an order is neither accepted nor canceled. (opg 9:28, cls 15:50 ET.)
CUTOFFS = {TimeInForce.OPG: timedelta(minutes=2), TimeInForce.CLS: timedelta(minutes=10)}
#: If an auction has no price for this long, its orders can be canceled again.
OVERDUE = timedelta(hours=1)
#: Orders wait for the official close until the next open, or for this long where that is not known.
A_DAY = timedelta(days=1)


class Hours(NamedTuple):
    """The sessions that a price lies in, by the market's calendar.

    ``bar`` and ``quote``: the price's bar, by its start, and its quote lie in a regular session. ``bar_extended`` and
    ``quote_extended``: they lie between the pre-market's open and the end of after-hours. ``opened_at`` and
    ``extended_opened_at`` are the beginnings of those sessions, None where the market never closes.
    """

    bar: bool = True
    bar_extended: bool = True
    quote: bool = True
    quote_extended: bool = True
    opened_at: datetime | None = None
    extended_opened_at: datetime | None = None


ALWAYS_OPEN = Hours()


@dataclass(frozen=True)
class TradingDay:
    """A day of regular trading, from its first open to its last close. A midday break has no auction."""

    day: date
    open_at: datetime
    close_at: datetime


@dataclass(frozen=True)
class WholeDay(TradingDay):
    """A trading day with the end of its trading after the close."""

    extended_end: datetime


@dataclass(frozen=True)
class Auction:
    """An auction is due ``at`` a time, and orders wait for its price ``until`` another."""

    day: date
    at: datetime
    until: datetime


def coming(time_in_force: TimeInForce, days: Sequence[TradingDay], at: datetime) -> Auction | None:
    """The next auction after that time, or None. ``days`` are those not over then, the earliest first."""
    if time_in_force is TimeInForce.OPG:
        return next((Auction(day.day, day.open_at, day.close_at) for day in days if day.open_at > at), None)
    ahead = [day for day in days if day.close_at > at]
    if not ahead:
        return None
    until = ahead[1].open_at if len(ahead) > 1 else ahead[0].close_at + A_DAY
    return Auction(ahead[0].day, ahead[0].close_at, until)


def is_closed(time_in_force: TimeInForce, due_at: datetime, now: datetime) -> bool:
    """True if the cutoff of the auction that is due then has passed."""
    return now > due_at - CUTOFFS[time_in_force]


def rescheduled(order: Order, days: Sequence[WholeDay]) -> Order:
    """The open order with the end, and the auction, that it would have got from these days when it was accepted.

    A day order is for the first day that is not over then. The order stays as it is where no such day is known.
    """
    ahead = [day for day in days if day.close_at > order.accepted_at]
    if order.time_in_force in AUCTIONS:
        auction = coming(order.time_in_force, ahead, order.accepted_at)
        if auction is None:
            return order
        return changed(order, auction_day=auction.day, auction_at=auction.at, expires_at=auction.until)
    if order.time_in_force is not TimeInForce.DAY:
        return order
    ends = [day.extended_end if order.extended_hours else day.close_at for day in days]
    end = next((each for each in ends if each > order.accepted_at), None)
    return order if end is None else changed(order, expires_at=end)
