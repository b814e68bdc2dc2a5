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
from shared.bus.transaction import Transaction, Unit
from shared.contracts.prices import Price, PricesUpdated
from shared.jobs.breakers import Breaker
from shared.jobs.rate_limits import RateLimit

#: How a provider is asked: its ``poll``, its ``advance``, or something around one of them.
Step = Callable[[ProviderState | None, Sequence[str], datetime], Answer]


class Asked(NamedTuple):
    """The provider's state when it was asked, and for each symbol that it was asked for the number of its splits."""

    state: ProviderState | None
    adjustments: dict[str, int]


def poll(unit: Unit, provider: Provider, *, interval: str, length: timedelta) -> int:
    """Ask the provider for its current prices, store and publish them; the number of prices.

    Raises BreakerOpen while it keeps failing, and RateLimited while it allows no call: the last prices stay the current
    ones then, as old as they are.
    """
    name = f"provider:{provider.name}"

    def ask(state: ProviderState | None, symbols: Sequence[str], now: datetime) -> Answer:
        with Breaker(unit, name):
            if provider.rate is not None:
                RateLimit(unit, name, allowed=provider.rate.allowed, period=provider.rate.period).take()
            return provider.poll(state, symbols, now)

    return take_in(unit, provider, ask, interval=interval, length=length)


def take_in(unit: Unit, provider: Provider, step: Step, *, interval: str, length: timedelta | None) -> int:
    """Ask the provider for prices by ``step``, store and publish them; the number of prices."""
    with unit.transaction() as tx:
        apply_due(tx)
        asked = Asked(store.provider_state(tx.connection, provider.name), store.tradable(tx.connection))
        now = tx.now
    answer = step(asked.state, list(asked.adjustments), now)
    with unit.transaction() as tx:
        return _store(tx, provider, asked, answer, interval=interval, length=length)


def _store(
    tx: Transaction, provider: Provider, asked: Asked, answer: Answer, *, interval: str, length: timedelta | None
) -> int:
    """Store and publish the answer, unless another one or a split came first: then the provider is asked again."""
    quotes, after = answer
    state = store.lock_provider_state(tx.connection, provider.name)
    apply_due(tx)
    adjustments = store.lock_adjustments(tx.connection, list(asked.adjustments))
    if Asked(state, adjustments) != asked:
        return 0
    official_prices.keep(tx, [official for quote in quotes for official in quote.official])
    if not quotes:
        return 0
    updates = store.update_prices(tx.connection, quotes)
    current = [_current(quote, updates[quote.symbol]) for quote in quotes if quote.symbol in updates]
    if not current:  # newer prices or halts were written meanwhile: the same step comes again
        return 0
    if not provider.official:
        official_prices.note_trades(tx, current, updates)
    store.add_bars(tx.connection, current, interval, length)
    if after != state:
        store.save_provider_state(tx.connection, provider.name, after, tx.now)
    tx.publish(PricesUpdated(prices=tuple(_price(quote, updates[quote.symbol]) for quote in current), at=tx.now))
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
        adjustment=update.adjustment,
        provider=quote.provider,
    )
