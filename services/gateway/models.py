"""Request bodies of the trading API, validated at the edge: a wrong field is named and nothing is stored."""

import re
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from shared.contracts.base import Number, Symbol
from shared.contracts.orders import OrderType, Side, SubmitOrder, TimeInForce

MAX_QTY = Decimal(1_000_000_000)
MAX_PRICE = Decimal(10_000_000)


def _upper(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


#: Text without control characters; the database takes no NUL.
Printable = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]*$")]
#: Quantities are in shares, up to nine decimals; prices in the instrument's currency.
Qty = Annotated[Number, Field(gt=0, le=MAX_QTY, decimal_places=9)]
LimitPrice = Annotated[Number, Field(gt=0, le=MAX_PRICE, decimal_places=4)]


class NewOrder(BaseModel):
    """``POST /v2/orders``. Fields of order kinds that are not here yet are refused, not ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    symbol: Annotated[Symbol, BeforeValidator(_upper)]
    qty: Qty
    side: Side
    type: OrderType
    time_in_force: TimeInForce
    limit_price: LimitPrice | None = None
    stop_price: LimitPrice | None = None
    extended_hours: Literal[False] = False
    client_order_id: Annotated[Printable, Field(min_length=1, max_length=128)] | None = None
    order_class: Literal["", "simple"] | None = None

    @model_validator(mode="after")
    def _prices_fit_the_type(self) -> Self:
        _require(self.limit_price, "limit_price", wanted=self.type is OrderType.LIMIT, kind=self.type)
        _require(self.stop_price, "stop_price", wanted=self.type is OrderType.STOP, kind=self.type)
        return self

    def command(self, *, account_id: UUID, order_id: UUID, now: datetime) -> SubmitOrder:
        return SubmitOrder(
            account_id=account_id,
            order_id=order_id,
            client_order_id=self.client_order_id or str(order_id),
            symbol=self.symbol,
            side=self.side,
            type=self.type,
            time_in_force=self.time_in_force,
            qty=self.qty,
            limit_price=self.limit_price,
            stop_price=self.stop_price,
            extended_hours=self.extended_hours,
            submitted_at=now,
        )


def _require(price: Decimal | None, name: str, *, wanted: bool, kind: OrderType) -> None:
    if wanted and price is None:
        raise ValueError(f"{name} is required for a {kind} order")
    if price is not None and not wanted:
        raise ValueError(f"{name} does not go with a {kind} order")


class OrderQuery(BaseModel):
    """``GET /v2/orders``: which orders, newest first unless asked otherwise."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    status: Literal["open", "closed", "all"] = "open"
    limit: int = Field(default=50, ge=1, le=500)
    after: AwareDatetime | None = None
    until: AwareDatetime | None = None
    direction: Literal["asc", "desc"] = "desc"
    side: Side | None = None
    symbols: str | None = Field(default=None, max_length=2000)

    @property
    def symbol_list(self) -> list[str] | None:
        return re.split(r"[, ]+", self.symbols.upper().strip(", ")) if self.symbols else None


class ClientOrderQuery(BaseModel):
    """``GET /v2/orders:by_client_order_id``."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    client_order_id: str = ""


class SessionRequest(BaseModel):
    """A key, to be traded for a session."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    key_id: Printable = Field(min_length=1, max_length=64)
    secret_key: Printable = Field(min_length=1, max_length=200)
