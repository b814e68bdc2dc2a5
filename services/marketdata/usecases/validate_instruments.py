"""Validate a list of instruments with the providers before any of it is added.

Instruments are looked up in batches, those of an asset class at its first provider, and those that it does not have at
the next. One that is an instrument already is not looked up. Answers are kept for some minutes, so that a list whose
lookup did not end in time goes on where it was when it is sent again.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any
from uuid import UUID

from pydantic import ValidationError

from services.marketdata.persistence import instruments
from services.marketdata.providers.provider import Listed, Provider
from services.marketdata.usecases.fetch_prices import Order
from services.marketdata.usecases.search_instruments import Answer, Search, Searches, busy, can_search, readable
from shared.bus.unit_of_work import ServiceContext
from shared.contracts.base import first_error
from shared.contracts.instrument_search import (
    MOST_WRONG,
    PROVIDED,
    FoundInstrument,
    InstrumentsValidated,
    WrongInstrument,
)
from shared.contracts.instruments import AssetClass, GivenInstrument, InstrumentTerms

#: A validation ends after this time. The gateway waits a little longer.
SECONDS = 20.0


def validate(
    context: ServiceContext,
    searches: Searches,
    order: Order,
    given: Sequence[GivenInstrument],
    request_id: UUID,
    *,
    seconds: float = SECONDS,
) -> InstrumentsValidated:
    """Return the complete terms of the list, or the first of its instruments that are wrong."""
    if not searches.turns.acquire(blocking=False):
        return InstrumentsValidated(request_id=request_id, unanswered=len(given), asked=busy(order))
    try:
        with context.engine.connect() as connection:
            known = instruments.terms(connection, [each.symbol for each in given])
        new = [each.terms() for each in given if each.symbol not in known]
        looking = Lookup(Search(context, searches, seconds))
        for asset_class in AssetClass:
            listed = [_listed(each) for each in new if each.asset_class is asset_class]
            looking.look_up(listed, [each for each in order.get(asset_class, ()) if can_search(each, asset_class)])
    finally:
        searches.turns.release()
    made = [_complete(place, each, known.get(each.symbol), looking) for place, each in enumerate(given)]
    wrong = [each for each in made if isinstance(each, WrongInstrument)]
    complete = [each for each in made if isinstance(each, InstrumentTerms)]
    return InstrumentsValidated(
        request_id=request_id,
        instruments=() if wrong or looking.unanswered else tuple(complete),
        wrong=tuple(wrong[:MOST_WRONG]),
        not_asked=len(new) - len(looking.found) - len(looking.missing) - len(looking.unanswered),
        unanswered=len(looking.unanswered),
        asked=looking.running.asked,
    )


class Lookup:
    """The instruments that were found, those that no provider has, and those of which that is not known now."""

    def __init__(self, running: Search) -> None:
        self.running = running
        self.found: dict[str, FoundInstrument] = {}
        #: Symbol → the providers that do not have it.
        self.missing: dict[str, list[str]] = {}
        self.unanswered: set[str] = set()

    def look_up(self, listed: Sequence[Listed], providers: Sequence[Provider]) -> None:
        """Ask the providers one after the other for the instruments, which are of one class."""
        left = list(listed)
        for provider in providers:
            size = provider.traits.lookup_batch
            batches = [left[start : start + size] for start in range(0, len(left), size)]
            left = []
            for place, batch in enumerate(batches):
                if not self._asked(provider, batch):
                    rest = [each for others in batches[place:] for each in others]
                    self._not_answered(provider, rest)
                    left += rest
                    break
                left += [each for each in batch if each.symbol not in self.found]
            if not left:
                return

    def _asked(self, provider: Provider, batch: Sequence[Listed]) -> bool:
        """Ask the provider for the batch. False if it does not answer now, or cannot look up such instruments."""
        name = provider.traits.name
        key = ("listed", *(f"{each.symbol} {each.market} {each.asset_class} {each.currency}" for each in batch))
        answers = self.running.answers([provider], key, partial(_lookups, batch=batch))
        if name not in answers:
            return False
        has = {each.symbol: each for each in readable(answers[name], name)}
        for each in batch:
            if each.symbol in has:
                self.found[each.symbol] = has[each.symbol]
                self.missing.pop(each.symbol, None)
                self.unanswered.discard(each.symbol)
            elif each.symbol not in self.unanswered:
                self.missing.setdefault(each.symbol, []).append(name)
        return True

    def _not_answered(self, provider: Provider, batch: Sequence[Listed]) -> None:
        """Note those of which nobody knows now whether the provider has them, but for a provider that cannot search."""
        if self.running.problem_of(provider) is None:
            return
        for each in batch:
            self.missing.pop(each.symbol, None)
            self.unanswered.add(each.symbol)


def _lookups(provider: Provider, *, batch: Sequence[Listed]) -> Answer:
    return provider.lookups(batch)


def _listed(terms: InstrumentTerms) -> Listed:
    return Listed(terms.symbol, terms.market, terms.asset_class, terms.currency)


def _complete(
    place: int, given: GivenInstrument, known: Mapping[str, Any] | None, looking: Lookup
) -> InstrumentTerms | WrongInstrument:
    """The complete terms of an instrument, or why it is wrong."""
    if known is not None:
        return given.terms({name: known[name] for name in PROVIDED})
    if names := looking.missing.get(given.symbol):
        why = f"symbol: {' and '.join(names)} does not have {given.symbol} on {given.terms().market}"
        return WrongInstrument(place=place, field="symbol", message=why)
    match = looking.found.get(given.symbol)
    if match is None:
        return given.terms()
    if differs := match.contradiction(given.model_dump(exclude_none=True)):
        return WrongInstrument(place=place, field=differs[0], message=differs[1])
    try:
        return given.terms(match.provided())
    except ValidationError as error:
        field, _, _ = (why := first_error(error)).partition(":")
        return WrongInstrument(place=place, field=field, message=why)
