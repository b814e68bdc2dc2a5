"""What orders obeys about orders, and what it says of them. The vocabulary is Alpaca's."""

from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Self
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from shared.contracts.accounts import OfAccount, ToAccount
from shared.contracts.base import Number, Symbol


class Side(StrEnum):
    BUY = "buy"
    SELL = "sell"


class OrderType(StrEnum):
    MARKET = "market"
    LIMIT = "limit"
    STOP = "stop"
    STOP_LIMIT = "stop_limit"
    TRAILING_STOP = "trailing_stop"


class OrderClass(StrEnum):
    """Simple; an entry with two exits, or with one; or two exits of which one fills."""

    SIMPLE = "simple"
    BRACKET = "bracket"
    OTO = "oto"
    OCO = "oco"


class TimeInForce(StrEnum):
    DAY = "day"
    GTC = "gtc"
    OPG = "opg"
    CLS = "cls"
    IOC = "ioc"
    FOK = "fok"


#: For the opening, or the closing auction of a session, and for nothing else.
AUCTIONS = frozenset({TimeInForce.OPG, TimeInForce.CLS})
#: What is left of such an order after its one chance is canceled.
AT_ONCE = frozenset({TimeInForce.IOC, TimeInForce.FOK}) | AUCTIONS


class OrderStatus(StrEnum):
    """The statuses in use, of those that trading APIs know. They only move forward."""

    PENDING_NEW = "pending_new"
    ACCEPTED = "accepted"
    HELD = "held"
    PARTIALLY_FILLED = "partially_filled"
    FILLED = "filled"
    CANCELED = "canceled"
    EXPIRED = "expired"
    REPLACED = "replaced"
    REJECTED = "rejected"


#: An order in one of these may fill now; one that is held waits for its entry.
WORKING_STATUSES = frozenset({OrderStatus.ACCEPTED, OrderStatus.PARTIALLY_FILLED})
OPEN_STATUSES = WORKING_STATUSES | {OrderStatus.HELD}

#: The prices that each type has; a trailing stop has one of its two.
PRICES: dict[OrderType, frozenset[str]] = {
    OrderType.MARKET: frozenset(),
    OrderType.LIMIT: frozenset({"limit_price"}),
    OrderType.STOP: frozenset({"stop_price"}),
    OrderType.STOP_LIMIT: frozenset({"limit_price", "stop_price"}),
    OrderType.TRAILING_STOP: frozenset({"trail_price", "trail_percent"}),
}

MAX_QTY = Decimal(1_000_000_000)
MAX_PRICE = Decimal(10_000_000)
Qty = Annotated[Number, Field(gt=0, le=MAX_QTY, decimal_places=9)]
OrderPrice = Annotated[Number, Field(gt=0, le=MAX_PRICE, decimal_places=9)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class TakeProfit(_Part):
    limit_price: OrderPrice


class StopLoss(_Part):
    """A stop order, or a stop-limit order where it has a limit."""

    stop_price: OrderPrice
    limit_price: OrderPrice | None = None


class OrderTerms(_Part):
    """What is traded, and how. Prices are in the instrument's currency, ``notional`` in the account's.

    ``trail_percent`` is in percent of the best price since acceptance. Raises ValueError for what does not fit.
    """

    symbol: Symbol
    side: Side
    type: OrderType
    time_in_force: TimeInForce
    qty: Qty | None = None
    notional: Annotated[Number, Field(ge=1, le=MAX_QTY, decimal_places=2)] | None = None
    limit_price: OrderPrice | None = None
    stop_price: OrderPrice | None = None
    trail_price: OrderPrice | None = None
    trail_percent: Annotated[Number, Field(gt=0, lt=100, decimal_places=4)] | None = None
    extended_hours: bool = False
    order_class: OrderClass = OrderClass.SIMPLE
    take_profit: TakeProfit | None = None
    stop_loss: StopLoss | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        _check_prices(self)
        _check_size(self)
        _check_time(self)
        _check_class(self)
        return self


def _check_prices(order: OrderTerms) -> None:
    wanted = PRICES[order.type]
    given = {name for name in sorted(frozenset().union(*PRICES.values())) if getattr(order, name) is not None}
    for name in sorted(given - wanted):
        raise ValueError(f"{name} does not go with a {order.type} order")
    if order.type is OrderType.TRAILING_STOP:
        if len(given) != 1:
            raise ValueError("trail_price or trail_percent is required for a trailing_stop order, one of them")
        return
    for name in sorted(wanted - given):
        raise ValueError(f"{name} is required for a {order.type} order")


def _check_size(order: OrderTerms) -> None:
    if (order.qty is None) == (order.notional is None):
        raise ValueError("qty is required, or notional in its place")
    if order.notional is not None and order.type is not OrderType.MARKET:
        raise ValueError("notional goes with a market order only")
    fractional = order.qty is None or order.qty % 1 != 0
    if fractional and order.time_in_force is not TimeInForce.DAY:
        raise ValueError("time_in_force: fractional and notional orders must be day orders")
    if fractional and order.order_class is not OrderClass.SIMPLE:
        raise ValueError("order_class: fractional and notional orders must be simple")


def _check_time(order: OrderTerms) -> None:
    at_once = order.time_in_force in AT_ONCE
    if at_once and order.type not in {OrderType.MARKET, OrderType.LIMIT}:
        raise ValueError(f"time_in_force: {order.time_in_force} goes with market and limit orders only")
    if at_once and order.order_class is not OrderClass.SIMPLE:
        raise ValueError(f"time_in_force: an order of class {order.order_class} is day or gtc")
    if order.extended_hours and (order.type is not OrderType.LIMIT or order.time_in_force is not TimeInForce.DAY):
        raise ValueError("extended_hours goes with limit orders of the day only")
    if order.extended_hours and order.order_class is not OrderClass.SIMPLE:
        raise ValueError("extended_hours goes with simple orders only")


def _check_class(order: OrderTerms) -> None:
    exits = sum(leg is not None for leg in (order.take_profit, order.stop_loss))
    wanted = {OrderClass.SIMPLE: 0, OrderClass.OTO: 1}.get(order.order_class, 2)
    if exits != wanted:
        raise ValueError(f"order_class: an order of class {order.order_class} has {_exits(order.order_class)}")
    if order.order_class is OrderClass.OCO:
        _check_oco(order)
    if order.take_profit is not None and order.stop_loss is not None:
        # the exits sell what an entry buys; those of an oco order are on its own side
        sells = (order.side is Side.SELL) == (order.order_class is OrderClass.OCO)
        gain, loss = order.take_profit.limit_price, order.stop_loss.stop_price
        if not (gain > loss if sells else gain < loss):
            raise ValueError(f"take_profit.limit_price must lie {'above' if sells else 'below'} stop_loss.stop_price")


def _exits(order_class: OrderClass) -> str:
    if order_class is OrderClass.SIMPLE:
        return "neither take_profit nor stop_loss"
    return "take_profit or stop_loss" if order_class is OrderClass.OTO else "take_profit and stop_loss"


def _check_oco(order: OrderTerms) -> None:
    if order.type is not OrderType.LIMIT:
        raise ValueError("type: an oco order is a limit order")
    if order.take_profit is not None and order.limit_price != order.take_profit.limit_price:
        raise ValueError("limit_price: of an oco order it is that of its take_profit")


class NewOrder(OrderTerms):
    """An order that is handed in. ``order_id`` is minted by the sender, so that sending it twice places it once."""

    order_id: UUID
    client_order_id: str = Field(min_length=1, max_length=128)
    submitted_at: AwareDatetime
    strategy_id: UUID | None = None


class SubmitOrder(ToAccount, NewOrder):
    """Place an order."""


class SubmitOrders(ToAccount):
    """Place many orders of one account; each is accepted or refused for itself, in their order."""

    orders: tuple[NewOrder, ...] = Field(min_length=1, max_length=1000)


class CancelOrder(ToAccount):
    """Cancel what is still open of an order, and with it the others of its bracket, oto or oco order."""

    order_id: UUID
    requested_at: AwareDatetime


class ReplaceOrder(ToAccount):
    """End an open order, and go on with what was left of it under other terms; None keeps the old one's.

    ``qty`` is the whole quantity, with what had filled. ``new_order_id`` is minted by the sender.
    """

    order_id: UUID
    new_order_id: UUID
    client_order_id: str | None = Field(default=None, min_length=1, max_length=128)
    qty: Qty | None = None
    time_in_force: TimeInForce | None = None
    limit_price: OrderPrice | None = None
    stop_price: OrderPrice | None = None
    trail: OrderPrice | None = None
    requested_at: AwareDatetime


class OrderAccepted(OfAccount):
    order_id: UUID


class OrderRejected(OfAccount):
    """The order was refused before anything changed; ``reason`` names why, ``message`` says it."""

    order_id: UUID
    reason: str
    message: str


class OrderFilled(OfAccount):
    """One execution. ``price_sequence`` names the price it was filled on.

    ``price`` is in ``currency``, the instrument's; ``rate`` is what a unit of it cost or brought in the account's, in
    which all else is.
    """

    order_id: UUID
    fill_id: UUID
    symbol: Symbol
    side: Side
    qty: Number
    price: Number
    fee: Number
    price_sequence: int
    order_status: OrderStatus
    filled_qty: Number
    position_qty: Number
    cash: Number
    currency: str = "USD"
    rate: Number = Decimal(1)


class PositionChanged(OfAccount):
    """What an account holds of a symbol now: negative where it is short. ``cost`` is what was paid for it."""

    symbol: Symbol
    qty: Number
    cost: Number


class OrderCanceled(OfAccount):
    """``reason``: requested, or what else ended it, such as oco, order_group, ioc, fok, opg, cls, entry_ended or
    reset.
    """

    order_id: UUID
    reason: str = "requested"


class CancelRejected(OfAccount):
    """The order could not be canceled: it already was filled, canceled, expired or never existed."""

    order_id: UUID
    reason: str
    message: str


class OrderReplaced(OfAccount):
    """``order_id`` ended, and ``new_order_id`` goes on with what was left of it."""

    order_id: UUID
    new_order_id: UUID


class ReplaceRejected(OfAccount):
    """The order stays as it was; ``reason`` names why, ``message`` says it."""

    order_id: UUID
    new_order_id: UUID
    reason: str
    message: str


class OrderAdjusted(OfAccount):
    """A split changed the order's quantity and prices; these are those that it has now."""

    order_id: UUID
    qty: Number | None
    limit_price: Number | None
    stop_price: Number | None


class OrderExpired(OfAccount):
    order_id: UUID
