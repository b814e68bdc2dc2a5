"""The facts that an order is checked against when it comes in: its instrument, and the account's exposure to it."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Self

from shared.exchange.fx import SAME, Rate
from shared.exchange.market_rules import MarketRules
from shared.exchange.trading_days import Auction
from shared.money import ZERO


@dataclass(frozen=True)
class Halt:
    """A trading halt: its beginning and its reason."""

    since: datetime
    reason: str


@dataclass(frozen=True)
class Instrument:
    """An instrument as it is when an order comes in. The quote is None before its first price.

    ``is_open``: its market trades now. ``session_end`` is the end of day orders, ``extended_end`` that of those with
    extended hours, or None where no session is known. A quote older than ``max_quote_age`` is stale.
    ``auction`` is the one that the order is for, or None where it is for none or has none.
    """

    tradable: bool
    ask: Decimal | None = None
    bid: Decimal | None = None
    last: Decimal | None = None
    currency: str = "USD"
    is_open: bool = True
    session_end: datetime | None = None
    auction: Auction | None = None
    #: The rate of its currency in the account's, where they differ and there is one.
    rate: Rate | None = None
    halt: Halt | None = None
    extended_end: datetime | None = None
    max_quote_age: timedelta = MarketRules().max_quote_age

    def rate_in(self, currency: str) -> Rate | None:
        """The rate of its currency in that one; None where there is none."""
        return SAME if self.currency == currency else self.rate


@dataclass(frozen=True)
class Exposure:
    """The account's position in a symbol and its recent activity.

    ``held_for_orders`` are the shares held that open orders will close. ``buying`` and ``selling`` are the shares that
    open orders would add to the long and short side. ``day_start`` and ``peak`` are the account's equity at the start
    of the day and at its highest, None before the first daily summary. ``recent`` counts the orders of the last minute,
    ``recent_of_strategy`` those of them from the same strategy.
    """

    held: Decimal = ZERO
    held_for_orders: Decimal = ZERO
    buying: Decimal = ZERO
    selling: Decimal = ZERO
    recent: int = 0
    recent_of_strategy: int = 0
    day_start: Decimal | None = None
    peak: Decimal | None = None

    def with_order(self, *, buys: bool, opening: Decimal, held_for_orders: Decimal) -> Self:
        """The exposure with an order that opens and closes that many shares, or without it where they are negative."""
        return replace(
            self,
            held_for_orders=self.held_for_orders + held_for_orders,
            buying=self.buying + (opening if buys else ZERO),
            selling=self.selling + (ZERO if buys else opening),
        )
