"""The official open and close of a trading day.

A provider that knows them tells them with its quotes. For one that does not, the first trade of the day's regular
trading is the official open: the open of the first bar that begins in it and has a volume. The last trade is the
official close, known with the first price after the close. Either must lie near the open or the close: who looked away
then does not know it, and has none.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal

from shared.contracts.official_prices import AuctionKind

#: So near to the open a first trade, to the close a last one has to be.
NEAR = timedelta(minutes=5)
#: So long after the close the last price before it stands for sure, where none came after it.
SETTLES = timedelta(minutes=10)


@dataclass(frozen=True, slots=True)
class TradingDay:
    """Regular trading of a market, in UTC, from its day's first open to its last close; a midday break lies inside."""

    market: str
    day: date
    open_at: datetime
    close_at: datetime


@dataclass(frozen=True, slots=True)
class Official:
    """``volume`` is what traded in the auction, in shares; None where nobody knows. ``held_at``: time of the trade."""

    symbol: str
    kind: AuctionKind
    day: date
    price: Decimal
    held_at: datetime
    provider: str
    volume: Decimal | None = None


@dataclass(frozen=True, slots=True)
class Bar:
    """What was traded between two prices, and at which price first."""

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
