"""Request bodies of the trading API, validated at the edge: a wrong field is named and nothing is stored."""

import re
from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from shared.contracts.base import Number, Symbol
from shared.contracts.orders import (
    MAX_PRICE,
    OrderClass,
    OrderTerms,
    Qty,
    ReplaceOrder,
    Side,
    StopLoss,
    SubmitOrder,
    TakeProfit,
    TimeInForce,
)


def upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


def _simple(value: object) -> object:
    return value or OrderClass.SIMPLE


#: Text without control characters; the database takes no NUL.
Printable = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]*$")]
#: In the instrument's currency; at the edge with four decimals at most.
AskedPrice = Annotated[Number, Field(gt=0, le=MAX_PRICE, decimal_places=4)]
ClientOrderId = Annotated[Printable, Field(min_length=1, max_length=128)]


class Asked(BaseModel):
    """A body in which a field that is not known is refused, not ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class AskedTakeProfit(TakeProfit, Asked):
    """The exit that takes the profit: a limit order."""

    limit_price: AskedPrice


class AskedStopLoss(StopLoss, Asked):
    """The exit that stops the loss: a stop order, or a stop-limit order where it has a limit."""

    stop_price: AskedPrice
    limit_price: AskedPrice | None = None


class NewOrder(OrderTerms, Asked):
    """``POST /v2/orders``: the terms of an order. The limit of an oco order may stand in its ``take_profit`` alone."""

    symbol: Annotated[Symbol, BeforeValidator(upper)]
    limit_price: AskedPrice | None = None
    stop_price: AskedPrice | None = None
    trail_price: AskedPrice | None = None
    order_class: Annotated[
        OrderClass, BeforeValidator(_simple, json_schema_input_type=OrderClass | Literal[""] | None)
    ] = OrderClass.SIMPLE
    take_profit: AskedTakeProfit | None = None
    stop_loss: AskedStopLoss | None = None
    client_order_id: ClientOrderId | None = None

    @model_validator(mode="before")
    @classmethod
    def _limit_of_oco(cls, given: Any) -> Any:
        if not isinstance(given, dict) or given.get("order_class") != OrderClass.OCO:
            return given
        profit = given.get("take_profit")
        if given.get("limit_price") is not None or not isinstance(profit, dict):
            return given
        return {**given, "limit_price": profit.get("limit_price")}

    def command(self, *, account_id: UUID, order_id: UUID, now: datetime) -> SubmitOrder:
        return SubmitOrder(
            **self.model_dump(exclude={"client_order_id"}),
            account_id=account_id,
            order_id=order_id,
            client_order_id=self.client_order_id or str(order_id),
            submitted_at=now,
        )


class OrderChanges(Asked):
    """``PATCH /v2/orders/{order_id}``: what is to be otherwise. ``qty`` is the whole, with what has filled.

    ``trail`` is in the unit that the order's own has: its price or its percentage.
    """

    qty: Qty | None = None
    time_in_force: TimeInForce | None = None
    limit_price: AskedPrice | None = None
    stop_price: AskedPrice | None = None
    trail: AskedPrice | None = None
    client_order_id: ClientOrderId | None = None

    @model_validator(mode="after")
    def _changes_something(self) -> Self:
        if not self.model_dump(exclude_none=True):
            raise ValueError(f"{', '.join(type(self).model_fields)}: one of them is required")
        return self

    def command(self, *, account_id: UUID, order_id: UUID, new_order_id: UUID, now: datetime) -> ReplaceOrder:
        return ReplaceOrder(
            **self.model_dump(), account_id=account_id, order_id=order_id, new_order_id=new_order_id, requested_at=now
        )


class OrderQuery(BaseModel):
    """``GET /v2/orders``: which orders, newest first unless asked otherwise."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    status: Literal["open", "closed", "all"] = "open"
    limit: int = Field(default=50, ge=1, le=500)
    after: AwareDatetime | None = None
    until: AwareDatetime | None = None
    direction: Literal["asc", "desc"] = "desc"
    side: Side | None = None
    nested: bool = Field(default=False, description="With the exits of an order as its legs.")
    symbols: str | None = Field(default=None, max_length=2000)

    @property
    def symbol_list(self) -> list[str] | None:
        return re.split(r"[, ]+", self.symbols.upper().strip(", ")) if self.symbols else None


class NestedQuery(BaseModel):
    """``GET /v2/orders/{order_id}``."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    nested: bool = Field(default=False, description="With the exits of the order as its legs.")


class ClientOrderQuery(BaseModel):
    """``GET /v2/orders:by_client_order_id``."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    client_order_id: str = ""


class CloseQuery(BaseModel):
    """``DELETE /v2/positions/{symbol}``: how much of it; all where neither is given."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    qty: Qty | None = None
    percentage: Annotated[Number, Field(gt=0, le=100, decimal_places=9)] | None = None

    @model_validator(mode="after")
    def _is_one_size(self) -> Self:
        if self.qty is not None and self.percentage is not None:
            raise ValueError("qty does not go with percentage")
        return self


class CloseAllQuery(BaseModel):
    """``DELETE /v2/positions``."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    cancel_orders: bool = Field(default=False, description="Cancel all open orders before.")


class SessionRequest(Asked):
    """A key, to be traded for a session."""

    key_id: Printable = Field(min_length=1, max_length=64)
    secret_key: Printable = Field(min_length=1, max_length=200)
