"""The facts that an order is checked against when it comes in: its instrument, and the account's exposure to it."""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import NamedTuple, Self
from uuid import UUID

from shared.contracts.orders import OrderType
from shared.exchange.fx import SAME, Rate
from shared.exchange.market_rules import MarketRules
from shared.exchange.order import Order
from shared.exchange.trading_days import Auction
from shared.exchange.values import changed
from shared.money import CENT, ZERO

_FINE_TICK = Decimal("0.0001")


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

    Prices lie on multiples of ``tick_size``, or where that is None on those of SEC Rule 612. Quantities are multiples
    of ``lot_size`` unless it is ``fractionable``. Only its holders can sell an instrument that is not ``shortable``.
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
    tick_size: Decimal | None = None
    lot_size: Decimal = Decimal(1)
    fractionable: bool = True
    shortable: bool = True

    def tick(self, price: Decimal) -> Decimal:
        """The increment of prices: by SEC Rule 612 a cent from 1.00 on, a hundredth of one below."""
        return self.tick_size or (CENT if price >= 1 else _FINE_TICK)

    @property
    def market(self) -> Decimal | None:
        """The price at which it trades now, as far as that is known."""
        return self.last or self.bid or self.ask

    def leaves_resting(self, order: Order) -> bool:
        """True if the order's limit is beyond the market, so that it rests. A stop does not rest before its trigger."""
        if order.limit_price is None or not (order.type is OrderType.LIMIT or order.triggered):
            return False
        if order.buys:
            market = self.ask or self.last
            return market is None or order.limit_price < market
        return order.limit_price > (self.bid or self.last or ZERO)

    def rate_in(self, currency: str) -> Rate | None:
        """The rate of its currency in that one; None where there is none."""
        return SAME if self.currency == currency else self.rate


class Resting(NamedTuple):
    """An open order that rests at its limit, on the far side of the market, until somebody trades with it."""

    id: UUID
    limit: Decimal


@dataclass(frozen=True)
class Exposure:
    """The account's position in a symbol and its recent activity.

    ``held_for_orders`` are the shares held that open orders will close. ``buying`` and ``selling`` are the shares that
    open orders would add to the long and short side, ``buying_money`` is what open notional orders may spend besides.
    ``best_buy`` and ``best_sell`` are the open orders that rest at the best limits, exits left out. ``day_start`` and
    ``peak`` are the account's equity at the start of the day and at its highest, None before the first daily summary.
    ``recent`` counts the orders of the last minute, ``recent_of_strategy`` those of them from the same strategy.
    ``overdue``: a margin call was not met in time.
    """

    held: Decimal = ZERO
    held_for_orders: Decimal = ZERO
    buying: Decimal = ZERO
    selling: Decimal = ZERO
    buying_money: Decimal = ZERO
    best_buy: Resting | None = None
    best_sell: Resting | None = None
    overdue: bool = False
    recent: int = 0
    recent_of_strategy: int = 0
    day_start: Decimal | None = None
    peak: Decimal | None = None

    def free(self, *, buys: bool) -> Decimal:
        """The shares that a buy, or a sell, may close: those of the position that no order holds."""
        return max((-self.held if buys else self.held) - self.held_for_orders, ZERO)

    def with_accepted(self, order: Order, instrument: Instrument) -> Self:
        """The exposure after the order was accepted."""
        recent, of_strategy = self.recent + 1, self.recent_of_strategy + 1
        return changed(self.with_open(order, instrument), recent=recent, recent_of_strategy=of_strategy)

    def with_open(self, order: Order, instrument: Instrument) -> Self:
        """The exposure with the open order."""
        opens = order.leg is None and order.qty is not None
        opening = (order.qty or ZERO) - order.filled_qty - order.closing if opens else ZERO
        known = self.with_order(buys=order.buys, opening=opening, held_for_orders=order.held_for_orders)
        if order.buys and order.qty is None:
            known = replace(known, buying_money=self.buying_money + order.reserved)
        if order.leg is not None or order.limit_price is None or not instrument.leaves_resting(order):
            return known
        new, best = Resting(order.id, order.limit_price), self.best_buy if order.buys else self.best_sell
        if best is not None and (best.limit >= new.limit if order.buys else best.limit <= new.limit):
            return known
        return replace(known, best_buy=new) if order.buys else replace(known, best_sell=new)

    def with_order(self, *, buys: bool, opening: Decimal, held_for_orders: Decimal) -> Self:
        """The exposure with an order that opens and closes that many shares, or without it where they are negative."""
        return changed(
            self,
            held_for_orders=self.held_for_orders + held_for_orders,
            buying=self.buying + (opening if buys else ZERO),
            selling=self.selling + (ZERO if buys else opening),
        )
