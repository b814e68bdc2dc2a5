"""Store and publish the prices of a batch that pass the checks, whichever provider they came from.

It is the last step of a poll, a push and a stream, in their transaction. The batch becomes one event. Where it has a
symbol several times, its prices are stored one after the other, and each round of them becomes an event.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal

from services.marketdata.domain.price_checks import MOST_JUMP, Known, PriceFault, Refusal, refuse
from services.marketdata.domain.quote import Quote
from services.marketdata.persistence import prices
from services.marketdata.persistence.prices import Update
from services.marketdata.usecases import official_prices
from services.marketdata.usecases.refused_prices import count_refused
from shared.bus.metrics import EARLY
from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.prices import PricesUpdated

#: The lengths of the intervals of bars.
LENGTHS = {
    "1m": timedelta(minutes=1),
    "5m": timedelta(minutes=5),
    "15m": timedelta(minutes=15),
    "1h": timedelta(hours=1),
    "1d": timedelta(days=1),
}


def store(
    uow: UnitOfWork,
    quotes: Sequence[Quote],
    known: Mapping[str, Known],
    *,
    interval: str = "1m",
    length: timedelta | None = LENGTHS["1m"],
    official: bool = False,
    most_jump: Decimal = MOST_JUMP,
    at: datetime | None = None,
) -> list[Update | Refusal]:
    """Store and publish the quotes, and return for each its update or the reason why it was refused.

    ``known`` are their instruments, locked by ``lock_known``. Bars go to ``interval``, which is ``length`` long, unless
    the quote names another one. ``official``: the provider tells official opens and closes itself. ``most_jump`` bounds
    a change of the last price without any volume. ``at`` is when the prices were those of the moment, where that was
    earlier: orders then fill on them as if they had come in time.
    """
    quotes = [quote if quote.received_at else replace(quote, received_at=uow.now) for quote in quotes]
    known = dict(known)
    results: dict[int, Update | Refusal] = {}
    for places in _rounds(quotes):
        passed: dict[str, int] = {}
        for place in places:
            quote = quotes[place]
            refusal = refuse(quote, known.get(quote.symbol), uow.now, most_jump=most_jump)
            if refusal is None:
                passed[quote.symbol] = place
            else:
                results[place] = refusal
        told = [quotes[place] for place in places if _may_tell(results.get(place))]
        official_prices.record(uow, [each for quote in told for each in quote.official])
        updates = _store_round(
            uow, [quotes[place] for place in passed.values()], interval, length, official=official, at=at
        )
        for symbol, place in passed.items():
            results[place] = updates.get(symbol, _OVERTAKEN)
            known[symbol] = known[symbol].after(quotes[place])
    refused = [(quotes[place], each) for place, each in sorted(results.items()) if isinstance(each, Refusal)]
    EARLY.labels("marketdata.prices").inc(sum(refusal.fault is PriceFault.AHEAD for _, refusal in refused))
    count_refused(uow.now, [each for each in refused if not _is_repeated(*each, known)])
    return [results[place] for place in range(len(quotes))]


def stored(results: Iterable[Update | Refusal]) -> int:
    """The number of prices that were stored."""
    return sum(isinstance(each, Update) for each in results)


#: No price can come between the lock and the update, so this happens only if a halt's row and its instrument differ.
_OVERTAKEN = Refusal(PriceFault.OLDER, "at: is not after the current price")


def _rounds(quotes: Sequence[Quote]) -> Iterator[list[int]]:
    """The places of the quotes: first of each symbol's first, then of its second, and so on."""
    rounds: list[list[int]] = []
    seen: defaultdict[str, int] = defaultdict(int)
    for place, quote in enumerate(quotes):
        if seen[quote.symbol] == len(rounds):
            rounds.append([])
        rounds[seen[quote.symbol]].append(place)
        seen[quote.symbol] += 1
    return iter(rounds)


def _may_tell(result: Update | Refusal | None) -> bool:
    """True if official prices are read from this quote: it need not be new."""
    return not isinstance(result, Refusal) or result.fault is PriceFault.OLDER


def _is_repeated(quote: Quote, refusal: Refusal, known: Mapping[str, Known]) -> bool:
    """True if a provider answered with the current price again, which is no fault of it."""
    return refusal.fault is PriceFault.OLDER and known[quote.symbol].quoted_at == quote.quoted_at


def _store_round(
    uow: UnitOfWork,
    quotes: Sequence[Quote],
    interval: str,
    length: timedelta | None,
    *,
    official: bool,
    at: datetime | None,
) -> dict[str, Update]:
    """Store and publish quotes of different symbols."""
    updates = prices.save_prices(uow.connection, quotes) if quotes else {}
    # the bar of the first price after a halt reaches into the halt, and no order may fill on what was traded there
    new = [
        quote.without_range() if updates[quote.symbol].after_halt else quote
        for quote in quotes
        if quote.symbol in updates
    ]
    if not new:
        return updates
    if not official:
        official_prices.record_trades(uow, new, updates)
    bars: defaultdict[str, list[Quote]] = defaultdict(list)
    for quote in new:
        bars[quote.interval or interval].append(quote)
    for each, its_quotes in bars.items():
        prices.add_bars(uow.connection, its_quotes, each, length if each == interval else LENGTHS[each])
    published = [
        quote.as_price(
            since=update.since, bar_start=update.bar_start, sequence=update.sequence, split_count=update.split_count
        )
        for quote in new
        for update in (updates[quote.symbol],)
    ]
    uow.publish(PricesUpdated(prices=tuple(published), at=at or uow.now))
    return updates
