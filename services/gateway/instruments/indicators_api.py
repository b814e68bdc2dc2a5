"""``/api/indicators``: name the technical indicators to keep up to date, and read their values."""

from collections.abc import Mapping, Sequence
from math import isnan
from typing import Annotated, Any
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator
from sqlalchemy import Connection

from services.gateway.http.auth import OPERATE, READ, Principal
from services.gateway.http.endpoints import Endpoint
from services.gateway.http.errors import Invalid, NotFound
from services.gateway.http.pagination import FROM_CURSOR, Page, PageQuery, StretchQuery, TimeCursor, page_of
from services.gateway.http.requests import Gateway, read
from services.gateway.http.schemas import AnyCaseSymbol, Moment, Query
from services.gateway.instruments import indicator_queries as queries
from services.gateway.trading import commands, order_queries
from services.gateway.trading.requests import Names
from shared.contracts.indicators import (
    OUTPUTS,
    AddIndicator,
    GivenParameters,
    Indicator,
    IndicatorName,
    Interval,
    RemoveIndicator,
    complete,
    indicator_id,
    written,
)
from shared.storage.keyset import Record

#: More would not be computed within a minute.
MOST_INDICATORS = 10_000


class NewIndicator(Indicator, Query):
    """The indicator to keep up to date. An indicator that was named before stays as it is.

    Its parameters may also stand beside its name, as in a watchlist: ``{"name": "rsi", "period": 5}``.
    """

    symbol: AnyCaseSymbol

    @model_validator(mode="before")
    @classmethod
    def _nest(cls, given: object) -> object:
        if not isinstance(given, dict) or "parameters" in given:
            return given
        flat = {name: value for name, value in given.items() if name in GivenParameters.model_fields}
        return {**{name: value for name, value in given.items() if name not in flat}, "parameters": flat}


class IndicatorItem(BaseModel):
    """An indicator. It is ``ready`` once all bars have its values, the last of them the one from ``computed_to``.

    ``by_hand``: an operator named it. ``by_strategies``: a running strategy reads it. ``by_watchlists``: a
    watchlist names it.
    """

    model_config = ConfigDict(frozen=True)

    id: UUID
    symbol: str
    interval: Interval
    name: IndicatorName
    parameters: dict[str, str]
    requested_at: AwareDatetime | None = None
    computed_to: AwareDatetime | None = None
    ready: bool = False
    by_hand: bool = True
    by_strategies: bool = False
    by_watchlists: bool = False


class IndicatorPage(Page[IndicatorItem]):
    """Indicators, the last one named first."""


class IndicatorQuery(PageQuery):
    cursor: TimeCursor | None = None
    symbol: AnyCaseSymbol | None = None
    interval: Interval | None = None
    name: IndicatorName | None = None


class _Which(GivenParameters):
    """The indicator, with its parameters. Those that are missing have their defaults."""

    interval: Interval
    name: IndicatorName

    @property
    def parameters(self) -> GivenParameters:
        return GivenParameters(**self.model_dump(include=set(GivenParameters.model_fields)))


class ValuesQuery(_Which, StretchQuery):
    symbol: AnyCaseSymbol
    cursor: Annotated[tuple[Moment], *FROM_CURSOR] | None = None


class LatestQuery(_Which):
    symbols: Names = Field(description="Up to 500 symbols, separated by commas.")


class ValueItem(BaseModel):
    """The values of an indicator at one bar by their names. A value that does not exist yet is null."""

    model_config = ConfigDict(frozen=True)

    start_at: AwareDatetime
    values: dict[str, float | None]


class ValuesPage(Page[ValueItem]):
    """Values at closed bars, the last bar first."""


class LatestValues(BaseModel):
    """The values at each symbol's last closed bar. A symbol without the indicator is left out."""

    model_config = ConfigDict(frozen=True)

    latest: dict[str, ValueItem]


async def post_indicator(gateway: Gateway, principal: Principal, body: NewIndicator) -> IndicatorItem:
    """Have an indicator computed, also for the bars that are stored, and kept up to date.

    Raises Invalid for an unknown symbol, or if there are too many indicators.
    """
    if not await read(gateway, order_queries.instrument_exists, body.symbol):
        raise Invalid(f"symbol: unknown instrument {body.symbol}", field="symbol")
    found = await read(gateway, queries.indicator, body.id)
    if found is not None and found["by_hand"]:
        return IndicatorItem(**found)
    if found is None and await read(gateway, queries.count) >= MOST_INDICATORS:
        raise Invalid(f"there are {MOST_INDICATORS} indicators already; remove some that nobody needs")
    terms = body.model_dump(exclude={"parameters"})
    command = AddIndicator(**terms, parameters=body.parameters, requested_at=gateway.context.clock())
    after = {**terms, "parameters": written(body.all_parameters)}
    publish = commands.recorded(command, principal, "add_indicator", body.symbol, after)
    await commands.send(gateway, publish, (), account_id=None)
    return IndicatorItem(**{**(found or {"id": body.id, **after}), "by_hand": True})


async def delete_indicator(gateway: Gateway, principal: Principal, indicator_id: UUID) -> None:
    """Have an indicator computed no longer, and remove its values, unless a strategy or a watchlist names it.

    Raises NotFound for an unknown id.
    """
    found = await read(gateway, queries.indicator, indicator_id)
    if found is None:
        raise NotFound(f"there is no indicator {indicator_id}")
    command = RemoveIndicator(symbol=found["symbol"], indicator_id=indicator_id)
    before = {"symbol": found["symbol"], "interval": found["interval"], "name": found["name"]}
    publish = commands.recorded(command, principal, "remove_indicator", found["symbol"], None, before=before)
    await commands.send(gateway, publish, (), account_id=None)


async def get_indicators(gateway: Gateway, query: IndicatorQuery) -> IndicatorPage:
    """List the indicators that are kept up to date."""
    return await page_of(gateway, queries.INDICATORS.page, query, IndicatorPage, ("requested_at", "id"))


async def get_indicator_values(gateway: Gateway, query: ValuesQuery) -> ValuesPage:
    """List the values of an indicator, those at the last bar first.

    Prices from before a split are those of today's shares.

    Raises NotFound if nobody named the indicator, and Invalid for a parameter that it does not have.
    """
    (found_id,) = _ids(query, [query.symbol])
    found = await read(gateway, queries.indicator, found_id)
    if found is None:
        named = f"{query.name} with these parameters of {query.symbol} {query.interval}"
        raise NotFound(f"nobody named {named}: POST it to /api/indicators first")

    def listed(
        connection: Connection, _filters: Mapping[str, Any], /, *, after: Sequence[Any] | None, limit: int
    ) -> list[Record]:
        rows = queries.values(connection, found, begin=query.begin, end=query.end, after=after, limit=limit)
        return [{"start_at": row["start_at"], "values": _named(query.name, row["outputs"])} for row in rows]

    return await page_of(gateway, listed, query, ValuesPage, ("start_at",))


async def get_latest_indicator_values(gateway: Gateway, query: LatestQuery) -> LatestValues:
    """Return the values of an indicator at the last closed bar of each of up to 500 symbols.

    `symbols` are separated by commas.

    Raises Invalid for a parameter that the indicator does not have.
    """
    rows = await read(gateway, queries.latest_values, _ids(query, [symbol.upper() for symbol in query.symbols]))
    return LatestValues(
        latest={
            row["symbol"]: ValueItem(start_at=row["start_at"], values=_named(query.name, row["outputs"]))
            for row in rows
        }
    )


def _ids(query: _Which, symbols: Sequence[str]) -> list[UUID]:
    """Return the ids of the indicator of each symbol. Raises Invalid for parameters that it does not have."""
    try:
        parameters = complete(query.name, query.parameters)
    except ValueError as error:
        message = str(error)
        raise Invalid(message, field=message.partition(":")[0]) from None
    return [indicator_id(symbol, query.interval, query.name, parameters) for symbol in symbols]


def _named(name: IndicatorName, outputs: Sequence[float]) -> dict[str, float | None]:
    return {each: None if isnan(value) else value for each, value in zip(OUTPUTS[name], outputs, strict=False)}


endpoints = (
    Endpoint("GET", "/api/indicators", get_indicators, READ),
    Endpoint("POST", "/api/indicators", post_indicator, OPERATE, 202),
    Endpoint("GET", "/api/indicators/values", get_indicator_values, READ, refusals=(404,)),
    Endpoint("GET", "/api/indicators/latest", get_latest_indicator_values, READ),
    Endpoint("DELETE", "/api/indicators/{indicator_id}", delete_indicator, OPERATE, 204),
)
