"""Searches for instruments at the providers: the command, and the event that answers it."""

from typing import Annotated, ClassVar
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from shared.contracts.base import Command, Event, Symbol
from shared.contracts.instruments import AssetClass, ExchangeName, InstrumentName, InstrumentTerms, Market, QuotedIn
from shared.contracts.written import Bounded, Printable

#: Results of one search.
MOST_FOUND = 50

SearchWords = Annotated[Printable, Field(min_length=1, max_length=60)]


class FoundInstrument(BaseModel):
    """An instrument as a provider describes it. None is a field that the provider does not tell."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    symbol: Symbol
    name: InstrumentName
    market: Market | None = None
    exchange: ExchangeName | None = None
    currency: QuotedIn | None = None
    asset_class: AssetClass | None = None
    provider: str


class AskedProvider(BaseModel):
    """A provider that was asked. ``problem`` says why it did not answer, and is None where it did."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    provider: str
    problem: str | None = None


class SearchInstruments(Command):
    """Search for instruments by symbol or name, and for the one with these ``terms`` if they are given.

    A search that comes long after ``requested_at`` is left out, because nobody waits for it any more.
    """

    service: ClassVar[str] = "marketdata"

    request_id: UUID
    words: SearchWords
    limit: Annotated[int, Bounded(ge=1, le=MOST_FOUND)] = 20
    asset_class: AssetClass | None = None
    terms: InstrumentTerms | None = None
    requested_at: AwareDatetime


class InstrumentsFound(Event):
    """The results of a search. Providers that cannot search for the instrument are not among those ``asked``.

    ``match`` is the instrument of the terms. Without one, ``found`` are those with a similar symbol or name.
    """

    service: ClassVar[str] = "marketdata"

    request_id: UUID
    match: FoundInstrument | None = None
    found: tuple[FoundInstrument, ...] = Field(default=(), max_length=MOST_FOUND)
    asked: tuple[AskedProvider, ...] = ()
