"""The provider ``simulated``: a seeded random walk."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal

from services.marketdata.domain import simulated
from services.marketdata.providers.stateful import Answer, ProviderState
from shared.resilience.rate_limits import Rate

#: The first price of a symbol that has no start price.
START_PRICE = Decimal(100)


class SimulatedProvider:
    """A seeded random walk. Each call moves each of its symbols one step.

    A symbol starts at its price in ``start_prices``, else at START_PRICE. The state is
    ``{"IBM": {"step": 2, "last": "202.87"}}``.
    """

    name = simulated.NAME
    rate: Rate | None = None
    official = False

    def __init__(self, *, seed: int, start_prices: Mapping[str, Decimal]) -> None:
        self._seed = seed
        self._start_prices = start_prices

    def poll(self, state: ProviderState | None, symbols: Sequence[str], now: datetime) -> Answer:
        after = dict(state or {})
        quotes = []
        for symbol in symbols:
            if symbol in after:
                step, last = after[symbol]["step"], Decimal(after[symbol]["last"])
            else:
                step, last = 0, self._start_prices.get(symbol, START_PRICE)
            quote = simulated.next_quote(symbol, last, step, self._seed, now)
            after[symbol] = {"step": step + 1, "last": str(quote.last)}
            quotes.append(quote)
        return quotes, after

    advance = poll
