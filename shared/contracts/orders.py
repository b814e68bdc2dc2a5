"""What orders obeys and what it says. The vocabulary is Alpaca's."""

from enum import StrEnum
from typing import ClassVar
from uuid import UUID

from pydantic import AwareDatetime, Field

from shared.contracts.base import Command, Event, Number, Symbol


class Side(StrEnum):
    BUY = "buy"
    SELL = "sell"


class OrderType(StrEnum):
    MARKET = "market"
    LIMIT = "limit"
    STOP = "stop"


class TimeInForce(StrEnum):
    DAY = "day"
    GTC = "gtc"


class OrderStatus(StrEnum):
    """The statuses in use so far, of those that trading APIs know. They only move forward."""

    PENDING_NEW = "pending_new"
    ACCEPTED = "accepted"
    PARTIALLY_FILLED = "partially_filled"
    FILLED = "filled"
    CANCELED = "canceled"
    EXPIRED = "expired"
    REJECTED = "rejected"


#: An order in one of these may still fill.
OPEN_STATUSES = frozenset({OrderStatus.ACCEPTED, OrderStatus.PARTIALLY_FILLED})


class OfAccount(Event):
    """An event of one account; ``sequence`` rises by one with each event of that account."""

    service: ClassVar[str] = "orders"

    account_id: UUID
    sequence: int = Field(ge=1)
    at: AwareDatetime

    @property
    def key(self) -> str:
        return str(self.account_id)


class ToAccount(Command):
    """A command about one account; the commands that one sender has for an account are obeyed in their order."""

    service: ClassVar[str] = "orders"
    in_order: ClassVar[bool] = True

    account_id: UUID

    @property
    def key(self) -> str:
        return str(self.account_id)


class OpenAccount(ToAccount):
    """Open an account and pay in its first cash. Opening it again changes nothing."""

    name: str = Field(min_length=1, max_length=100)
    cash: Number = Field(ge=0)
    currency: str = "USD"


class SubmitOrder(ToAccount):
    """Place an order. ``order_id`` is minted by the sender, so that sending it twice places it once."""

    order_id: UUID
    client_order_id: str = Field(min_length=1, max_length=128)
    symbol: Symbol
    side: Side
    type: OrderType
    time_in_force: TimeInForce
    qty: Number = Field(gt=0, decimal_places=9)
    limit_price: Number | None = Field(default=None, gt=0)
    stop_price: Number | None = Field(default=None, gt=0)
    extended_hours: bool = False
    submitted_at: AwareDatetime
    strategy_id: UUID | None = None


class CancelOrder(ToAccount):
    """Cancel what is still open of an order."""

    order_id: UUID
    requested_at: AwareDatetime


class OrderAccepted(OfAccount):
    order_id: UUID


class OrderRejected(OfAccount):
    """The order was refused before anything changed; ``reason`` names why, ``message`` says it."""

    order_id: UUID
    reason: str
    message: str


class OrderFilled(OfAccount):
    """One execution. ``price_sequence`` names the price it was filled on."""

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


class OrderCanceled(OfAccount):
    order_id: UUID


class CancelRejected(OfAccount):
    """The order could not be canceled: it already was filled, canceled, expired or never existed."""

    order_id: UUID
    reason: str
    message: str


class OrderExpired(OfAccount):
    order_id: UUID
