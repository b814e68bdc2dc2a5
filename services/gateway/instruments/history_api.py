"""``/api/bars``: read bars, raw or adjusted, have their history backfilled, and see what is covered."""

from datetime import datetime, timedelta
from functools import partial
from typing import Annotated, Self
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from services.gateway.http.auth import OPERATE, READ, Principal
from services.gateway.http.endpoints import Endpoint
from services.gateway.http.errors import Invalid
from services.gateway.http.pagination import FROM_CURSOR, Page, PageQuery, page_of
from services.gateway.http.requests import Gateway, read
from services.gateway.http.schemas import AnyCaseSymbol, DayOrMoment, Moment, Query, Word
from services.gateway.instruments import history_queries
from services.gateway.operations.job_control import change
from shared.contracts.bars import Adjustment, Interval
from shared.contracts.base import Number
from shared.contracts.written import Bounded
from shared.jobs.admin import control
from shared.storage.keyset import Record

#: The symbols of one backfill.
MOST_SYMBOLS = 500


class BarQuery(PageQuery):
    """Query parameters of bars. ``from`` is inclusive, ``to`` is exclusive, and both are of a bar's start."""

    limit: Annotated[int, Bounded(ge=1, le=10_000)] = 200
    cursor: Annotated[tuple[Moment], *FROM_CURSOR] | None = None
    symbol: AnyCaseSymbol
    interval: Interval
    begin: DayOrMoment | None = Field(default=None, alias="from")
    end: DayOrMoment | None = Field(default=None, alias="to")
    adjustment: Adjustment = Adjustment.RAW

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        check_order(self.begin, self.end)
        return self


class BarItem(BaseModel):
    """A bar. ``origin`` is live for one of polled prices, rolled_up for one of minutes, and else complete."""

    model_config = ConfigDict(frozen=True)

    symbol: str
    interval: Interval
    start: AwareDatetime
    open: Number
    high: Number
    low: Number
    close: Number
    volume: Number
    provider: str
    origin: str


class BarPage(Page[BarItem]):
    """Bars, the newest first."""


class NewBackfill(Query):
    """The bars to ask a provider for: those that start from ``from`` to before ``to``."""

    symbols: tuple[AnyCaseSymbol, ...] = Field(min_length=1, max_length=MOST_SYMBOLS)
    interval: Interval
    begin: DayOrMoment = Field(alias="from")
    end: DayOrMoment = Field(alias="to")
    provider: Word | None = None

    @model_validator(mode="after")
    def _check_order(self) -> Self:
        check_order(self.begin, self.end)
        return self


class BackfillQueued(BaseModel):
    """The run of ``backfill_bars``, which ``GET /api/runs/{run_id}`` shows with its progress.

    ``provider`` is null where the providers of each asset class are asked in their order.
    """

    run_id: UUID
    provider: str | None


class CoverageQuery(PageQuery):
    cursor: Annotated[tuple[str, str, str, Moment], *FROM_CURSOR] | None = None
    symbol: AnyCaseSymbol | None = None
    interval: Interval | None = None
    provider: Word | None = None


class CoverageItem(BaseModel):
    """A time whose bars a provider was asked for. A backfill does not ask for it again."""

    symbol: str
    interval: Interval
    provider: str
    begin: AwareDatetime = Field(alias="from")
    end: AwareDatetime = Field(alias="to")


class CoveragePage(Page[CoverageItem]):
    """Covered times, by symbol and interval in falling order."""


def check_order(begin: datetime | None, end: datetime | None) -> None:
    """Raise ValueError unless the time begins before it ends."""
    if begin is not None and end is not None and begin >= end:
        raise ValueError("from: must be before to")


async def get_bars(gateway: Gateway, query: BarQuery) -> BarPage:
    """List bars of a symbol and interval, the newest first.

    They are as they were traded, or `adjustment` turns them into today's shares (`split`), takes dividends out of
    earlier prices (`dividend`), or does both (`all`).

    Raises Invalid for an unknown symbol.
    """
    await check_symbols(gateway, [query.symbol], field="symbol")
    listed = partial(history_queries.bars, now=gateway.context.clock())
    return await page_of(gateway, listed, query, BarPage, ("start",))


async def post_bar_backfill(gateway: Gateway, principal: Principal, body: NewBackfill) -> BackfillQueued:
    """Have the missing bars of symbols fetched by a run of `backfill_bars`.

    A time that is covered already is not asked for again. Without a `provider` those of the symbol's asset class are
    asked in their order, until one has the bars and does not fail. Sessions of earlier years are written with them.

    Raises Invalid for an unknown symbol or provider, an interval that the provider does not have, and a time that lies
    ahead or is no longer kept.
    """
    await check_symbols(gateway, body.symbols, field="symbols")
    providers = providers_for(body, await read(gateway, history_queries.history_providers))
    check_time(body, providers[0], gateway.context.clock())
    name = providers[0]["name"] if len(providers) == 1 else None
    parameters = body.model_dump(mode="json", by_alias=True) | {"provider": name}
    parameters["symbols"] = list(dict.fromkeys(body.symbols))
    trigger = partial(control.trigger, job="backfill_bars", parameters=parameters, who=principal.key_id)
    return BackfillQueued(run_id=await change(gateway, trigger), provider=name)


async def get_bar_coverage(gateway: Gateway, query: CoverageQuery) -> CoveragePage:
    """List the times whose bars were backfilled, by symbol, interval and provider."""
    key = ("symbol", "interval", "provider", "from")
    return await page_of(gateway, history_queries.COVERAGE.page, query, CoveragePage, key)


async def check_symbols(gateway: Gateway, symbols: tuple[str, ...] | list[str], *, field: str) -> None:
    """Raise Invalid if one of the symbols is not an instrument."""
    unknown = await read(gateway, history_queries.unknown_symbols, symbols)
    if unknown:
        raise Invalid(f"{field}: unknown instrument {', '.join(unknown[:10])}", field=field)


def providers_for(body: NewBackfill, providers: list[Record]) -> list[Record]:
    """Return the provider that the request names, or those that are asked in an order. Raises Invalid."""
    names = ", ".join(each["name"] for each in providers) or "none"
    if body.provider is not None:
        found = [each for each in providers if each["name"] == body.provider]
        if not found:
            raise Invalid(f"provider: {body.provider[:40]!r} has no bars; choose of: {names}", field="provider")
    else:
        found = [each for each in providers if each["preferred"]]
        if not found:
            raise Invalid(f"provider: the present one has no bars; choose of: {names}", field="provider")
    having = [each for each in found if body.interval in each["intervals"]]
    if not having:
        listed = "; ".join(f"{each['name']} has bars of {', '.join(each['intervals'])}" for each in found)
        raise Invalid(f"interval: there are no bars of {body.interval}: {listed}", field="interval")
    return found if body.provider is None else having


def check_time(body: NewBackfill, provider: Record, now: datetime) -> None:
    """Raise Invalid if the time lies ahead, or its bars would be removed at once."""
    if body.end > now:
        raise Invalid("to: must not lie in the future", field="to")
    if body.interval != Interval.DAY and body.begin < now - timedelta(days=provider["keep_days"]):
        kept = f"bars of {body.interval} are kept for {provider['keep_days']} days"
        raise Invalid(f"from: {kept}; begin later, or raise PAPERPROFIT_KEEP_BARS_DAYS", field="from")


endpoints = (
    Endpoint("GET", "/api/bars", get_bars, READ),
    Endpoint("POST", "/api/bars/backfill", post_bar_backfill, OPERATE, 202, refusals=(409,)),
    Endpoint("GET", "/api/bars/coverage", get_bar_coverage, OPERATE),
)
