"""The providers that the settings name: the one without a network, the order of each asset class, and those of bars."""

from collections.abc import Sequence
from functools import cache

from services.marketdata.domain import replay, simulated
from services.marketdata.providers.provider import Part, Provider
from services.marketdata.providers.recorded_history import RecordedHistory
from services.marketdata.providers.registry import network_provider, simulated_provider
from services.marketdata.providers.replay import (
    Controlled,
    ReplayProvider,
    TapeProvider,
    bars_of_file,
    recording_between,
)
from services.marketdata.providers.stateful import StatefulProvider
from services.marketdata.settings import current
from services.marketdata.usecases.fetch_prices import Order
from shared.bar_files import WrongFile
from shared.clock import utc_now
from shared.contracts.instruments import AssetClass
from shared.settings import InvalidSettings


@cache
def configured_replay() -> Controlled | None:
    """The replay, if it is the configured provider. Raises InvalidSettings for a file that cannot be replayed."""
    settings = current()
    if settings.provider != replay.NAME:
        return None
    first, last = settings.replay_from, settings.replay_to
    try:
        if settings.replay_file is None:
            return ReplayProvider(recording_between(first, last), seed=settings.seed)
        bars = bars_of_file(settings.replay_file, first, last, utc_now())
    except WrongFile as error:
        raise InvalidSettings(f"PAPERPROFIT_REPLAY_FILE: {error}") from None
    return TapeProvider(settings.replay_file.name, bars)


@cache
def configured_provider() -> StatefulProvider | None:
    """The provider that needs no network, or None where another one is configured."""
    settings = current()
    return simulated_provider(seed=settings.seed) if settings.provider == simulated.NAME else configured_replay()


def configured_order() -> Order:
    """The network providers of each asset class that has some, in their order."""
    names = {each: current().network_order(each) for each in AssetClass}
    return {each: [network_provider(name) for name in its_names] for each, its_names in names.items() if its_names}


@cache
def history_providers() -> dict[str, Provider]:
    """The providers that have bars, by name."""
    settings = current()
    file = settings.replay_file
    bars = None if file is None else bars_of_file(file, None, None, utc_now())
    names = {name for each in AssetClass for name in settings.network_order(each)}
    found = [RecordedHistory(bars), *(network_provider(name) for name in sorted(names))]
    return {provider.traits.name: provider for provider in found if Part.BARS in provider.traits.parts}


def history_order(asset_class: AssetClass) -> Sequence[Provider]:
    """The providers that are asked for bars of the class, in their order. The replay has those of its recording."""
    settings = current()
    names = settings.network_order(asset_class)
    if settings.provider == replay.NAME and asset_class not in settings.own_providers():
        names = (replay.NAME,)
    return [history_providers()[name] for name in names if name in history_providers()]
