"""The providers by their names.

A network provider is a class without required arguments, which is imported when it is first used. Another package adds
one by an entry point of the group ``paperprofit.providers``.
"""

from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points

from services.marketdata.domain import replay, simulated
from services.marketdata.providers import push
from services.marketdata.providers.provider import Provider
from services.marketdata.providers.replay import recording
from services.marketdata.providers.simulated import SimulatedProvider
from services.marketdata.providers.stateful import StatefulProvider

GROUP = "paperprofit.providers"
#: Providers that need no network. They serve all instruments, unless an asset class has providers of its own.
STATEFUL = (replay.NAME, simulated.NAME)
NETWORK = {
    "yahoo": "services.marketdata.providers.yahoo:Yahoo",
    "alphavantage": "services.marketdata.providers.alphavantage:AlphaVantage",
    "alpaca": "services.marketdata.providers.alpaca:Alpaca",
}


class UnknownProvider(ValueError):
    """There is no price provider of that name. ``advice`` names those that there are."""

    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        self.advice = f"choose {', '.join(known[:-1])} or {known[-1]}"
        super().__init__(f"there is no price provider {name!r}; {self.advice}")


class NotAProvider(TypeError):
    """The entry point of another package does not make a provider."""

    def __init__(self, name: str) -> None:
        super().__init__(f"the entry point {name!r} of {GROUP} must make a Provider; correct its package")


def check_name(name: str, *, network: bool = False) -> str:
    """Return the name of a provider, with ``network`` of one that can be one of several. Raises UnknownProvider."""
    built_in = (push.NAME, *NETWORK) if network else (*STATEFUL, push.NAME, *NETWORK)
    if name in built_in or name in _entry_points():
        return name
    raise UnknownProvider(name, (*built_in, *sorted(_entry_points())))


def simulated_provider(*, seed: int) -> StatefulProvider:
    """The simulated provider, which starts at the last recorded prices."""
    closes = {symbol: bars[-1].close for symbol, bars in recording().items()}
    return SimulatedProvider(seed=seed, start_prices=closes)


@cache
def network_provider(name: str) -> Provider:
    """The network provider of that name, one for the process. Raises UnknownProvider and NotAProvider."""
    if name in NETWORK:
        module, _, attribute = NETWORK[name].partition(":")
        made = getattr(import_module(module), attribute)()
    elif name in _entry_points():
        made = _entry_points()[name].load()()
    else:
        raise UnknownProvider(name, (*NETWORK, *sorted(_entry_points())))
    if not isinstance(made, Provider):
        raise NotAProvider(name)
    return made


@cache
def _entry_points() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=GROUP)}
