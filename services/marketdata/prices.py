"""Taking in prices: instruments, OHLCV rows and the event, in one transaction with the provider's state."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial

from services.marketdata import official_prices, store
from services.marketdata.corporate_actions import apply_due
from services.marketdata.domain.quote import Quote
from services.marketdata.providers import Provider, ProviderState
from shared.bus.unit_of_work import ServiceContext, UnitOfWork
from shared.contracts.prices import Price, PricesUpdated
from shared.resilience.breakers import Breaker
from shared.resilience.rate_limits import RateLimit

Step = Callable[[ProviderState | None, Sequence[str]], tuple[list[Quote], ProviderState | None]]


def poll(context: ServiceContext, provider: Provider, *, interval: str, length: timedelta) -> int:
    """Ask the provider for its current prices, store and publish them; the number of prices.

    Raises BreakerOpen while it keeps failing, and RateLimited while it allows no call: the last prices stay the current
    ones then, as old as they are.
    """
    name = f"provider:{provider.name}"
    with Breaker(context, name):
        if provider.rate is not None:
            RateLimit(context, name, allowed=provider.rate.allowed, period=provider.rate.period).take()
        with context.unit_of_work() as uow:
            return take_in(uow, provider, partial(provider.poll, now=uow.now), interval=interval, length=length)


def take_in(uow: UnitOfWork, provider: Provider, step: Step, *, interval: str, length: timedelta | None) -> int:
    """Ask the provider for prices by ``step``, store and publish them; the number of prices."""
    state = store.lock_provider_state(uow.connection, provider.name)
    apply_due(uow)
    quotes, after = step(state, store.tradable_symbols(uow.connection))
    official_prices.keep(uow, [official for quote in quotes for official in quote.official])
    if not quotes:
        return 0
    updates = store.update_prices(uow.connection, quotes)
    current = [_current(quote, updates[quote.symbol]) for quote in quotes if quote.symbol in updates]
    if not current:  # newer prices or halts were written while this waited for the lock: the same step comes again
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
