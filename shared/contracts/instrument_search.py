"""Searches for instruments at the providers, and the validation of lists: commands, and the events that answer them."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from shared.contracts.base import Command, Count, Event, Symbol
from shared.contracts.instruments import (
    MOST_INSTRUMENTS,
    US_MARKETS,
    AssetClass,
    ExchangeName,
    GivenInstrument,
    InstrumentName,
    InstrumentTerms,
    Market,
    QuotedIn,
)
from shared.contracts.written import Bounded, Printable

#: Results of one search.
MOST_FOUND = 50
#: Instruments of a list that an answer names.
MOST_WRONG = 20
#: The fields of an instrument that a provider knows.
PROVIDED = ("name", "market", "exchange", "currency", "asset_class")

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

    def provided(self) -> dict[str, Any]:
        """The terms that the provider tells."""
        return self.model_dump(include=set(PROVIDED), exclude_none=True)

    def contradiction(self, given: Mapping[str, Any]) -> tuple[str, str] | None:
        """The first field that the provider has otherwise than ``given``, with a message. None if there is none."""
        for name in ("currency", "asset_class", "market"):
            ours, theirs = given.get(name), getattr(self, name)
            if ours is None or theirs is None or ours == theirs or {ours, theirs} <= US_MARKETS:
                continue
            return name, f"{name}: {self.provider} has {self.symbol} with {theirs}; correct it"
        return None


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


class ValidateInstruments(Command):
    """Look up the instruments of a list at the providers. Nothing is added."""

    service: ClassVar[str] = "marketdata"

    request_id: UUID
    instruments: tuple[GivenInstrument, ...] = Field(min_length=1, max_length=MOST_INSTRUMENTS)
    requested_at: AwareDatetime


class WrongInstrument(BaseModel):
    """An instrument that the provider does not have, or has otherwise. ``place`` is that in the list, from 0."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    place: Count
    field: str
    message: str


class InstrumentsValidated(Event):
    """The instruments of a list with what the providers fill in, or the first of the ``wrong`` ones.

    ``not_asked`` counts those that no provider was asked for, because none can search for them. Those that could not
    be looked up now are counted in ``unanswered``, and ``asked`` has the problems.
    """

    service: ClassVar[str] = "marketdata"

    request_id: UUID
    instruments: tuple[InstrumentTerms, ...] = Field(default=(), max_length=MOST_INSTRUMENTS)
    wrong: tuple[WrongInstrument, ...] = Field(default=(), max_length=MOST_WRONG)
    not_asked: Count = 0
    unanswered: Count = 0
    asked: tuple[AskedProvider, ...] = ()
