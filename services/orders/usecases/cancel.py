"""An open order is canceled because its owner asks for it."""

from services.orders.persistence.accounts import saving_accounts
from services.orders.usecases.account_events import AccountEvents
from services.orders.usecases.expire import end_orders
from services.orders.usecases.lookup import lock_target
from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.orders import CancelOrder, CancelRejected
from shared.contracts.reasons import CancelReason, RejectReason
from shared.exchange.acceptance.risk_checks import refuse_change
from shared.exchange.refusal import Refusal


def cancel_order(uow: UnitOfWork, command: CancelOrder) -> None:
    """Cancel the order, or reject the command: a fill that came first wins, and so does an auction that is near.

    Raises TryAgainLater where the order is not there yet.
    """
    account, target = lock_target(uow, command, ended=RejectReason.NOT_CANCELABLE)
    if account is None:
        return
    accounts = {account.id: account}
    found = target if isinstance(target, Refusal) else refuse_change(target.order, uow.now) or target
    if not isinstance(found, Refusal):
        end_orders(uow, [found.order], found.order_group, accounts, CancelReason.REQUESTED)
        return
    AccountEvents(uow, accounts).emit(
        CancelRejected,
        account.id,
        order_id=command.order_id,
        reason=found.reason,
        message=found.message,
        details=dict(found.details),
    )
    uow.at_commit(saving_accounts([accounts[account.id]]))
