"""Search the providers for instruments, and look one up before it is added.

Providers are asked beside each other, outside of any transaction, and their answers are kept for some minutes. A search
ends after a few seconds. The answer of a slow provider is kept all the same, and the next search has it.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import datetime, timedelta
from functools import partial
from threading import BoundedSemaphore, Lock

from pydantic import ValidationError

from services.marketdata.providers.provider import Found, Listed, Part, Provider, ProviderError, Unsupported
from services.marketdata.usecases.ask_provider import ask
from services.marketdata.usecases.fetch_prices import Order
from shared.bus.unit_of_work import ServiceContext
from shared.contracts.instrument_search import AskedProvider, FoundInstrument, InstrumentsFound, SearchInstruments
from shared.outage import first_line
from shared.resilience.breakers import BreakerOpen
from shared.resilience.rate_limits import RateLimited
from shared.storage.errors import DATABASE_ERRORS

#: A search ends after this time. The gateway waits a little longer.
SECONDS = 6.0
#: A call waits for its turn within the provider's limits for at most this long.
LONGEST_WAIT = timedelta(seconds=3)
#: Answers are kept for this long, and no more than so many.
FRESH = timedelta(minutes=5)
MOST_KEPT = 500
#: Searches of one process at a time, and calls to one provider. Others are told to try again.
AT_ONCE = 4
CALLS_AT_ONCE = 2
#: Similar instruments for a symbol that no provider has.
SUGGESTIONS = 5

Answer = list[Found]
_REFUSALS = (ProviderError, BreakerOpen, RateLimited)


class Searches:
    """The calls of this process that search, and their answers."""

    def __init__(self) -> None:
        self.turns = BoundedSemaphore(AT_ONCE)
        self._lock = Lock()
        self._kept: dict[tuple[str, ...], tuple[datetime, Future[Answer]]] = {}
        self._pools: dict[str, ThreadPoolExecutor] = {}

    def begin(
        self, context: ServiceContext, provider: Provider, key: tuple[str, ...], call: Callable[[], Answer]
    ) -> Future[Answer]:
        """Return the call for that key: one under way, one that succeeded lately, or else a new one."""
        now, name = context.clock(), provider.traits.name
        with self._lock:
            began, kept = self._kept.pop((name, *key), (now, None))
            if kept is None or now - began > FRESH or (kept.done() and kept.exception() is not None):
                pool = self._pools.setdefault(name, ThreadPoolExecutor(CALLS_AT_ONCE, f"search-{name}"))
                began, kept = now, pool.submit(ask, context, provider, call, wait=LONGEST_WAIT)
            self._kept[name, *key] = began, kept
            while len(self._kept) > MOST_KEPT:
                self._kept.pop(next(iter(self._kept)))
            return kept


class Search:
    """One search: the providers that it asked, with their problems, until its time is over."""

    def __init__(self, context: ServiceContext, searches: Searches, seconds: float) -> None:
        self._context = context
        self._searches = searches
        self._ends = context.clock() + timedelta(seconds=seconds)
        self._problems: dict[str, str | None] = {}

    @property
    def asked(self) -> tuple[AskedProvider, ...]:
        return tuple(AskedProvider(provider=name, problem=problem) for name, problem in self._problems.items())

    def problem_of(self, provider: Provider) -> str | None:
        """The reason why the provider has not answered. None if it has, or cannot search for this."""
        return self._problems.get(provider.traits.name)

    def answers(
        self, providers: Sequence[Provider], key: tuple[str, ...], call: Callable[[Provider], Answer]
    ) -> dict[str, Answer]:
        """The answers of the providers by name, but for those that have a problem or cannot search for this."""
        calls = {
            each.traits.name: self._searches.begin(self._context, each, key, partial(call, each)) for each in providers
        }
        left = (self._ends - self._context.clock()).total_seconds()
        wait(calls.values(), timeout=max(0.0, left))
        answers = {}
        for name, made in calls.items():
            error = made.exception() if made.done() else TimeoutError("has not answered yet: search again in a moment")
            if isinstance(error, DATABASE_ERRORS):
                raise error
            if isinstance(error, Unsupported):
                continue
            self._problems[name] = None if error is None else _told(error)
            if error is None:
                answers[name] = made.result()
        return answers


def search(
    context: ServiceContext, searches: Searches, order: Order, command: SearchInstruments, *, seconds: float = SECONDS
) -> InstrumentsFound:
    """Search for the words, or look up the terms of the command, and return the answer."""
    if not searches.turns.acquire(blocking=False):
        return InstrumentsFound(request_id=command.request_id, asked=busy(order))
    try:
        running = Search(context, searches, seconds)
        return _look_up(running, order, command) if command.terms else _find(running, order, command)
    finally:
        searches.turns.release()


def _find(running: Search, order: Order, command: SearchInstruments) -> InstrumentsFound:
    """Ask the first provider of each asset class, and for a class of which it has nothing the next one."""
    classes = [command.asset_class] if command.asset_class else list(order)
    waiting = {each: [one for one in order.get(each, ()) if can_search(one, each)] for each in classes}
    found: dict[tuple[str, str | None], FoundInstrument] = {}
    words, known = command.words.casefold(), set[str]()
    while waiting := {each: left for each, left in waiting.items() if left}:
        providers = {left[0].traits.name: left[0] for left in waiting.values()}
        new = [each for name, each in providers.items() if name not in known]
        known |= providers.keys()
        for name, results in running.answers(new, ("words", words), lambda each: each.search(words, 20)).items():
            for result in readable(results, name):
                if result.asset_class is None or result.asset_class in classes:
                    found.setdefault((result.symbol, result.market), result)
        having = {each.asset_class for each in found.values()}
        waiting = {each: left[1:] for each, left in waiting.items() if each not in having}
    results_first = sorted(found.values(), key=lambda each: each.symbol.casefold() != words)
    return InstrumentsFound(
        request_id=command.request_id, found=tuple(results_first[: command.limit]), asked=running.asked
    )


def _look_up(running: Search, order: Order, command: SearchInstruments) -> InstrumentsFound:
    """Ask the providers of the class one after the other for the instrument, and then for similar ones."""
    terms = command.terms
    assert terms is not None  # noqa: S101 - the caller looked
    listed = Listed(terms.symbol, terms.market, terms.asset_class, terms.currency)
    key = ("symbol", terms.symbol, terms.market, terms.asset_class, terms.currency)

    def call(provider: Provider) -> Answer:
        found = provider.lookup(listed)
        return [] if found is None else [found]

    answered = []
    for provider in order.get(terms.asset_class, ()):
        if not can_search(provider, terms.asset_class):
            continue
        answers = running.answers([provider], key, call)
        for name, results in answers.items():
            if match := readable(results, name):
                return InstrumentsFound(request_id=command.request_id, match=match[0], asked=running.asked)
            answered.append(provider)
    if not answered:
        return InstrumentsFound(request_id=command.request_id, asked=running.asked)
    asked, words = running.asked, command.words.casefold()  # a failed search for similar ones changes nothing
    similar = running.answers(answered[:1], ("words", words), lambda each: each.search(words, 20))
    found = [each for name, results in similar.items() for each in readable(results, name)]
    return InstrumentsFound(request_id=command.request_id, found=tuple(found[:SUGGESTIONS]), asked=asked)


def busy(order: Order) -> tuple[AskedProvider, ...]:
    """The providers that can search, none of which is asked while there are too many searches."""
    problem = "too many searches at once: search again in a moment"
    names = [one.traits.name for each, providers in order.items() for one in providers if can_search(one, each)]
    return tuple(AskedProvider(provider=name, problem=problem) for name in dict.fromkeys(names))


def can_search(provider: Provider, asset_class: str) -> bool:
    return Part.SEARCH in provider.traits.parts and asset_class in provider.traits.asset_classes


def readable(results: Answer, provider: str) -> list[FoundInstrument]:
    """The results that can be instruments here. Others, such as options, are left out."""
    readable = []
    for each in results:
        given = {name: getattr(each, name) for name in Found.__dataclass_fields__}
        try:
            readable.append(FoundInstrument.model_validate({**given, "provider": provider}))
        except ValidationError:
            continue
    return [each for each in readable if each.asset_class is not None]


def _told(error: BaseException) -> str:
    return first_line(error) if isinstance(error, (*_REFUSALS, TimeoutError)) else "failed; its log says why"
