"""``/api/instruments``: search, add, import, change and retire instruments."""

from collections.abc import Mapping
from functools import partial
from typing import Annotated, Any
from uuid import UUID, uuid4

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import Request

from services.gateway.http.auth import OPERATE, READ, Principal
from services.gateway.http.endpoints import Endpoint
from services.gateway.http.errors import Conflict, Invalid, NotFound, invalid_fields
from services.gateway.http.pagination import FROM_CURSOR, Page, PageQuery, page_of
from services.gateway.http.requests import Gateway, read, read_bytes
from services.gateway.http.schemas import AnyCaseSymbol, PlainNumber, Query, Word
from services.gateway.instruments import queries
from services.gateway.instruments.search_api import ValidatedList, validated, validated_list
from services.gateway.trading import commands
from shared.contracts.base import Message, Symbol
from shared.contracts.instrument_lists import UnreadableList, read_csv
from shared.contracts.instrument_search import PROVIDED
from shared.contracts.instruments import (
    AddInstruments,
    AssetClass,
    ChangeInstrument,
    ExchangeName,
    InstrumentChanges,
    InstrumentName,
    InstrumentsChanged,
    InstrumentsRefused,
    InstrumentStatus,
    InstrumentTerms,
    Market,
    QuotedIn,
    Step,
    TickRule,
)

MOST_BYTES = 512 * 1024
NOT_ANSWERED = "the request was not answered yet; look at the instrument in a moment, or send the same again"


class NewInstrument(Query):
    """The instrument to add. The symbol, the market and the asset class give the terms that are left out."""

    symbol: AnyCaseSymbol
    name: InstrumentName | None = None
    market: Market | None = None
    exchange: ExchangeName | None = None
    currency: QuotedIn | None = None
    asset_class: AssetClass | None = None
    tick_size: Step | None = None
    tick_rule: TickRule | None = None
    lot_size: Step | None = None
    fractionable: bool | None = None
    shortable: bool | None = None
    unvalidated: bool = Field(default=False, description="True to add it without asking the provider for it.")


class ChangedInstrument(InstrumentChanges):
    """The fields to change. Others stay as they are."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class InstrumentItem(BaseModel):
    """An instrument with its current price. ``stale``: the price is older than the market's present phase allows."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: UUID
    symbol: Symbol
    name: str
    market: str
    exchange: str
    currency: str
    asset_class: str
    tick_size: PlainNumber
    tick_rule: str
    lot_size: PlainNumber
    fractionable: bool
    shortable: bool
    tradable: bool
    status: str
    last: PlainNumber | None
    bid: PlainNumber | None
    ask: PlainNumber | None
    provider: str | None
    quoted_at: AwareDatetime | None
    received_at: AwareDatetime | None
    delayed: bool
    stale: bool | None
    halted_at: AwareDatetime | None
    halt_reason: str | None


class AddedInstrument(InstrumentItem):
    """An instrument that was added. ``validated_by`` is the provider that has it, null if none was asked."""

    validated_by: str | None = None


class InstrumentPage(Page[InstrumentItem]):
    """Instruments, by symbol."""


class InstrumentQuery(PageQuery):
    cursor: Annotated[tuple[Symbol], *FROM_CURSOR] | None = None
    q: Word | None = Field(default=None, description="A part of the symbol or of the name.")
    market: Market | None = None
    asset_class: AssetClass | None = None
    currency: QuotedIn | None = None
    status: InstrumentStatus | None = None
    tradable: bool | None = None


class ListQuery(Query):
    """Query parameters of an import."""

    unvalidated: bool = Field(default=False, description="True to import the list without asking the provider.")


class Imported(BaseModel):
    """The instruments of the list: those that were added, with the currency pairs that they needed, and the others."""

    added: tuple[Symbol, ...]
    unchanged: int
    #: False if providers were not asked for some of them: no provider can search for these, or nobody was to be asked.
    validated: bool


async def get_instruments(gateway: Gateway, query: InstrumentQuery) -> InstrumentPage:
    """List instruments by symbol, or those whose symbol or name has the text `q`."""
    listed = partial(queries.instruments, ages=queries.ages_of(gateway))
    return await page_of(gateway, listed, query, InstrumentPage, ("symbol",))


async def get_instrument(gateway: Gateway, symbol: AnyCaseSymbol) -> InstrumentItem:
    """Get an instrument. The slash of a pair may be percent-encoded."""
    row = await read(gateway, queries.instrument, symbol, ages=queries.ages_of(gateway))
    if row is None:
        raise NotFound(f"unknown instrument {symbol}")
    return InstrumentItem.model_validate(row)


async def post_instrument(gateway: Gateway, principal: Principal, body: NewInstrument) -> AddedInstrument:
    """Add an instrument. If it exists with the same terms, it is returned unchanged.

    The provider of its asset class is asked for it first, and fills in name, exchange, market, currency and asset
    class where they are not given. With `unvalidated` nobody is asked. Providers that cannot search, such as `replay`
    and `push`, take every instrument. The currency pair is added with it if an account's currency is another one.

    Raises Invalid for terms that do not fit together or that the provider does not have, Conflict if it exists with
    other terms, and NotReady if the provider does not answer now.
    """
    given = body.model_dump(exclude_none=True, exclude={"unvalidated"})
    terms = _terms_of(given)
    known = await read(gateway, queries.instrument, terms.symbol, ages=queries.ages_of(gateway))
    if known is not None:
        provided: dict[str, Any] = {name: known[name] for name in PROVIDED}
    else:
        provided = {} if body.unvalidated else await validated(gateway, given, terms)
    validated_by = provided.pop("validated_by", None)
    terms = _terms_of({**provided, **given})
    await _add(gateway, principal, [terms], "add_instrument", terms.symbol)
    added = await get_instrument(gateway, terms.symbol)
    return AddedInstrument(**added.model_dump(), validated_by=validated_by)


def _terms_of(given: Mapping[str, Any]) -> InstrumentTerms:
    """The complete terms. Raises Invalid."""
    try:
        return InstrumentTerms.model_validate(given)
    except ValidationError as error:
        raise invalid_fields(error) from None


async def post_import(gateway: Gateway, principal: Principal, request: Request, query: ListQuery) -> Imported:
    """Import instruments from a body of CSV: all of them, or none.

    The first line names the columns: `symbol`, and any of `name`, `market`, `exchange`, `currency`, `asset_class`,
    `tick_size`, `tick_rule`, `lot_size`, `fractionable` and `shortable`. An empty field has its default.

    The provider of each asset class is asked for them first, as for one instrument, and fills in what is not given.
    With `unvalidated=true` nobody is asked.

    Raises Invalid with the numbers of the wrong lines, Conflict if one exists with other terms, and NotReady if the
    provider does not answer now.
    """
    try:
        rows = read_csv((await read_bytes(request, most=MOST_BYTES)).decode("utf-8"))
    except UnicodeDecodeError:
        raise Invalid("body: is not text in UTF-8", field="body") from None
    except UnreadableList as error:
        raise Invalid(str(error), field=error.field) from None
    lines, given = [line for line, _ in rows], [each for _, each in rows]
    if query.unvalidated:
        found = ValidatedList([each.terms() for each in given], 0)
    else:
        found = await validated_list(gateway, given, lines)
    answer = await _add(gateway, principal, found.terms, "import_instruments", "list", lines=lines)
    everything = found.validated == len(given)
    return Imported(added=answer.added, unchanged=answer.unchanged, validated=everything)


async def patch_instrument(
    gateway: Gateway, principal: Principal, symbol: AnyCaseSymbol, body: ChangedInstrument
) -> InstrumentItem:
    """Change an instrument. Its symbol, currency and asset class stay, because books are kept in them.

    With the status `retired` it is retired, and with `active` it is traded again.

    Raises NotFound, and Invalid for terms that do not fit together.
    """
    if not body.changed():
        raise Invalid("body: names nothing to change; send at least one field", field="body")
    changes = InstrumentChanges.model_validate(body.model_dump())
    return await _change(gateway, principal, symbol, changes, "change_instrument")


async def delete_instrument(gateway: Gateway, principal: Principal, symbol: AnyCaseSymbol) -> InstrumentItem:
    """Retire an instrument: it takes no more orders but those that close a position.

    Its prices go on while somebody holds it. Retiring it again changes nothing.

    Raises NotFound.
    """
    changes = InstrumentChanges(status=InstrumentStatus.RETIRED)
    return await _change(gateway, principal, symbol, changes, "retire_instrument")


async def _change(
    gateway: Gateway, principal: Principal, symbol: str, changes: InstrumentChanges, action: str
) -> InstrumentItem:
    before = await get_instrument(gateway, symbol)
    command = ChangeInstrument(request_id=uuid4(), symbol=symbol, changes=changes)
    told = changes.model_dump(mode="json", exclude_none=True)
    known = {name: value for name, value in before.model_dump(mode="json").items() if name in told}
    publish = commands.recorded(command, principal, action, symbol, told, before=known)
    _done(*await commands.ask(gateway, publish, command.request_id, late=NOT_ANSWERED))
    return await get_instrument(gateway, symbol)


async def _add(
    gateway: Gateway,
    principal: Principal,
    given: list[InstrumentTerms],
    action: str,
    subject: str,
    *,
    lines: list[int] | None = None,
) -> InstrumentsChanged:
    """Have marketdata add the instruments. Raises Conflict and Invalid, which name the line of a list."""
    currencies = tuple(await read(gateway, queries.account_currencies))
    command = AddInstruments(request_id=uuid4(), instruments=tuple(given), pairs_with=currencies)
    after: Any = command.model_dump(mode="json")["instruments"] if lines is None else {"instruments": len(given)}
    publish = commands.recorded(command, principal, action, subject, after)
    return _done(*await commands.ask(gateway, publish, command.request_id, late=NOT_ANSWERED), lines=lines)


def _done(message: type[Message], body: Mapping[str, Any], *, lines: list[int] | None = None) -> InstrumentsChanged:
    """Return the answer. Raises Conflict and Invalid where it is a refusal."""
    if message is not InstrumentsRefused:
        return InstrumentsChanged.model_validate(body)
    refused = InstrumentsRefused.model_validate(body)
    told = refused.message if lines is None else f"line {lines[refused.place]}, {refused.message}"
    if refused.reason == "duplicate":
        raise Conflict(told, field=refused.field)
    raise Invalid(told, field=refused.field)


endpoints = (
    Endpoint("GET", "/api/instruments", get_instruments, READ),
    Endpoint("POST", "/api/instruments", post_instrument, OPERATE, 201, refusals=(409,)),
    Endpoint(
        "POST",
        "/api/instruments/import",
        post_import,
        OPERATE,
        refusals=(408, 409, 413),
        most_bytes=MOST_BYTES,
        file="text/csv",
    ),
    Endpoint("GET", "/api/instruments/{symbol}", get_instrument, READ),
    Endpoint("PATCH", "/api/instruments/{symbol}", patch_instrument, OPERATE),
    Endpoint("DELETE", "/api/instruments/{symbol}", delete_instrument, OPERATE),
)
