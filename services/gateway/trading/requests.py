"""Requests of the trading API, validated before anything is stored. An error names the wrong field."""

import re
from datetime import datetime
from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from services.gateway.http.schemas import AnyCaseSymbol, Printable, Query
from shared.contracts.base import Number
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

#: A price in the instrument's currency. Clients may send four decimals.
AskedPrice = Annotated[Number, Field(gt=0, le=MAX_PRICE, decimal_places=4)]
ClientOrderId = Annotated[Printable, Field(min_length=1, max_length=128)]
#: Alpaca's clients also send "" or null for a simple order.
AskedOrderClass = Annotated[
    OrderClass,
    BeforeValidator(lambda value: value or OrderClass.SIMPLE, json_schema_input_type=OrderClass | Literal[""] | None),
]


class AskedTakeProfit(TakeProfit, Query):
    """The take-profit exit: a limit order."""

    limit_price: AskedPrice


class AskedStopLoss(StopLoss, Query):
    """The stop-loss exit: a stop order, or a stop-limit order if it has a limit price."""

    stop_price: AskedPrice
    limit_price: AskedPrice | None = None


class NewOrder(OrderTerms, Query):
    """``POST /v2/orders``: the terms of an order.

    A field of OrderTerms is repeated only where the API narrows it or accepts other spellings. The limit price of an
    oco order may stand in its ``take_profit`` alone.
    """

    symbol: AnyCaseSymbol
    limit_price: AskedPrice | None = None
    stop_price: AskedPrice | None = None
    trail_price: AskedPrice | None = None
    order_class: AskedOrderClass = OrderClass.SIMPLE
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
        """Return the command that submits this order. Its client order id defaults to ``order_id``."""
        return SubmitOrder(
            **self.model_dump(exclude={"client_order_id"}),
            account_id=account_id,
            order_id=order_id,
            client_order_id=self.client_order_id or str(order_id),
            submitted_at=now,
        )


class OrderChanges(Query):
    """``PATCH /v2/orders/{order_id}``: the terms to change. ``qty`` is the whole quantity, including what has filled.

    ``trail`` is a price or a percentage, as that of the order is.
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
            raise ValueError(f"body: send at least one of {', '.join(type(self).model_fields)}")
        return self

    def command(self, *, account_id: UUID, order_id: UUID, new_order_id: UUID, now: datetime) -> ReplaceOrder:
        """Return the command that replaces the order by one with the id ``new_order_id``."""
        return ReplaceOrder(
            **self.model_dump(), account_id=account_id, order_id=order_id, new_order_id=new_order_id, requested_at=now
        )


class _LenientQuery(BaseModel):
    """Query parameters of ``/v2``. As at Alpaca, an unknown one is ignored."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class OrderQuery(_LenientQuery):
    """``GET /v2/orders``: filters and order of the list. The newest order comes first by default."""

    status: Literal["open", "closed", "all"] = "open"
    limit: int = Field(default=50, ge=1, le=500)
    after: AwareDatetime | None = None
    until: AwareDatetime | None = None
    direction: Literal["asc", "desc"] = "desc"
    side: Side | None = None
    nested: bool = Field(default=False, description="Show the exits of an order as its legs.")
    symbols: str | None = Field(default=None, max_length=2000)

    @property
    def symbol_list(self) -> list[str] | None:
        """The symbols, in capital letters."""
        return re.split(r"[, ]+", self.symbols.upper().strip(", ")) if self.symbols else None


class NestedQuery(_LenientQuery):
    """``GET /v2/orders/{order_id}``."""

    nested: bool = Field(default=False, description="Show the exits of the order as its legs.")


class ClientOrderQuery(_LenientQuery):
    """``GET /v2/orders:by_client_order_id``."""

    client_order_id: str = ""


class CloseQuery(_LenientQuery):
    """``DELETE /v2/positions/{symbol}``: the part to close, by default all of it."""

    qty: Qty | None = None
    percentage: Annotated[Number, Field(gt=0, le=100, decimal_places=9)] | None = None

    @model_validator(mode="after")
    def _is_one_size(self) -> Self:
        if self.qty is not None and self.percentage is not None:
            raise ValueError("qty: send either qty or percentage, not both")
        return self


class CloseAllQuery(_LenientQuery):
    """``DELETE /v2/positions``."""

    cancel_orders: bool = Field(default=False, description="Cancel all open orders first.")
