"""Give an instrument a new symbol: its bars, actions, official prices and halts move to it.

The instrument of the new symbol is a copy of the old one. The old one stays, retired and with its last price, until
orders has moved the positions, so a position has a price at every moment.
"""

from uuid import NAMESPACE_URL, uuid5

import structlog

from services.marketdata.persistence import renaming
from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.corporate_actions import CorporateActionApplied

log = structlog.get_logger(__name__)


def rename(uow: UnitOfWork, change: CorporateActionApplied) -> None:
    """Rename and publish the change. It is reported and left out if the new symbol is another instrument."""
    old, new = change.symbol, change.new_symbol or change.symbol
    if renaming.exists(uow.connection, new):
        renaming.report(uow.connection, change.action_id, f"{new} is another instrument", uow.now)
        log.error("a symbol cannot be changed: the new one is another instrument", symbol=old, new_symbol=new)
        return
    market = renaming.market_of(uow.connection, old)
    new_id = uuid5(NAMESPACE_URL, f"paperprofit:instrument:{market}:{new}")
    copy = renaming.copy_instrument(uow.connection, old, new, new_id)
    renaming.move(uow.connection, old, new)
    renaming.identify_indicators(uow.connection, new)
    renaming.applied(uow.connection, change.action_id, old, copy.split_count, uow.now)
    uow.publish(change.model_copy(update={"split_count": copy.split_count, "last": copy.last}))
