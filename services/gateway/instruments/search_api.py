"""``/api/instruments/search``: search the providers for instruments, and look one up before it is added."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, NamedTuple
from uuid import uuid4

from pydantic import BaseModel, ConfigDict

from services.gateway.http.auth import READ
from services.gateway.http.endpoints import Endpoint
from services.gateway.http.errors import Invalid, NotReady
from services.gateway.http.requests import Gateway, read
from services.gateway.http.schemas import Query
from services.gateway.instruments import queries
from services.gateway.trading import commands
from shared.contracts.instrument_search import (
    MOST_FOUND,
    FoundInstrument,
    InstrumentsFound,
    InstrumentsValidated,
    SearchInstruments,
    SearchWords,
    ValidateInstruments,
)
from shared.contracts.instruments import AssetClass, GivenInstrument, InstrumentTerms
from shared.contracts.written import Bounded

#: The time that marketdata has for a search, and a second more.
WAIT_SECONDS = 7.0
#: The time that it has for a list, and some seconds more.
LIST_SECONDS = 24.0
NOT_ANSWERED = "the search was not answered in time; search again in a moment"
UNVALIDATED = 'or add it without asking, by sending "unvalidated": true'
UNVALIDATED_LIST = "or import the list without asking, with ?unvalidated=true"
#: Wrong lines of a list that an error names.
MOST_NAMED = 5


class SearchQuery(Query):
    """Query parameters of a search: a symbol, or a part of it or of the name."""

    query: SearchWords
    asset_class: AssetClass | None = None
    limit: Annotated[int, Bounded(ge=1, le=MOST_FOUND)] = 20


class SearchedInstrument(BaseModel):
    """An instrument that was found, with the ``provider`` that has it. A field that nobody tells is null.

    ``added``: it is an instrument here already. Its ``provider`` is null if only ours was found.
    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    symbol: str
    name: str
    market: str | None
    exchange: str | None
    currency: str | None
    asset_class: str | None
    provider: str | None = None
    added: bool = False


class SearchedProvider(BaseModel):
    """A provider that was asked. ``problem`` is null if it answered."""

    provider: str
    problem: str | None


class SearchResult(BaseModel):
    """The results, the best first. Without ``providers`` none of the configured ones can search."""

    items: tuple[SearchedInstrument, ...]
    providers: tuple[SearchedProvider, ...]


async def get_instrument_search(gateway: Gateway, query: SearchQuery) -> SearchResult:
    """Search for instruments at the configured providers, and among those that were added.

    The first provider of each asset class is asked, and for a class of which it has nothing the next one. Answers are
    kept for five minutes, because providers count requests.
    """
    answer = await _ask(gateway, SearchInstruments(
        request_id=uuid4(), words=query.query, limit=query.limit, asset_class=query.asset_class,
        requested_at=gateway.context.clock(),
    ))  # fmt: skip
    found = [each.model_dump() for each in answer.found]
    known = await read(
        gateway, queries.similar_instruments, query.query, query.asset_class and query.asset_class.value, query.limit
    )
    ours = await read(gateway, queries.which_are_there, [each["symbol"] for each in found])
    others = [row for row in known if row["symbol"] not in {each["symbol"] for each in found}]
    items = [{**each, "added": each["symbol"] in ours} for each in found] + [{**row, "added": True} for row in others]
    items.sort(key=lambda each: each["symbol"] != query.query.upper())
    return SearchResult(
        items=tuple(SearchedInstrument.model_validate(each) for each in items[: query.limit]),
        providers=tuple(SearchedProvider(provider=each.provider, problem=each.problem) for each in answer.asked),
    )


class ValidatedList(NamedTuple):
    """The complete terms of a list, and the number of them that were looked up or are instruments already."""

    terms: list[InstrumentTerms]
    validated: int


async def validated(gateway: Gateway, given: Mapping[str, Any], terms: InstrumentTerms) -> dict[str, Any]:
    """Return the fields that the provider of the instrument fills in, and its name as ``validated_by``.

    Nothing is filled in where no configured provider can search for such an instrument. Raises Invalid, with the field,
    where the provider does not have the instrument or has it with other terms, and NotReady where none answers now.
    """
    command = SearchInstruments(
        request_id=uuid4(), words=terms.symbol, terms=terms, requested_at=gateway.context.clock()
    )
    answer = await _ask(gateway, command)
    if answer.match is not None:
        return _filled_in(given, answer.match)
    problems = [f"{each.provider}: {each.problem}" for each in answer.asked if each.problem is not None]
    if problems:
        raise NotReady(f"symbol: cannot be validated now ({'; '.join(problems)}); try again later, {UNVALIDATED}")
    if answer.asked:
        names = " and ".join(each.provider for each in answer.asked)
        hint = f"did you mean {_listed(answer.found)}? " if answer.found else ""
        raise Invalid(
            f"symbol: {names} does not have {terms.symbol} on {terms.market}; {hint}Correct it, {UNVALIDATED}",
            field="symbol",
        )
    return {}


def _filled_in(given: Mapping[str, Any], match: FoundInstrument) -> dict[str, Any]:
    """The provider's fields where the request gives none. Raises Invalid where the two contradict each other."""
    if differs := match.contradiction(given):
        raise Invalid(f"{differs[1]}, {UNVALIDATED}", field=differs[0])
    return {**match.provided(), "validated_by": match.provider}


async def validated_list(gateway: Gateway, given: Sequence[GivenInstrument], lines: Sequence[int]) -> ValidatedList:
    """Return the complete terms of a list, with what the providers fill in.

    Raises Invalid, which names the wrong lines, and NotReady where some cannot be looked up now.
    """
    command = ValidateInstruments(request_id=uuid4(), instruments=tuple(given), requested_at=gateway.context.clock())
    _, body = await commands.ask(
        gateway,
        lambda uow: uow.publish(command),
        command.request_id,
        late=f"the list was not validated in time; send it again in a moment, {UNVALIDATED_LIST}",
        within=LIST_SECONDS,
    )
    answer = InstrumentsValidated.model_validate(body)
    if answer.wrong:
        told = "; ".join(f"line {lines[each.place]}, {each.message}" for each in answer.wrong[:MOST_NAMED])
        more = ", among others" if len(answer.wrong) > MOST_NAMED else ""
        raise Invalid(f"{told}{more}. Correct them, {UNVALIDATED_LIST}", field=answer.wrong[0].field)
    if answer.unanswered:
        problems = "; ".join(f"{each.provider}: {each.problem}" for each in answer.asked if each.problem is not None)
        why = f"{answer.unanswered} of {len(given)} instruments cannot be validated now ({problems})"
        raise NotReady(f"{why}; send the list again later, {UNVALIDATED_LIST}")
    return ValidatedList(list(answer.instruments), len(given) - answer.not_asked)


def _listed(found: tuple[FoundInstrument, ...]) -> str:
    """The instruments as a person writes them: VOD on XLON (Vodafone Group Plc)."""
    return ", ".join(f"{each.symbol}{f' on {each.market}' if each.market else ''} ({each.name[:60]})" for each in found)


async def _ask(gateway: Gateway, command: SearchInstruments) -> InstrumentsFound:
    """Raises NotReady if marketdata does not answer in time."""
    _, body = await commands.ask(
        gateway, lambda uow: uow.publish(command), command.request_id, late=NOT_ANSWERED, within=WAIT_SECONDS
    )
    return InstrumentsFound.model_validate(body)


endpoints = (Endpoint("GET", "/api/instruments/search", get_instrument_search, READ),)
