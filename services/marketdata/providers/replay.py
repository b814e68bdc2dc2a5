"""The provider ``replay``: recorded daily prices, one bar at each step."""

import gzip
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from functools import cache
from pathlib import Path

from services.marketdata.domain import replay
from services.marketdata.domain.quote import SPREAD_BPS
from services.marketdata.domain.recorded import RecordedDay, recorded_bars
from services.marketdata.domain.replay import Replay, ReplayState
from services.marketdata.providers.stateful import Answer, ProviderState
from shared.resilience.rate_limits import Rate

RECORDING = Path(__file__).parents[1] / "data" / "daily_prices.csv.gz"


class ReplayProvider:
    """The recorded bars, one at each ``advance``. ``poll`` repeats the newest price and does not move on.

    ``seed`` is that of the walk after the last bar. A stored state keeps the seed that it began with.
    """

    name = replay.NAME
    rate: Rate | None = None
    official = False

    def __init__(
        self, bars: Mapping[str, tuple[RecordedDay, ...]], *, seed: int, spread_bps: Decimal = SPREAD_BPS
    ) -> None:
        self._replay = Replay(bars, spread_bps=spread_bps)
        self._seed = seed

    def poll(self, state: ProviderState | None, symbols: Sequence[str], now: datetime) -> Answer:
        return self._replay.current_quotes(self._read(state), symbols, now), state

    def advance(self, state: ProviderState | None, symbols: Sequence[str], now: datetime) -> Answer:
        quotes, after = self._replay.next_quotes(self._read(state), symbols, now)
        return quotes, after.as_json()

    def _read(self, state: ProviderState | None) -> ReplayState:
        return ReplayState(self._seed, {}) if state is None else ReplayState.from_json(state)


@cache
def recording() -> Mapping[str, tuple[RecordedDay, ...]]:
    """The recorded daily prices that come with the service: symbol → bars, oldest first."""
    with gzip.open(RECORDING, "rt", encoding="ascii", newline="") as lines:
        return recorded_bars(lines)
