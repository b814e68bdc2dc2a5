"""Add and remove indicators. The next update computes the values of an added one, also for the bars that are stored."""

from services.marketdata.persistence import named_indicators as indicators
from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.indicators import AddIndicator, RemoveIndicator


def add(uow: UnitOfWork, command: AddIndicator) -> None:
    """Add the indicator, unless it is there. Raises IntegrityError where there is no such instrument."""
    indicators.add(uow.connection, command)


def remove(uow: UnitOfWork, command: RemoveIndicator) -> None:
    """Remove the indicator with its values, if it is there.

    An indicator that a running strategy or a watchlist names stays as long.
    """
    if not indicators.keep_for_others(uow.connection, command.indicator_id):
        indicators.remove(uow.connection, command.indicator_id)
