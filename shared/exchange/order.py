"""The two values that the exchange works on: an open order, and its account."""

from dataclasses import dataclass, field, fields
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from uuid import UUID

from shared.contracts.accounts import AccountSettings
from shared.contracts.orders import (
    OPEN_STATUSES,
    WORKING_STATUSES,
    NewOrder,
    OrderClass,
    OrderStatus,
    OrderType,
    PositionIntent,
    Side,
    TimeInForce,
)
from shared.exchange import margin
from shared.exchange.values import changed
from shared.money import CENT, ZERO

#: The smallest tradable quantity, the ninth decimal of a share (Alpaca: fractional trading).
LEAST_QTY = Decimal("1E-9")
#: (account, order): the senders of two accounts may choose the same id.
Key = tuple[UUID, UUID]


class Leg(StrEnum):
    """The role of an exit in a bracket, oto or oco order."""

    TAKE_PROFIT = "take_profit"
    STOP_LOSS = "stop_loss"


@dataclass(frozen=True)
class Order:
    """An accepted order. Quantities are in shares, prices in ``currency``, which is its instrument's.

    ``notional``, ``fees`` and ``reserved`` are in the account's currency. Its fills paid ``filled_avg_price`` per share
    at the exchange rate ``filled_avg_rate``. ``qty`` is None while the size of a notional order is open. Only quotes
    after ``active_at`` fill the order. ``hwm`` is the best price since then, which a trailing stop follows.
    ``triggered``: its stop was reached. ``rests``: the quote was outside of its limit when it came, or None where no
    quote was known.

    ``held_for_orders`` are the shares held that the order will close. For an entry they are the shares that it has
    bought so far, held for its exits. Orders of one ``order_group`` end together. An entry has no ``leg``.

    A field with the name of one in ``NewOrder`` is a term, and copied when the order is accepted or replaced.
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
    rests: bool | None = None
    #: The quantity filled by the orders that this one replaced.
    carried: Decimal = ZERO
    filled_qty: Decimal = ZERO
    filled_avg_price: Decimal | None = None
    fills: int = 0
    fees: Decimal = ZERO
    reserved: Decimal = ZERO
    held_for_orders: Decimal = ZERO
    expires_at: datetime | None = None
    #: The trading day of its auction, and the time at which that is due.
    auction_day: date | None = None
    auction_at: datetime | None = None
    strategy_id: UUID | None = None
    status: OrderStatus = OrderStatus.ACCEPTED
    order_class: OrderClass = OrderClass.SIMPLE
    order_group: UUID | None = None
    leg: Leg | None = None
    position_intent: PositionIntent | None = None
    do_not_reduce: bool = False
    #: It answers a margin call: its owner can neither cancel nor change it.
    liquidation: bool = False
    #: The trace of the request that submitted it. Later events of the order continue it.
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
    def is_working(self) -> bool:
        """True if it may fill now."""
        return self.status in WORKING_STATUSES

    @property
    def buys(self) -> bool:
        return self.side is Side.BUY

    @property
    def is_entry(self) -> bool:
        """True if exits wait for it to fill."""
        return self.leg is None and self.order_class in {OrderClass.BRACKET, OrderClass.OTO}

    @property
    def only_closes(self) -> bool:
        """True if it must never open a position: an exit, an order of a margin call, or one with that intent."""
        intent = self.position_intent
        return self.leg is not None or self.liquidation or (intent is not None and intent.closes)

    @property
    def closing(self) -> Decimal:
        """The part of the open quantity that closes a position. An entry only opens one."""
        return ZERO if self.is_entry else self.held_for_orders

    @property
    def may_open(self) -> bool:
        """True if the rest of it can open or enlarge a position."""
        if self.only_closes:
            return False
        if self.qty is None:
            return not self.closing or self.reserved > 0
        return self.closing < self.qty - self.filled_qty

    @property
    def paid(self) -> Decimal:
        """The amount of its fills, in its currency."""
        return (self.filled_avg_price or ZERO) * self.filled_qty

    @property
    def spent(self) -> Decimal:
        """The amount of its fills, in the account's currency."""
        return self.paid * self.filled_avg_rate

    @property
    def unspent(self) -> Decimal:
        """The rest of a notional order's money. Each of its fills may have been rounded by a cent."""
        return (self.notional or ZERO) - self.spent - self.fills * CENT

    def open_qty(self, price: Decimal) -> Decimal:
        """The quantity left to trade. For a notional order it is what the rest of its money comes to at that price.

        The price is in the account's currency. An order that only closes trades at most the shares held for it.
        """
        if self.qty is not None:
            return self.qty - self.filled_qty
        most = shares_for(self.unspent, price)
        return min(most, self.held_for_orders) if self.held_for_orders and not self.reserved else most


#: The terms of an order: its fields that it shares with ``NewOrder``.
TERMS = tuple(each.name for each in fields(Order) if each.name in NewOrder.model_fields)


def released(order: Order, status: OrderStatus) -> Order:
    """The ended order. It no longer reserves cash or holds shares."""
    return changed(order, status=status, reserved=ZERO, held_for_orders=ZERO)


def shares_for(money: Decimal, price: Decimal) -> Decimal:
    """The number of shares that the money buys, rounded down."""
    return max(money, ZERO) / price // LEAST_QTY * LEAST_QTY


@dataclass(frozen=True)
class Account:
    """An account and its value. ``cash`` includes the amounts reserved by open orders, and buying power does not.

    ``long_value`` and ``short_value`` (negative) are its positions at current prices. They are zero where the account
    is not ``is_marked``, since then nothing depends on them.
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
    #: True if it has a short position, even where its settings no longer allow one.
    short: bool = False
    #: True if it was closed for good.
    closed: bool = False
    #: The last halt by a risk limit. Its time and its reason are None after its end.
    halt_id: UUID | None = None
    halted_at: datetime | None = None
    halt_reason: str | None = None

    @property
    def is_marked(self) -> bool:
        """True if its buying power depends on the current value of its positions."""
        return self.settings.on_equity or self.short or self.cash < 0

    @property
    def fills_on_bar(self) -> bool:
        """True if its orders also fill inside the range of a bar."""
        return self.settings.fills.fills_on == "bar"

    @property
    def counts_volume(self) -> bool:
        """True if its fills depend on the quantity that our orders took of a price."""
        model = self.settings.fills
        return model.participation is not None or model.slippage.kind == "volume_share"

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
