"""Requests of the trading API, validated before anything is stored. An error names the wrong field."""

import re
from datetime import date, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, Self
from uuid import UUID
from zoneinfo import ZoneInfo

from pydantic import BeforeValidator, Field, model_validator

from services.gateway.http.errors import SUB_PENNY, Invalid
from services.gateway.http.schemas import Moment, Query, upper
from shared.contracts.orders import (
    MAX_PRICE,
    ClientOrderId,
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
from shared.contracts.written import Bounded, Printable
from shared.money import ZERO, plain

#: A price in the instrument's currency. That of a pair may have nine decimals, and that of a share four.
AskedPrice = Annotated[Decimal, Bounded(gt=0, le=MAX_PRICE, decimal_places=9)]
SHARES_STEP = Decimal("0.0001")
#: The client chooses it, once for each order that it wants.
IdempotencyKey = Annotated[Printable, Field(min_length=1, max_length=255)]
#: Alpaca's clients also send "" or null for a simple order.
AskedOrderClass = Annotated[
    OrderClass,
    BeforeValidator(lambda value: value or OrderClass.SIMPLE, json_schema_input_type=OrderClass | Literal[""] | None),
]
#: A symbol in any case, or the id of an asset.
AskedAsset = Annotated[
    str, Field(min_length=1, max_length=36, pattern=r"^[A-Z0-9][A-Z0-9./-]*$"), BeforeValidator(upper)
]
#: Where a client sends a date or a time without a zone, it means New York, as Alpaca's market does.
NEW_YORK = ZoneInfo("America/New_York")
#: The characters of a time, which is cut after them.
LONGEST_TIME = 40
_ZONE = "A date, or a time without a zone, is New York's."


def _with_zone(given: object) -> object:
    """Return the time of a text such as 2026-11-01, 2026-11-01 09:30:00 or 2026-11-01T09:30:00-05:00.

    A date is the start of its day. In a URL an unescaped "+" has become a space.
    """
    if not isinstance(given, str):
        return given
    text = given[:LONGEST_TIME].strip().upper()
    try:
        time = datetime.fromisoformat(re.sub(r"^(.+:.+) ([0-9]{2}:?[0-9]{2})$", r"\1+\2", text))
    except ValueError:
        raise ValueError("must be a date or a time, such as 2026-11-01 or 2026-11-01T09:30:00-05:00") from None
    return time if time.tzinfo else time.replace(tzinfo=NEW_YORK)


_TimeText = Annotated[str, Field(max_length=LONGEST_TIME)]
#: The time that a list begins or ends at, in any of the spellings of Alpaca's clients.
AskedTime = Annotated[Moment, BeforeValidator(_with_zone, json_schema_input_type=_TimeText)]


def split(given: object) -> object:
    """Return the items of texts that are separated by commas or spaces."""
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list | tuple) or not all(isinstance(each, str) for each in texts):
        return given
    return tuple(item for each in texts for item in re.split(r"[, ]+", each) if item)


#: A parameter that is repeated, or has its items separated by commas.
_Name = Annotated[str, Field(max_length=36, pattern=r"^[A-Za-z0-9][A-Za-z0-9_./-]*$")]
Names = Annotated[tuple[_Name, ...], Field(max_length=500), BeforeValidator(split)]

#: A day that a calendar may begin or end at. Clients also send its midnight.
CalendarDay = Annotated[
    date,
    Field(ge=date(1970, 1, 1), le=date(2200, 1, 1)),
    BeforeValidator(lambda given: given[:10] if isinstance(given, str) else given, json_schema_input_type=date),
]
MAX_DAYS = 3660


class TradingBody(Query):
    """The body of a request under ``/v2``. A field that is null is absent, as JavaScript's clients mean it."""

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, given: Any) -> Any:
        return _present(given)


def _present(given: Any) -> Any:
    if not isinstance(given, dict):
        return given
    return {name: _present(value) for name, value in given.items() if value is not None}


class AskedTakeProfit(TakeProfit, Query):
    """The take-profit exit: a limit order."""

    limit_price: AskedPrice


class AskedStopLoss(StopLoss, Query):
    """The stop-loss exit: a stop order, or a stop-limit order if it has a limit price."""

    stop_price: AskedPrice
    limit_price: AskedPrice | None = None


class NewOrder(OrderTerms, TradingBody):
    """``POST /v2/orders``: the terms of an order. ``symbol`` may also be the id of the asset.

    A field of OrderTerms is repeated only where the API narrows it or accepts other spellings. The limit price of an
    oco order may stand in its ``take_profit`` alone.
    """

    symbol: AskedAsset
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

    def command(self, symbol: str, *, account_id: UUID, order_id: UUID, now: datetime) -> SubmitOrder:
        """Return the command that submits this order of ``symbol``. Its client order id defaults to ``order_id``."""
        return SubmitOrder(
            **self.model_dump(exclude={"client_order_id", "symbol"}),
            symbol=symbol,
            account_id=account_id,
            order_id=order_id,
            client_order_id=self.client_order_id or str(order_id),
            submitted_at=now,
        )


def check_decimals(body: "NewOrder | OrderChanges", symbol: str) -> None:
    """Raise Invalid for a price that no tick of a share has. The exchange checks the ticks of each instrument."""
    if "/" in symbol:
        return
    fields = body.model_dump(exclude_none=True)
    parts = {"": fields, **{f"{name}.": each for name, each in fields.items() if isinstance(each, dict)}}
    for prefix, part in parts.items():
        for name in ("limit_price", "stop_price", "trail_price", "trail"):
            if part.get(name, ZERO) % SHARES_STEP:
                field = f"{prefix}{name}"
                raise Invalid(f"invalid {field} {plain(part[name])}. {SUB_PENNY}", field=field)


class OrderHeaders(Query):
    """Headers of the requests that place an order."""

    idempotency_key: IdempotencyKey | None = Field(
        default=None,
        alias="Idempotency-Key",
        description="A request that is repeated with its key within 24 hours gets the first answer.",
    )


class OrderChanges(TradingBody):
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


class OrderQuery(Query):
    """``GET /v2/orders``: filters and order of the list. The newest order comes first by default.

    The list is paged by ``after_order_id`` or ``before_order_id``, which are ids of orders of the account.
    """

    status: Literal["open", "closed", "all"] = "open"
    limit: Annotated[int, Bounded(ge=1, le=500)] = 50
    after: AskedTime | None = Field(default=None, description=f"Submitted after this time. {_ZONE}")
    until: AskedTime | None = Field(default=None, description=f"Submitted before this time. {_ZONE}")
    after_order_id: UUID | None = Field(default=None, description="Submitted after this order.")
    before_order_id: UUID | None = Field(default=None, description="Submitted before this order.")
    direction: Literal["asc", "desc"] = "desc"
    side: Side | None = None
    nested: bool = Field(default=False, description="Show the exits of an order as its legs.")
    symbols: Names | None = None
    asset_class: Names | None = Field(default=None, description="`all` is every class.")

    @model_validator(mode="after")
    def _has_one_page(self) -> Self:
        if self.after_order_id is not None and self.before_order_id is not None:
            raise ValueError("after_order_id: send either after_order_id or before_order_id, not both")
        return self

    @property
    def symbol_list(self) -> list[str] | None:
        """The symbols, in capital letters."""
        return [symbol.upper() for symbol in self.symbols] if self.symbols else None

    @property
    def asset_classes(self) -> list[str] | None:
        """The asset classes, or None for all."""
        return list(self.asset_class) if self.asset_class and "all" not in self.asset_class else None


class NestedQuery(Query):
    """``GET /v2/orders/{order_id}``."""

    nested: bool = Field(default=False, description="Show the exits of the order as its legs.")


class ClientOrderQuery(NestedQuery):
    """``GET /v2/orders:by_client_order_id``."""

    client_order_id: Annotated[Printable, Field(max_length=128)] = ""


class CloseQuery(Query):
    """``DELETE /v2/positions/{symbol}``: the part to close, by default all of it."""

    qty: Qty | None = None
    percentage: Annotated[Decimal, Bounded(gt=0, le=100, decimal_places=9)] | None = None

    @model_validator(mode="after")
    def _is_one_size(self) -> Self:
        if self.qty is not None and self.percentage is not None:
            raise ValueError("qty: send either qty or percentage, not both")
        return self


class CloseAllQuery(Query):
    """``DELETE /v2/positions``."""

    cancel_orders: bool = Field(default=False, description="Cancel all open orders first.")


class CalendarQuery(Query):
    """``GET /v2/calendar``: both days are included."""

    start: CalendarDay | None = None
    end: CalendarDay | None = None

    @model_validator(mode="after")
    def _is_short(self) -> Self:
        if self.start is not None and self.end is not None and not 0 <= (self.end - self.start).days <= MAX_DAYS:
            raise ValueError(f"end: must be from start to {MAX_DAYS} days after it")
        return self
