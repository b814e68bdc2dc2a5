"""An order and its account, as values."""

from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from uuid import UUID

from shared.contracts.accounts import AccountSettings
from shared.contracts.orders import (
    OPEN_STATUSES,
    WORKING_STATUSES,
    OrderClass,
    OrderStatus,
    OrderType,
    Side,
    TimeInForce,
)
from shared.exchange import margin
from shared.money import CENT, ZERO

#: No order trades less than this: the ninth decimal of a share.
LEAST_QTY = Decimal("1E-9")


#: (account, order): two senders may mint the same id.
Key = tuple[UUID, UUID]


class Leg(StrEnum):
    """The exits of a bracket, oto or oco order: one takes the profit, one stops the loss."""

    TAKE_PROFIT = "take_profit"
    STOP_LOSS = "stop_loss"


@dataclass(frozen=True)
class Order:
    """An order that was accepted. Quantities are in shares, prices in ``currency``, which is its instrument's.

    ``notional``, ``fees`` and ``reserved`` are in the account's currency, in which a unit of its own cost or brought
    ``filled_avg_rate``.
    ``qty`` is None while the size of a notional order is open. ``active_at``: only later quotes fill it. ``hwm`` is
    the best price since then, which a trailing stop follows. ``triggered``: its stop was reached.
    ``held_for_orders`` are
    the shares held that it will close; those that an entry has bought so far are held_for_orders to its exits.
    Orders of one
    ``order_group`` end together; an entry has no ``leg``.
    """

    account_id: UUID
    id: UUID
    symbol: str
    side: Side
    type: OrderType
    qty: Decimal | None
    accepted_at: datetime
    active_at: datetime
    time_in_force: TimeInForce = TimeInForce.GTC
    extended_hours: bool = False
    notional: Decimal | None = None
    limit_price: Decimal | None = None
    stop_price: Decimal | None = None
    trail_price: Decimal | None = None
    trail_percent: Decimal | None = None
    hwm: Decimal | None = None
    triggered: bool = False
    #: What had filled of the orders that this one replaced.
    carried: Decimal = ZERO
    filled_qty: Decimal = ZERO
    filled_avg_price: Decimal | None = None
    fills: int = 0
    fees: Decimal = ZERO
    reserved: Decimal = ZERO
    held_for_orders: Decimal = ZERO
    expires_at: datetime | None = None
    #: The trading day of the auction that it is for, and when that is due.
    auction_day: date | None = None
    auction_at: datetime | None = None
    strategy_id: UUID | None = None
    status: OrderStatus = OrderStatus.ACCEPTED
    order_class: OrderClass = OrderClass.SIMPLE
    order_group: UUID | None = None
    leg: Leg | None = None
    #: The journey on which it was handed in; what becomes of it later belongs to it, too.
    trace: str | None = None
    currency: str = "USD"
    filled_avg_rate: Decimal = Decimal(1)

    @property
    def key(self) -> Key:
        return self.account_id, self.id

    @property
    def is_open(self) -> bool:
        return self.status in OPEN_STATUSES

    @property
    def works(self) -> bool:
        """Whether it may fill now."""
        return self.status in WORKING_STATUSES

    @property
    def buys(self) -> bool:
        return self.side is Side.BUY

    @property
    def is_entry(self) -> bool:
        """Whether exits wait for its fill."""
        return self.leg is None and self.order_class in {OrderClass.BRACKET, OrderClass.OTO}

    @property
    def closing(self) -> Decimal:
        """How much of what is left closes what is held; an entry only opens."""
        return ZERO if self.is_entry else self.held_for_orders

    @property
    def paid(self) -> Decimal:
        return (self.filled_avg_price or ZERO) * self.filled_qty

    @property
    def spent(self) -> Decimal:
        """What was paid, or came in, in the account's currency."""
        return self.paid * self.filled_avg_rate

    @property
    def unspent(self) -> Decimal:
        """What is left of a notional order's money; each of its fills may have been rounded up by half a cent."""
        return (self.notional or ZERO) - self.spent - self.fills * CENT / 2

    def open_qty(self, price: Decimal) -> Decimal:
        """What is left to trade; of a notional order as much as its money buys, or brings in, at that price.

        The price is in the account's currency. One that only closes trades no more than was held_for_orders to it.
        """
        if self.qty is not None:
            return self.qty - self.filled_qty
        most = shares_for(self.unspent, price)
        return min(most, self.held_for_orders) if self.held_for_orders and not self.reserved else most


def shares_for(money: Decimal, price: Decimal) -> Decimal:
    """As many as the money buys, rounded down."""
    return max(money, ZERO) / price // LEAST_QTY * LEAST_QTY


@dataclass(frozen=True)
class Account:
    """``cash`` includes what open orders have reserved; buying power does not.

    ``long_value`` and ``short_value`` (negative) are what it holds at current prices; an account that may hold no more
    than its cash and sell no more than it has needs neither.
    """

    id: UUID
    cash: Decimal
    reserved: Decimal
    sequence: int
    long_value: Decimal = ZERO
    short_value: Decimal = ZERO
    settings: AccountSettings = field(default_factory=AccountSettings)
    generation: int = 1
    currency: str = "USD"
    #: Whether it is short of anything, also where it may not become so any more.
    short: bool = False

    @property
    def is_marked(self) -> bool:
        """Whether its buying power depends on what its positions are worth now."""
        return self.settings.on_equity or self.short or self.cash < 0

    @property
    def equity(self) -> Decimal:
        return margin.equity(cash=self.cash, long_value=self.long_value, short_value=self.short_value)

    @property
    def buying_power(self) -> Decimal:
        return margin.buying_power(
            equity=self.equity,
            long_value=self.long_value,
            short_value=self.short_value,
            reserved=self.reserved,
            multiplier=self.settings.multiplier,
        )

    @property
    def maintenance_margin(self) -> Decimal:
        """The least equity that it must have. It is zero where nothing was borrowed, whatever it may borrow now."""
        if self.cash >= 0 and not self.short_value:
            return ZERO
        return margin.maintenance_margin(self.long_value, self.short_value)

    @property
    def daily_interest(self) -> Decimal:
        """A day's interest on the cash that it owes and on the shares that it has borrowed."""
        return margin.daily_interest(
            cash=self.cash,
            short_value=self.short_value,
            loan_rate=self.settings.loan_rate,
            borrow_rate=self.settings.borrow_rate,
        )
