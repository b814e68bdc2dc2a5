"""Fetch prices from network providers, store them and publish them.

Each instrument is asked of the providers of its asset class, one after the other, until one has its price. Providers
are asked beside each other and outside of any transaction, so that a slow one holds up no other. What one request
brought is stored in a short transaction of its own as soon as it is there.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from decimal import Decimal
from functools import partial

import structlog

from services.marketdata.domain.price_checks import MOST_JUMP, PriceFault, Refusal
from services.marketdata.domain.quote import Quote
from services.marketdata.persistence import instruments
from services.marketdata.persistence.prices import Update
from services.marketdata.providers.provider import Listed, Part, Provider
from services.marketdata.usecases.ask_provider import ask
from services.marketdata.usecases.corporate_actions import apply_due, lock_current
from services.marketdata.usecases.update_prices import store, stored
from shared.bus.unit_of_work import ServiceContext
from shared.contracts.instruments import AssetClass
from shared.outage import first_line
from shared.storage.errors import DATABASE_ERRORS

log = structlog.get_logger(__name__)

#: The providers of each asset class, in the order in which they are asked.
Order = Mapping[AssetClass, Sequence[Provider]]
Store = Callable[..., list[Update | Refusal]]
#: Answers that have not come by then are stored by nobody. The job that fetches has 50 seconds.
LONGEST = timedelta(seconds=40)
#: Another provider's price would be refused for the same reason.
_FINAL = {PriceFault.OLDER, PriceFault.HALTED}


@dataclass(frozen=True)
class _Request:
    """Instruments that one request asks a provider for, with the number of splits of each before it."""

    provider: Provider
    instruments: Mapping[Listed, int]


_Waiting = dict[Future[list[Quote]], _Request]
#: It takes instruments with their split counts, and the provider that was asked for them before, if any.
_Send = Callable[[Mapping[Listed, int], Provider | None], None]


def fetch_prices(
    context: ServiceContext,
    order: Order,
    *,
    interval: str = "1m",
    length: timedelta = timedelta(minutes=1),
    choose: Callable[[Mapping[Listed, int]], Mapping[Listed, int]] = lambda listed: listed,
    longest: timedelta = LONGEST,
    most_jump: Decimal = MOST_JUMP,
) -> int:
    """Fetch the prices of the instruments that ``choose`` keeps, and return the number of new prices.

    A provider that fails is logged, and its symbols are asked of the next. Raises the errors of our own database.
    """
    with context.unit_of_work() as uow:
        apply_due(uow)
        rows = instruments.wanted(uow.connection)
    listed = choose({Listed(row[0], row[1], AssetClass(row[2]), row[3]): row.split_count for row in rows})
    keep = partial(store, interval=interval, length=length, most_jump=most_jump)
    count, ends = 0, context.clock() + longest
    with _requests_under_way(context, order) as (send, waiting):
        send(listed, None)
        while waiting:
            left = (ends - context.clock()).total_seconds()
            done, _ = wait(waiting, timeout=max(0.0, left), return_when=FIRST_COMPLETED)
            if not done:
                break
            for future in done:
                request = waiting.pop(future)
                new, missing = _take(context, request, future, keep)
                count += new
                send(missing, request.provider)
        for request in waiting.values():
            log.warning(
                "provider has not answered", provider=request.provider.traits.name, seconds=longest.total_seconds()
            )
    return count


@contextmanager
def _requests_under_way(context: ServiceContext, order: Order) -> Iterator[tuple[_Send, _Waiting]]:
    """Give a function that sends the requests for instruments, and the requests that have no answer yet.

    Each provider has threads of its own, so that a slow one does not hold up another. They are left at the end.
    """
    pools: dict[str, ThreadPoolExecutor] = {}
    waiting: _Waiting = {}

    def send(wanted: Mapping[Listed, int], tried: Provider | None) -> None:
        for request in _requests(wanted, order, tried):
            traits = request.provider.traits
            pool = pools.setdefault(traits.name, ThreadPoolExecutor(traits.parallel, f"provider-{traits.name}"))
            waiting[pool.submit(_ask, context, request)] = request

    try:
        yield send, waiting
    finally:
        for pool in pools.values():
            pool.shutdown(wait=False, cancel_futures=True)


def _requests(wanted: Mapping[Listed, int], order: Order, tried: Provider | None) -> Iterator[_Request]:
    """Group the instruments by the next provider that may have them, in requests of the size that it takes."""
    groups: dict[str, tuple[Provider, list[Listed]]] = {}
    for each in wanted:
        providers = list(order.get(each.asset_class, ()))
        following = providers[providers.index(tried) + 1 :] if tried in providers else providers
        provider = next((one for one in following if _has(one, each)), None)
        if provider is not None:
            groups.setdefault(provider.traits.name, (provider, []))[1].append(each)
    for provider, members in groups.values():
        for begin in range(0, len(members), provider.traits.batch):
            yield _Request(provider, {each: wanted[each] for each in members[begin : begin + provider.traits.batch]})


def _has(provider: Provider, listed: Listed) -> bool:
    traits = provider.traits
    return (
        Part.QUOTES in traits.parts
        and listed.asset_class in traits.asset_classes
        and (traits.currencies is None or listed.currency in traits.currencies)
    )


def _ask(context: ServiceContext, request: _Request) -> list[Quote]:
    """The provider's quotes of what it was asked for, with the time when they came."""
    provider, asked = request.provider, {each.symbol for each in request.instruments}
    given = ask(context, provider, lambda: provider.quotes(list(request.instruments), context.clock()))
    came = context.clock()
    return [
        replace(quote, received_at=quote.received_at or came, delayed=quote.delayed or provider.traits.delayed)
        for quote in given
        if quote.symbol in asked
    ]


def _take(
    context: ServiceContext, request: _Request, answer: Future[list[Quote]], keep: Store
) -> tuple[int, Mapping[Listed, int]]:
    """Store the answer, and return the number of new prices and the instruments without a good one."""
    error = answer.exception()
    if isinstance(error, DATABASE_ERRORS):
        raise error
    if error is not None:
        name, count = request.provider.traits.name, len(request.instruments)
        log.warning("provider failed", provider=name, error=first_line(error), symbols=count)
        return 0, request.instruments
    quotes, splits = answer.result(), {each.symbol: count for each, count in request.instruments.items()}
    with context.unit_of_work() as uow:
        known = lock_current(uow, [quote.symbol for quote in quotes])
        # a split meanwhile changed the shares that the price is for; the next poll asks again
        quotes = [each for each in quotes if known[each.symbol].split_count == splits[each.symbol]]
        results = keep(uow, quotes, known, official=request.provider.traits.official)
    bad = {
        quote.symbol
        for quote, result in zip(quotes, results, strict=True)
        if isinstance(result, Refusal) and result.fault not in _FINAL
    }
    good = {quote.symbol for quote in answer.result()} - bad
    return stored(results), {each: count for each, count in request.instruments.items() if each.symbol not in good}
