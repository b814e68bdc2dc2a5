"""The providers by their names."""

from services.marketdata.domain import replay, simulated
from services.marketdata.providers.replay import ReplayProvider, recording
from services.marketdata.providers.simulated import SimulatedProvider
from services.marketdata.providers.stateful import StatefulProvider


class UnknownProvider(ValueError):
    def __init__(self, name: str) -> None:
        super().__init__(f"there is no price provider {name!r}; choose {replay.NAME} or {simulated.NAME}")


def make_provider(name: str, *, seed: int) -> StatefulProvider:
    """The provider of that name. The simulated one starts at the last recorded prices. Raises UnknownProvider."""
    if name == replay.NAME:
        return ReplayProvider(recording(), seed=seed)
    if name == simulated.NAME:
        closes = {symbol: bars[-1].close for symbol, bars in recording().items()}
        return SimulatedProvider(seed=seed, start_prices=closes)
    raise UnknownProvider(name)
