"""Fetch prices from a provider with a state, store them and publish them.

The provider is asked outside of any transaction, so a slow one keeps nobody waiting. One transaction then stores its
answer: current prices, bars, the provider's state and the event. It stores nothing if another answer moved the state on
meanwhile, or if a split changed the shares that the prices are for. The provider is asked again then.
"""

from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta
from decimal import Decimal

from services.marketdata.domain.price_checks import MOST_JUMP
from services.marketdata.persistence import instruments, prices
from services.marketdata.providers.stateful import Answer, ProviderState, StatefulProvider
from services.marketdata.usecases.corporate_actions import apply_due
from services.marketdata.usecases.store_prices import store, stored
from shared.bus.unit_of_work import ServiceContext
from shared.resilience.breakers import Breaker
from shared.resilience.rate_limits import RateLimit

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
        known = instruments.lock_known(uow.connection, list(split_counts))
        if (locked_state, {symbol: each.split_count for symbol, each in known.items()}) != (state, split_counts):
            return 0
        results = store(
            uow, quotes, known, interval=interval, length=length, official=provider.official, most_jump=most_jump
        )
        count = stored(results)
        if count and after != state:
            prices.save_provider_state(uow.connection, provider.name, after, uow.now)
    return count
