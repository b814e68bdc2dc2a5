"""The commands and events of the service orders about orders. Names and rules are Alpaca's (orders-at-alpaca)."""

from datetime import timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Self
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from shared.contracts.accounts import OfAccount, ToAccount
from shared.contracts.base import Number, Sequence, Symbol
from shared.contracts.reasons import CancelReason, WireCancelReason, WireRejectReason
from shared.contracts.written import Bounded, Printable


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
    """``bracket`` is an entry with two exits, ``oto`` one with one exit, ``oco`` two exits of which only one fills."""

    SIMPLE = "simple"
    BRACKET = "bracket"
    OTO = "oto"
    OCO = "oco"


class PositionIntent(StrEnum):
    """The position that an order opens or closes (Alpaca: ``position_intent``)."""

    BUY_TO_OPEN = "buy_to_open"
    BUY_TO_CLOSE = "buy_to_close"
    SELL_TO_OPEN = "sell_to_open"
    SELL_TO_CLOSE = "sell_to_close"

    @property
    def side(self) -> Side:
        return Side(self.value.split("_")[0])

    @property
    def closes(self) -> bool:
        return self.value.endswith("close")


class TimeInForce(StrEnum):
    DAY = "day"
    GTC = "gtc"
    OPG = "opg"
    CLS = "cls"
    IOC = "ioc"
    FOK = "fok"


#: An order with one of these trades only in the opening or closing auction of a session.
AUCTIONS = frozenset({TimeInForce.OPG, TimeInForce.CLS})
#: An order with one of these has one chance to fill. The rest of it is canceled after that.
AT_ONCE = frozenset({TimeInForce.IOC, TimeInForce.FOK}) | AUCTIONS


class OrderStatus(StrEnum):
    """The statuses of Alpaca's that are in use. A status never goes back to an earlier one."""

    PENDING_NEW = "pending_new"
    ACCEPTED = "accepted"
    HELD = "held"
    PARTIALLY_FILLED = "partially_filled"
    FILLED = "filled"
    CANCELED = "canceled"
    EXPIRED = "expired"
    REPLACED = "replaced"
    REJECTED = "rejected"


#: An order in one of these may fill now. A held order waits for its entry to fill.
WORKING_STATUSES = frozenset({OrderStatus.ACCEPTED, OrderStatus.PARTIALLY_FILLED})
OPEN_STATUSES = WORKING_STATUSES | {OrderStatus.HELD}

#: The prices that each type requires. A trailing stop requires exactly one of its two.
PRICES: dict[OrderType, frozenset[str]] = {
    OrderType.MARKET: frozenset(),
    OrderType.LIMIT: frozenset({"limit_price"}),
    OrderType.STOP: frozenset({"stop_price"}),
    OrderType.STOP_LIMIT: frozenset({"limit_price", "stop_price"}),
    OrderType.TRAILING_STOP: frozenset({"trail_price", "trail_percent"}),
}
ALL_PRICES = frozenset[str]().union(*PRICES.values())
_EXITS = {
    OrderClass.SIMPLE: (0, "neither take_profit nor stop_loss"),
    OrderClass.BRACKET: (2, "both take_profit and stop_loss"),
    OrderClass.OTO: (1, "either take_profit or stop_loss"),
    OrderClass.OCO: (2, "both take_profit and stop_loss"),
}

#: An order that the exchange did not take for so long is rejected: its price and its day are gone.
SUBMISSION_LASTS = timedelta(hours=24)
MAX_QTY = Decimal(1_000_000_000)
MAX_PRICE = Decimal(10_000_000)
Qty = Annotated[Decimal, Bounded(gt=0, le=MAX_QTY, decimal_places=9)]
OrderPrice = Annotated[Decimal, Bounded(gt=0, le=MAX_PRICE, decimal_places=9)]
#: The name that the client gives an order.
ClientOrderId = Annotated[Printable, Field(min_length=1, max_length=128)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class TakeProfit(_Part):
    limit_price: OrderPrice


class StopLoss(_Part):
    """A stop order, or a stop-limit order where it has a limit."""

    stop_price: OrderPrice
    limit_price: OrderPrice | None = None


class OrderTerms(_Part):
    """The instrument, size, prices and conditions of an order (Alpaca: orders-at-alpaca).

    Prices are in the instrument's currency, ``notional`` in the account's. ``trail_percent`` is in percent of the best
    price since acceptance. A dividend leaves the prices of an order with ``do_not_reduce`` alone. Raises ValueError
    where the terms do not fit together. Its text begins with the field.
    """

    symbol: Symbol
    side: Side
    type: OrderType
    time_in_force: TimeInForce
    qty: Qty | None = None
    notional: Annotated[Decimal, Bounded(ge=1, le=MAX_QTY, decimal_places=2)] | None = None
    limit_price: OrderPrice | None = None
    stop_price: OrderPrice | None = None
    trail_price: OrderPrice | None = None
    trail_percent: Annotated[Decimal, Bounded(gt=0, lt=100, decimal_places=4)] | None = None
    extended_hours: bool = False
    order_class: OrderClass = OrderClass.SIMPLE
    take_profit: TakeProfit | None = None
    stop_loss: StopLoss | None = None
    position_intent: PositionIntent | None = None
    do_not_reduce: bool = False

    @model_validator(mode="after")
    def _prices_fit_the_type(self) -> Self:
        required = PRICES[self.type]
        given = {name for name in ALL_PRICES if getattr(self, name) is not None}
        for name in sorted(given - required):
            raise ValueError(f"{name} cannot be set on a {self.type} order")
        if self.type is OrderType.TRAILING_STOP:
            if len(given) != 1:
                raise ValueError("trail_price or trail_percent is required for a trailing_stop order, but not both")
            return self
        for name in sorted(required - given):
            raise ValueError(f"{name} is required for a {self.type} order")
        return self

    @model_validator(mode="after")
    def _size_fits(self) -> Self:
        if (self.qty is None) == (self.notional is None):
            raise ValueError("qty or notional is required, but not both")
        if self.notional is not None and self.type is not OrderType.MARKET:
            raise ValueError("notional can be set only on a market order")
        fractional = self.qty is None or self.qty % 1 != 0
        # pairs trade at all hours and in any fraction (Alpaca: crypto orders are gtc or ioc)
        if fractional and self.time_in_force is not TimeInForce.DAY and "/" not in self.symbol:
            raise ValueError("time_in_force: fractional and notional orders must be day orders")
        if fractional and self.order_class is not OrderClass.SIMPLE:
            raise ValueError("order_class: fractional and notional orders must be simple")
        return self

    @model_validator(mode="after")
    def _time_in_force_fits(self) -> Self:
        at_once = self.time_in_force in AT_ONCE
        if at_once and self.type not in {OrderType.MARKET, OrderType.LIMIT}:
            raise ValueError(f"time_in_force: {self.time_in_force} orders must be market or limit orders")
        if at_once and self.order_class is not OrderClass.SIMPLE:
            raise ValueError(f"time_in_force: {self.order_class} orders must be day or gtc")
        lasting = self.time_in_force in {TimeInForce.DAY, TimeInForce.GTC}
        if self.extended_hours and (self.type is not OrderType.LIMIT or not lasting):
            raise ValueError("extended_hours: only limit orders with time_in_force day or gtc trade in extended hours")
        if self.extended_hours and self.order_class is not OrderClass.SIMPLE:
            raise ValueError("extended_hours: only simple orders can trade in extended hours")
        return self

    @model_validator(mode="after")
    def _exits_fit_the_class(self) -> Self:
        exits = sum(leg is not None for leg in (self.take_profit, self.stop_loss))
        number, wanted = _EXITS[self.order_class]
        if exits != number:
            raise ValueError(f"order_class: {self.order_class} orders take {wanted}")
        oco = self.order_class is OrderClass.OCO
        if oco and self.type is not OrderType.LIMIT:
            raise ValueError("type: an oco order must be a limit order")
        if oco and self.take_profit is not None and self.limit_price != self.take_profit.limit_price:
            raise ValueError("limit_price: must equal take_profit.limit_price on an oco order")
        if self.take_profit is not None and self.stop_loss is not None:
            # the exits of an entry are on the other side, those of an oco order on its own
            sells = (self.side is Side.SELL) == oco
            gain, loss = self.take_profit.limit_price, self.stop_loss.stop_price
            if not (gain > loss if sells else gain < loss):
                where = "above" if sells else "below"
                raise ValueError(f"take_profit.limit_price must be {where} stop_loss.stop_price")
        return self


class NewOrder(OrderTerms):
    """An order to place. The sender chooses ``order_id``, so that sending it twice places it once."""

    order_id: UUID
    client_order_id: ClientOrderId
    submitted_at: AwareDatetime
    strategy_id: UUID | None = None


class SubmitOrder(ToAccount, NewOrder):
    """Place an order."""


class SubmitOrders(ToAccount):
    """Place many orders of one account. Each is accepted or rejected by itself, in this sequence."""

    orders: tuple[NewOrder, ...] = Field(min_length=1, max_length=1000)


class CancelOrder(ToAccount):
    """Cancel the open rest of an order, and with it the other legs of its bracket, oto or oco order."""

    order_id: UUID
    requested_at: AwareDatetime


class CancelOrders(ToAccount):
    """Cancel many orders of one account. Each is canceled or rejected by itself, as by a ``CancelOrder``."""

    order_ids: tuple[UUID, ...] = Field(min_length=1, max_length=1000)
    requested_at: AwareDatetime


class ReplaceOrder(ToAccount):
    """Replace an open order by a new one for the rest of it. A field that is None keeps the old order's value.

    ``qty`` is the whole quantity, including the filled part. The sender chooses ``new_order_id``.
    """

    order_id: UUID
    new_order_id: UUID
    client_order_id: ClientOrderId | None = None
    qty: Qty | None = None
    time_in_force: TimeInForce | None = None
    limit_price: OrderPrice | None = None
    stop_price: OrderPrice | None = None
    trail: OrderPrice | None = None
    requested_at: AwareDatetime


class OrderAccepted(OfAccount):
    """The order is open. Its cash or shares are reserved."""

    order_id: UUID


class OrderRejected(OfAccount):
    """The order was rejected before anything changed. ``message`` explains the ``reason`` to people.

    ``details`` are the figures behind it, for programs (Alpaca: available, existing_qty, held_for_orders, base_price).
    """

    order_id: UUID
    reason: WireRejectReason
    message: str
    details: dict[str, str] = Field(default_factory=dict)


class OrderFilled(OfAccount):
    """One execution, on the price with the number ``price_sequence``.

    ``price`` is in ``currency``, the instrument's. All other amounts are in the account's currency. ``rate`` is the
    exchange rate of the fill: units of the account's currency per unit of ``currency``.
    """

    order_id: UUID
    fill_id: UUID
    symbol: Symbol
    side: Side
    qty: Number
    price: Number
    fee: Number
    price_sequence: Sequence
    order_status: OrderStatus
    filled_qty: Number
    position_qty: Number
    cash: Number
    currency: str = "USD"
    rate: Number = Decimal(1)


class PositionChanged(OfAccount):
    """The account's position in a symbol. ``qty`` is negative where it is short, ``cost`` is the cash paid for it."""

    symbol: Symbol
    qty: Number
    cost: Number


class OrderCanceled(OfAccount):
    """The order ended before it was filled completely."""

    order_id: UUID
    reason: WireCancelReason = CancelReason.REQUESTED


class CancelRejected(OfAccount):
    """The order could not be canceled, since it does not exist, has ended or is about to be auctioned."""

    order_id: UUID
    reason: WireRejectReason
    message: str
    details: dict[str, str] = Field(default_factory=dict)


class OrderReplaced(OfAccount):
    """The order ``order_id`` ended. The order ``new_order_id`` continues with the rest of it."""

    order_id: UUID
    new_order_id: UUID


class ReplaceRejected(OfAccount):
    """The order is unchanged. ``message`` explains the ``reason`` to people."""

    order_id: UUID
    new_order_id: UUID
    reason: WireRejectReason
    message: str
    details: dict[str, str] = Field(default_factory=dict)


class OrderAdjusted(OfAccount):
    """A split changed the order's quantity and prices to these."""

    order_id: UUID
    qty: Number | None
    limit_price: Number | None
    stop_price: Number | None


class OrderExpired(OfAccount):
    """The order ended at the end of its time in force."""

    order_id: UUID
