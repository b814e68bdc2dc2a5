"""Fetch prices from a provider, store them and publish them.

The provider is asked outside of any transaction, so a slow one keeps nobody waiting. One transaction then stores its
answer: current prices, bars, the provider's state and the event. It stores nothing if another answer moved the state on
meanwhile, or if a split changed the shares that the prices are for. The provider is asked again then.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from services.marketdata.domain.quote import Quote
from services.marketdata.persistence import instruments, prices
from services.marketdata.providers.stateful import Answer, ProviderState, StatefulProvider
from services.marketdata.usecases import official_prices
from services.marketdata.usecases.corporate_actions import apply_due
from shared.bus.metrics import EARLY
from shared.bus.unit_of_work import ServiceContext, UnitOfWork
from shared.contracts.prices import AHEAD, PricesUpdated, latest
from shared.resilience.breakers import Breaker
from shared.resilience.rate_limits import RateLimit

#: Asks a provider: its ``poll``, its ``advance``, or a function around one of them.
Step = Callable[[ProviderState | None, Sequence[str], datetime], Answer]


def poll(context: ServiceContext, provider: StatefulProvider, *, interval: str, length: timedelta) -> int:
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

    return update_prices(context, provider, step, interval=interval, length=length)


def update_prices(
    context: ServiceContext, provider: StatefulProvider, step: Step, *, interval: str, length: timedelta | None
) -> int:
    """Ask the provider by ``step``, store and publish the answer, and return the number of prices."""
    with context.unit_of_work() as uow:
        apply_due(uow)
        state = prices.provider_state(uow.connection, provider.name)
        split_counts = instruments.tradable(uow.connection)
        now = uow.now
    quotes, after = step(state, list(split_counts), now)
    with context.unit_of_work() as uow:
        locked_state = prices.lock_provider_state(uow.connection, provider.name)
        apply_due(uow)
        locked_split_counts = instruments.lock_split_counts(uow.connection, list(split_counts))
        if (locked_state, locked_split_counts) != (state, split_counts):
            return 0
        stored = _store(uow, provider, quotes, interval=interval, length=length)
        if stored and after != state:
            prices.save_provider_state(uow.connection, provider.name, after, uow.now)
    return stored


def _store(
    uow: UnitOfWork, provider: StatefulProvider, quotes: Sequence[Quote], *, interval: str, length: timedelta | None
) -> int:
    """Store and publish the quotes that are newer than the current prices and after halts, and return their number.

    A quote that is ahead of the clock is dropped and counted: until its time all others would be older.
    """
    given, quotes = quotes, [quote for quote in quotes if latest(quote.quoted_at, quote.bar_start) <= uow.now + AHEAD]
    EARLY.labels("marketdata.prices").inc(len(given) - len(quotes))
    official_prices.record(uow, [official for quote in quotes for official in quote.official])
    updates = prices.save_prices(uow.connection, quotes) if quotes else {}
    # the bar of the first price after a halt reaches into the halt, and no order may fill on what was traded there
    current = [
        quote.without_range() if updates[quote.symbol].after_halt else quote
        for quote in quotes
        if quote.symbol in updates
    ]
    if not current:
        return 0
    if not provider.official:
        official_prices.record_trades(uow, current, updates)
    prices.add_bars(uow.connection, current, interval, length)
    published = [
        quote.as_price(
            since=update.since, bar_start=update.bar_start, sequence=update.sequence, split_count=update.split_count
        )
        for quote in current
        for update in (updates[quote.symbol],)
    ]
    uow.publish(PricesUpdated(prices=tuple(published), at=uow.now))
    return len(current)
