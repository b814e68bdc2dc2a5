"""Open orders are canceled because their owner asks for it."""

from uuid import UUID

from services.orders.persistence import accounts as account_store
from services.orders.persistence import orders as order_store
from services.orders.persistence.accounts import saving_accounts
from services.orders.usecases.account_events import AccountEvents
from services.orders.usecases.expire import end_orders
from services.orders.usecases.lookup import lock_target, wait_for_account
from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.orders import CancelOrder, CancelOrders, CancelRejected
from shared.contracts.reasons import CancelReason, RejectReason
from shared.exchange.acceptance.risk_checks import refuse_change
from shared.exchange.order import Order
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
    _reject(AccountEvents(uow, accounts), account.id, command.order_id, found)
    uow.at_commit(saving_accounts([accounts[account.id]]))


def cancel_orders(uow: UnitOfWork, command: CancelOrders) -> None:
    """Cancel each order of the command, or reject that part of it, in the same statements however many there are.

    Raises TryAgainLater where the account is not open yet, and UnknownAccount where it is not for long.
    """
    account = account_store.lock_account(uow.connection, command.account_id)
    if account is None:
        wait_for_account(uow, command.account_id, command.requested_at)
        return
    accounts = {account.id: account}
    known = order_store.named_orders(uow.connection, account.id, command.order_ids)
    order_groups = {(account.id, each.order_group) for each in known.values()}
    open_orders = order_store.lock_open_orders(uow.connection, order_groups)
    still_open = {order.id: order for order in open_orders}
    ending: list[Order] = []
    refused: dict[UUID, Refusal] = {}
    for order_id in dict.fromkeys(command.order_ids):
        if order_id in still_open:
            refusal = refuse_change(still_open[order_id], uow.now)
        elif order_id in known:
            refusal = Refusal(RejectReason.NOT_CANCELABLE, f"the order is {known[order_id].status}")
        else:
            refusal = Refusal(RejectReason.UNKNOWN_ORDER, "the order does not exist")
        if refusal is None:
            ending.append(still_open[order_id])
        else:
            refused[order_id] = refusal
    if ending:
        end_orders(uow, ending, open_orders, accounts, CancelReason.REQUESTED)
    events = AccountEvents(uow, accounts)
    for order_id, refusal in refused.items():
        _reject(events, account.id, order_id, refusal)
    uow.at_commit(saving_accounts([accounts[account.id]]))


def _reject(events: AccountEvents, account_id: UUID, order_id: UUID, refusal: Refusal) -> None:
    events.emit(
        CancelRejected,
        account_id,
        order_id=order_id,
        reason=refusal.reason,
        message=refusal.message,
        details=dict(refusal.details),
    )
