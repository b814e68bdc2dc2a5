"""Pause, resume, move or speed up the replay: a change of its stored state, which every replica and restart follows."""

import structlog

from services.marketdata.persistence import prices
from services.marketdata.providers.replay import Controlled
from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.replay import ControlReplay

log = structlog.get_logger(__name__)


def control(uow: UnitOfWork, provider: Controlled | None, command: ControlReplay) -> None:
    """Change the state. A price that is fetched meanwhile is dropped, and fetched again from there."""
    if provider is None:
        log.warning("the replay is not the provider: set PAPERPROFIT_PROVIDER=replay", action=command.action)
        return
    state = prices.lock_provider_state(uow.connection, provider.name)
    after = provider.control(state, command)
    prices.save_provider_state(uow.connection, provider.name, after, uow.now)
