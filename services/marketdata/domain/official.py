"""The official open and close of a trading day.

A provider that knows them gives them with its quotes. For another provider the official open is the first trade of the
day's regular trading: the open of the first bar that begins in it and has a volume. The official close is the last
trade, known with the first price after the close. Either trade must lie near the open or the close. A provider that
was away at that time leaves the day without an official price.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal

from shared.contracts.official_prices import AuctionKind

#: The longest time from the open to the first trade, and from the last trade to the close.
NEAR = timedelta(minutes=5)
#: This long after the close its last price is final, even if no price came after it.
SETTLES = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class TradingDay:
    """Regular trading of a market's day, in UTC, from its first open to its last close. A midday break lies inside."""

    market: str
    day: date
    open_at: datetime
    close_at: datetime


@dataclass(frozen=True, slots=True)
class Official:
    """An official open or close. ``volume`` in shares, None where unknown. ``held_at`` is the time of the trade."""

    symbol: str
    kind: AuctionKind
    day: date
    price: Decimal
    held_at: datetime
    provider: str
    volume: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Bar:
    """The trading between two prices: its first price and its volume."""

    symbol: str
    open: Decimal
    volume: Decimal
    since: datetime
    until: datetime
    provider: str


def first_trade(bar: Bar, days: Iterable[TradingDay]) -> Official | None:
    """The official open, if the bar begins with it."""
    for day in days:
        if bar.volume and day.open_at <= bar.since < day.open_at + NEAR and bar.until <= day.close_at:
            return Official(bar.symbol, AuctionKind.OPEN, day.day, bar.open, bar.since, bar.provider)
    return None


def just_over(bar: Bar, days: Iterable[TradingDay]) -> TradingDay | None:
    """The day that ended within the bar, the latest of them."""
    over = [day for day in days if bar.since <= day.close_at < bar.until]
    return max(over, key=lambda day: day.close_at, default=None)
