"""Taking in prices: instruments, OHLCV rows and the event, in one transaction with the provider's state.

The provider is asked before that transaction begins, so a slow one keeps nobody waiting. Its answer is stored only if
no other answer moved the provider's state on meanwhile, and no split changed what the prices are of.
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import NamedTuple

from services.marketdata import official_prices, store
from services.marketdata.corporate_actions import apply_due
from services.marketdata.domain.quote import Quote
from services.marketdata.providers import Answer, Provider, ProviderState
from shared.bus.unit_of_work import ServiceContext, UnitOfWork
from shared.contracts.prices import Price, PricesUpdated
from shared.resilience.breakers import Breaker
from shared.resilience.rate_limits import RateLimit

#: How a provider is asked: its ``poll``, its ``advance``, or something around one of them.
Step = Callable[[ProviderState | None, Sequence[str], datetime], Answer]


class Asked(NamedTuple):
    """The provider's state when it was asked, and for each symbol that it was asked for the number of its splits."""

    state: ProviderState | None
    split_counts: dict[str, int]


def poll(context: ServiceContext, provider: Provider, *, interval: str, length: timedelta) -> int:
    """Ask the provider for its current prices, store and publish them; the number of prices.

    Raises BreakerOpen while it keeps failing, and RateLimited while it allows no call: the last prices stay the current
    ones then, as old as they are.
    """
    name = f"provider:{provider.name}"

    def ask(state: ProviderState | None, symbols: Sequence[str], now: datetime) -> Answer:
        with Breaker(context, name):
            if provider.rate is not None:
                RateLimit(context, name, allowed=provider.rate.allowed, period=provider.rate.period).take()
            return provider.poll(state, symbols, now)

    return take_in(context, provider, ask, interval=interval, length=length)


def take_in(context: ServiceContext, provider: Provider, step: Step, *, interval: str, length: timedelta | None) -> int:
    """Ask the provider for prices by ``step``, store and publish them; the number of prices."""
    with context.unit_of_work() as uow:
        apply_due(uow)
        asked = Asked(store.provider_state(uow.connection, provider.name), store.tradable(uow.connection))
        now = uow.now
    answer = step(asked.state, list(asked.split_counts), now)
    with context.unit_of_work() as uow:
        return _store(uow, provider, asked, answer, interval=interval, length=length)


def _store(
    uow: UnitOfWork, provider: Provider, asked: Asked, answer: Answer, *, interval: str, length: timedelta | None
) -> int:
    """Store and publish the answer, unless another one or a split came first: then the provider is asked again."""
    quotes, after = answer
    state = store.lock_provider_state(uow.connection, provider.name)
    apply_due(uow)
    split_counts = store.lock_split_counts(uow.connection, list(asked.split_counts))
    if Asked(state, split_counts) != asked:
        return 0
    official_prices.keep(uow, [official for quote in quotes for official in quote.official])
    if not quotes:
        return 0
    updates = store.update_prices(uow.connection, quotes)
    current = [_current(quote, updates[quote.symbol]) for quote in quotes if quote.symbol in updates]
    if not current:  # newer prices or halts were written meanwhile: the same step comes again
        return 0
    if not provider.official:
        official_prices.note_trades(uow, current, updates)
    store.add_bars(uow.connection, current, interval, length)
    if after != state:
        store.save_provider_state(uow.connection, provider.name, after, uow.now)
    uow.publish(PricesUpdated(prices=tuple(_price(quote, updates[quote.symbol]) for quote in current), at=uow.now))
    return len(current)


def _current(quote: Quote, update: store.Update) -> Quote:
    """The bar of the first price after a halt reaches into it, and no order may fill on what was traded there."""
    return quote.without_range() if update.after_halt else quote


def _price(quote: Quote, update: store.Update) -> Price:
    return Price(
        symbol=quote.symbol,
        bid=quote.bid,
        ask=quote.ask,
        bid_size=quote.bid_size,
        ask_size=quote.ask_size,
        last=quote.last,
        open=quote.open,
        high=quote.high,
        low=quote.low,
        close=quote.close,
        volume=quote.volume,
        quoted_at=quote.quoted_at,
        since=update.since,
        sequence=update.sequence,
        split_count=update.split_count,
        provider=quote.provider,
    )
