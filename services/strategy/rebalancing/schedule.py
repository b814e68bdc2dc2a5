"""The rebalances that follow from the targets that accounts keep."""

from datetime import timedelta
from uuid import UUID, uuid5

from services.strategy.rebalancing import follow, load, start, store
from shared.bus.unit_of_work import ServiceContext, UnitOfWork
from shared.contracts.rebalancing import Targets
from shared.jobs.run_context import Counts

#: An account is not rebalanced again within this time, so that an order that is refused is not sent all the time.
PAUSE = timedelta(hours=1)


def rebalance_accounts(context: ServiceContext, run_id: UUID) -> Counts:
    """Let open rebalances go on, and start one for each account with a weight outside of its band.

    Each account has a transaction of its own. A run that is repeated starts none again.
    """
    with context.unit_of_work() as uow:
        open_ids = store.open_ids(uow.connection)
        kept = store.kept_targets(uow.connection, uow.now - PAUSE)
    for rebalance_id in open_ids:
        with context.unit_of_work() as uow:
            follow.advance(uow, rebalance_id)
    started = 0
    for account_id, targets in kept.items():
        with context.unit_of_work() as uow:
            started += _start(uow, uuid5(run_id, str(account_id)), account_id, targets)
    return {"rebalances_followed": len(open_ids), "accounts_checked": len(kept), "rebalances_started": started}


def _start(uow: UnitOfWork, rebalance_id: UUID, account_id: UUID, targets: Targets) -> bool:
    """Start the rebalance of one account, if an order follows from its targets."""
    account = load.account_facts(uow.connection, account_id)
    if account is None or store.lock_open_of(uow.connection, account_id) is not None:
        return False
    plan = start.planned(uow, account, targets, trigger="schedule")
    if not plan.orders:
        return False
    rebalance = start.row_of(rebalance_id, account, targets, plan, uow, "schedule")
    if not store.add(uow.connection, rebalance, plan, uow.now):
        return False
    start.begin(uow, account, rebalance)
    store.note_start(uow.connection, account_id, uow.now)
    return True
