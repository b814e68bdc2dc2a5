"""Store and publish prices, and fetch them from a provider with a state.

A provider is asked outside of any transaction, so a slow one keeps nobody waiting. One transaction then stores its
answer: current prices, bars, the provider's state and the event. It stores nothing if another answer moved the state on
meanwhile, or if a split changed the shares that the prices are for. The provider is asked again then.

``store`` is the last step of a poll, a push and a stream, whichever provider the prices came from. The batch becomes
one event. A batch with a symbol several times is stored in rounds, one price of a symbol after the other, and each
round becomes an event.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal

from services.marketdata.domain.price_checks import MOST_JUMP, Known, PriceFault, Refusal, refuse
from services.marketdata.domain.quote import Quote
from services.marketdata.persistence import instruments, prices
from services.marketdata.persistence.prices import Update
from services.marketdata.providers.stateful import Answer, ProviderState, StatefulProvider
from services.marketdata.usecases import official_prices
from services.marketdata.usecases.corporate_actions import apply_due
from services.marketdata.usecases.refused_prices import count_refused
from shared.bus.metrics import EARLY
from shared.bus.unit_of_work import ServiceContext, UnitOfWork
from shared.contracts.markets import MARKETS
from shared.contracts.prices import PricesUpdated
from shared.resilience.breakers import Breaker
from shared.resilience.rate_limits import RateLimit
from shared.storage.driver import Call

#: Asks a provider: its ``poll``, its ``advance``, or a function around one of them.
Step = Callable[[ProviderState | None, Sequence[str], datetime], Answer]


def poll(
    context: ServiceContext,
    provider: StatefulProvider,
    *,
    interval: str,
    length: timedelta,
    but_of: Collection[str] = (),
    most_jump: Decimal = MOST_JUMP,
) -> int:
    """Poll the provider, store and publish its prices, and return their number.

    Raises BreakerOpen while the provider keeps failing, and RateLimited while its rate allows no call. The last prices
    then stay the current ones, however old they are.
    """
    name = f"provider:{provider.name}"

    def step(state: ProviderState | None, symbols: Sequence[str], now: datetime) -> Answer:
        with Breaker(context, name):
            if provider.rate is not None:
                RateLimit(context, name, allowed=provider.rate.allowed, period=provider.rate.period).take()
            return provider.poll(state, symbols, now)

    return update_prices(context, provider, step, interval=interval, length=length, but_of=but_of, most_jump=most_jump)


def update_prices(
    context: ServiceContext,
    provider: StatefulProvider,
    step: Step,
    *,
    interval: str,
    length: timedelta | None,
    but_of: Collection[str] = (),
    most_jump: Decimal = MOST_JUMP,
) -> int:
    """Ask the provider by ``step``, store and publish the answer, and return the number of prices.

    Asset classes in ``but_of`` are left to other providers. ``most_jump`` is that of ``store``.
    """
    with context.unit_of_work() as uow:
        apply_due(uow)
        state = prices.provider_state(uow.connection, provider.name)
        split_counts = instruments.tradable(uow.connection, but_of=but_of)
        now = uow.now
    quotes, after = step(state, list(split_counts), now)
    with context.unit_of_work() as uow:
        locked_state = prices.lock_provider_state(uow.connection, provider.name)
        apply_due(uow)
        known = instruments.lock_known(uow.connection, list(split_counts), uow.now)
        if (locked_state, {symbol: each.split_count for symbol, each in known.items()}) != (state, split_counts):
            return 0
        results = store(
            uow, quotes, known, interval=interval, length=length, official=provider.official, most_jump=most_jump
        )
        count = stored(results)
        if count and after != state:
            prices.save_provider_state(uow.connection, provider.name, after, uow.now)
    return count


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
    known = dict(known)
    results: dict[int, Update | Refusal] = {}
    rounds = _rounds(quotes)
    for places in rounds:
        results |= _refusals(quotes, places, known, uow.now, most_jump)
        told = [each for place in places if _may_tell(results.get(place)) for each in quotes[place].official]
        if told:
            official_prices.record(uow, told)
        passed = [quotes[place] for place in places if place not in results]
        keep_bars = uow.at_commit if places is rounds[-1] else uow.run
        updates = _store_round(uow, passed, interval, length, official=official, at=at, keep_bars=keep_bars)
        results |= {place: updates.get(quotes[place].symbol, _OVERTAKEN) for place in places if place not in results}
        known |= {quote.symbol: known[quote.symbol].after(quote) for quote in passed}
    _count_refusals(uow.now, quotes, results, known)
    return [results[place] for place in range(len(quotes))]


def _refusals(
    quotes: Sequence[Quote], places: Iterable[int], known: Mapping[str, Known], now: datetime, most_jump: Decimal
) -> dict[int, Refusal]:
    """The reason of each place whose quote is refused."""
    judged = {
        place: refuse(quotes[place], known.get(quotes[place].symbol), now, most_jump=most_jump) for place in places
    }
    return {place: refusal for place, refusal in judged.items() if refusal is not None}


def _count_refusals(
    now: datetime, quotes: Sequence[Quote], results: Mapping[int, Update | Refusal], known: Mapping[str, Known]
) -> None:
    refused = [(quotes[place], each) for place, each in sorted(results.items()) if isinstance(each, Refusal)]
    if refused:
        EARLY.labels("marketdata.prices").inc(sum(refusal.fault is PriceFault.AHEAD for _, refusal in refused))
        count_refused(now, [each for each in refused if not _is_repeated(*each, known)])


def stored(results: Iterable[Update | Refusal]) -> int:
    """The number of prices that were stored."""
    return sum(isinstance(each, Update) for each in results)


#: No price can come between the lock and the update, so this happens only if a halt's row and its instrument differ.
_OVERTAKEN = Refusal(PriceFault.OLDER, "at: is not after the current price")


def _rounds(quotes: Sequence[Quote]) -> list[list[int]]:
    """The places of the quotes: first of each symbol's first, then of its second, and so on."""
    rounds: list[list[int]] = []
    seen: defaultdict[str, int] = defaultdict(int)
    for place, quote in enumerate(quotes):
        if seen[quote.symbol] == len(rounds):
            rounds.append([])
        rounds[seen[quote.symbol]].append(place)
        seen[quote.symbol] += 1
    return rounds


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
    keep_bars: Callable[[Call], object],
) -> dict[str, Update]:
    """Store and publish quotes of different symbols. A later round reads the bars of this one from the database."""
    updates = prices.save_prices(uow.connection, quotes, uow.now) if quotes else {}
    # the bar of the first price after a halt reaches into the halt, and no order may fill on what was traded there
    new = [
        quote.without_range() if updates[quote.symbol].after_halt else quote
        for quote in quotes
        if quote.symbol in updates
    ]
    if not new:
        return updates
    if not official and any(_has_auctions(update.market) for update in updates.values()):
        official_prices.record_trades(uow, new, updates)
    bars: defaultdict[str, list[Quote]] = defaultdict(list)
    for quote in new:
        bars[quote.interval or interval].append(quote)
    for each, its_quotes in bars.items():
        keep_bars(prices.adding_bars(its_quotes, each, length if each == interval else LENGTHS[each]))
    published = [
        quote.as_price(
            since=update.since,
            bar_start=update.bar_start,
            sequence=update.sequence,
            split_count=update.split_count,
            received_at=uow.now,
        )
        for quote in new
        for update in (updates[quote.symbol],)
    ]
    uow.publish(PricesUpdated(prices=tuple(published), at=at or uow.now))
    return updates


def _has_auctions(market: str) -> bool:
    """True if the market closes, so that its days have official prices."""
    return market not in MARKETS or not MARKETS[market].always_open
