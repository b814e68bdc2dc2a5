"""Providers of prices: their interface, and the two that need no network."""

import gzip
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, Protocol

from services.marketdata.domain import replay, simulated
from services.marketdata.domain.quote import SPREAD_BPS, Quote
from services.marketdata.domain.recorded import Bar, recorded_bars
from services.marketdata.domain.replay import Replay, ReplayState
from shared.resilience.rate_limits import Rate

RECORDING = Path(__file__).parent / "data" / "daily_prices.csv.gz"
#: The first price of a symbol that has no start price.
START_PRICE = Decimal(100)

#: A JSON object that only its provider reads, stored between its calls. None before the first call.
ProviderState = dict[str, Any]
Answer = tuple[list[Quote], ProviderState | None]


class UnknownProvider(ValueError):
    def __init__(self, name: str) -> None:
        super().__init__(f"there is no price provider {name!r}; choose {replay.NAME} or {simulated.NAME}")


class Provider(Protocol):
    """A source of prices. Both methods return the quotes of the symbols that it knows, and its state after them."""

    name: str
    #: The highest rate of polls, of all replicas together; None for any.
    rate: Rate | None
    #: True where its quotes carry official opens and closes; else they are a session's first and last trades.
    official: bool

    def poll(self, state: ProviderState | None, symbols: Sequence[str], now: datetime) -> Answer:
        """The current prices."""

    def advance(self, state: ProviderState | None, symbols: Sequence[str], now: datetime) -> Answer:
        """The next step of a provider that the feed moves on. No quotes from one that is only polled."""


class ReplayProvider:
    """The recorded bars, one at each ``advance``. ``poll`` repeats the newest price and does not move on.

    ``seed`` is that of the walk after the last bar. A stored state keeps the seed that it began with.
    """

    name = replay.NAME
    rate: Rate | None = None
    official = False

    def __init__(self, bars: Mapping[str, tuple[Bar, ...]], *, seed: int, spread_bps: Decimal = SPREAD_BPS) -> None:
        self._replay = Replay(bars, spread_bps=spread_bps)
        self._seed = seed

    def poll(self, state: ProviderState | None, symbols: Sequence[str], now: datetime) -> Answer:
        return self._replay.current_quotes(self._read(state), symbols, now), state

    def advance(self, state: ProviderState | None, symbols: Sequence[str], now: datetime) -> Answer:
        quotes, after = self._replay.next_quotes(self._read(state), symbols, now)
        return quotes, after.as_json()

    def _read(self, state: ProviderState | None) -> ReplayState:
        return ReplayState(self._seed, {}) if state is None else ReplayState.from_json(state)


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


@cache
def recording() -> Mapping[str, tuple[Bar, ...]]:
    """The recorded daily prices that come with the service: symbol → bars, oldest first."""
    with gzip.open(RECORDING, "rt", encoding="ascii", newline="") as lines:
        return recorded_bars(lines)


def make_provider(name: str, *, seed: int) -> Provider:
    """The provider of that name. The simulated one starts at the last recorded prices. Raises UnknownProvider."""
    if name == replay.NAME:
        return ReplayProvider(recording(), seed=seed)
    if name == simulated.NAME:
        closes = {symbol: bars[-1].close for symbol, bars in recording().items()}
        return SimulatedProvider(seed=seed, start_prices=closes)
    raise UnknownProvider(name)
