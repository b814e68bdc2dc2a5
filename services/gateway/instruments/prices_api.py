"""``/api/prices``: list the current prices, and push those of the user's own feed."""

from collections.abc import Sequence
from datetime import datetime
from functools import partial
from typing import Annotated, Any
from uuid import uuid4

from pydantic import (
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SkipValidation,
    TypeAdapter,
    ValidationError,
)

from services.gateway.http.auth import OPERATE, READ
from services.gateway.http.endpoints import Endpoint
from services.gateway.http.errors import invalid_fields
from services.gateway.http.pagination import FROM_CURSOR, Page, PageQuery, page_of
from services.gateway.http.requests import Gateway
from services.gateway.http.schemas import AnyCaseSymbol, Moment, PlainNumber, Query
from services.gateway.instruments import queries
from services.gateway.trading import commands
from services.gateway.trading.requests import split
from shared.bus.metrics import REFUSED_PRICES
from shared.contracts.base import Symbol
from shared.contracts.prices import (
    MOST_PRICES,
    NumberedPrice,
    PricesPushed,
    PushedBar,
    PushedPrice,
    PushPrices,
    RefusedPrice,
    TakenPrice,
)

#: A request of MOST_PRICES prices with bars and all fields has less than 500 kB.
MOST_BYTES = 1024 * 1024
SHOWN_SYMBOL = 16


class NewBar(PushedBar):
    model_config = ConfigDict(extra="forbid", frozen=True)

    start: Moment | None = None
    end: Moment | None = None


class NewPrice(PushedPrice):
    """A quote, a trade or a bar. Sides, bar and ``at`` may be missing, and ``last`` beside a bar or both sides."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    symbol: AnyCaseSymbol
    at: Moment | None = None
    bar: NewBar | None = None


class NewPrices(Query):
    """At most 1,000 prices. Each is taken or refused by itself."""

    prices: Annotated[list[SkipValidation[NewPrice]], Field(min_length=1, max_length=MOST_PRICES)]


class PushResult(BaseModel):
    """The prices that were taken, and those that were refused, by their places in the request from 0."""

    taken: tuple[TakenPrice, ...]
    refused: tuple[RefusedPrice, ...]


class PriceItem(BaseModel):
    """The current price of an instrument.

    ``quoted_at`` is its own time, ``received_at`` the time when it came from its ``provider``. ``delayed`` prices are
    not those of the moment. A ``stale`` one is older than the present phase of its market allows.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    symbol: Symbol
    currency: str
    last: PlainNumber
    bid: PlainNumber | None
    ask: PlainNumber | None
    bid_size: PlainNumber | None
    ask_size: PlainNumber | None
    open: PlainNumber | None
    high: PlainNumber | None
    low: PlainNumber | None
    volume: PlainNumber | None
    provider: str | None
    quoted_at: AwareDatetime
    received_at: AwareDatetime | None
    bar_start: AwareDatetime | None
    delayed: bool
    stale: bool
    sequence: int


class PricePage(Page[PriceItem]):
    """Current prices, by symbol."""


class PriceQuery(PageQuery):
    cursor: Annotated[tuple[Symbol], *FROM_CURSOR] | None = None
    symbols: Annotated[tuple[AnyCaseSymbol, ...], Field(max_length=500), BeforeValidator(split)] | None = Field(
        default=None, description="Up to 500 symbols, repeated or separated by commas."
    )


async def get_prices(gateway: Gateway, query: PriceQuery) -> PricePage:
    """List the current price of every instrument that has one, by symbol."""
    listed = partial(queries.current_prices, ages=queries.ages_of(gateway))
    return await page_of(gateway, listed, query, PricePage, ("symbol",))


async def post_prices(gateway: Gateway, body: NewPrices) -> PushResult:
    """Push prices of your own feed: quotes, trades and bars.

    A missing side stays missing. A missing `last` is the bar's close, or the middle of both sides. A missing `at` is
    the bar's end, or the present. A price that is refused changes nothing, and the others are taken.

    Raises NotReady if the prices are not taken in time. The same prices may be sent again: none is taken twice.
    """
    return await push(gateway, body.prices)


async def push(gateway: Gateway, given: Sequence[Any]) -> PushResult:
    """Have marketdata take the prices, and return its answer with the refusals of those that cannot be read."""
    now = gateway.context.clock()
    prices: list[NumberedPrice] = []
    unread: list[RefusedPrice] = []
    for index, each in enumerate(given):
        try:
            price = _PRICE.validate_python(each)
        except ValidationError as error:
            unread.append(_unread(index, each, invalid_fields(error).message))
        else:
            prices.append(NumberedPrice(**price.model_dump(), index=index))
    answer = await _pushed(gateway, prices, now) if prices else None
    refused = [*unread, *(answer.refused if answer else ())]
    return PushResult(taken=answer.taken if answer else (), refused=tuple(sorted(refused, key=lambda each: each.index)))


async def _pushed(gateway: Gateway, prices: Sequence[NumberedPrice], now: datetime) -> PricesPushed:
    command = PushPrices(push_id=uuid4(), pushed=tuple(prices), received_at=now)
    late = "the prices were not taken yet; send them again in a moment: none is taken twice"
    _, body = await commands.ask(gateway, lambda uow: uow.publish(command), command.push_id, late=late)
    return PricesPushed.model_validate(body)


def _unread(index: int, given: Any, message: str) -> RefusedPrice:
    REFUSED_PRICES.labels("push", "invalid").inc()
    symbol = given.get("symbol") if isinstance(given, dict) else None
    known = isinstance(symbol, str) and symbol.isascii() and symbol.isprintable()
    return RefusedPrice(
        index=index, symbol=symbol[:SHOWN_SYMBOL] if known and symbol else None, reason="invalid", message=message
    )


_PRICE: TypeAdapter[NewPrice] = TypeAdapter(NewPrice)
endpoints = (
    Endpoint("GET", "/api/prices", get_prices, READ),
    Endpoint("POST", "/api/prices", post_prices, OPERATE, most_bytes=MOST_BYTES),
)
