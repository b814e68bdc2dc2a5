"""An account that reached a risk limit is halted, until somebody resumes it or it begins again."""

from dataclasses import replace

from services.orders.persistence.account_halts import HaltRow, adding_halts, ending_halt
from services.orders.persistence.accounts import lock_account, saving_accounts, saving_halts
from services.orders.persistence.orders import lock_open_orders, open_order_groups
from services.orders.usecases.account_events import AccountEvents
from services.orders.usecases.expire import end_orders
from services.orders.usecases.lookup import lock_account as lock_known_account
from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.account_risk import AccountHalted, AccountResumed, ResumeAccount, RiskLimitReached
from shared.contracts.reasons import CancelReason


def halt_account(uow: UnitOfWork, event: RiskLimitReached) -> None:
    """Halt the account, once, and cancel its open orders that could open or enlarge a position. Exits stay.

    The event is dropped if the account is halted, was reset or closed, or was halted since the figure was measured. A
    figure from before a resume therefore halts nothing, in whatever order the messages come.
    """
    account = lock_account(uow.connection, event.account_id)
    if account is None or account.closed or account.generation != event.generation:
        return
    if account.halted_at is not None or account.halt_id != event.after:
        return
    halted = replace(account, halt_id=event.halt_id, halted_at=uow.now, halt_reason=event.message)
    accounts = {account.id: halted}
    AccountEvents(uow, accounts).emit(
        AccountHalted,
        account.id,
        halt_id=event.halt_id,
        generation=event.generation,
        kind=event.kind,
        value=event.value,
        limit=event.limit,
        reason=event.message,
    )
    row = HaltRow(
        account.id,
        event.halt_id,
        event.generation,
        event.kind.value,
        event.value,
        event.limit,
        event.message,
        uow.now,
    )
    uow.run(adding_halts([row]), saving_halts([halted]), saving_accounts([accounts[account.id]]))
    orders = lock_open_orders(uow.connection, open_order_groups(uow.connection, account.id))
    entries = [order for order in orders if order.may_open]
    if entries:
        end_orders(uow, entries, orders, accounts, CancelReason.RISK_LIMIT)


def resume_account(uow: UnitOfWork, command: ResumeAccount) -> None:
    """End the halt that the command names. Any other one stands. Raises UnknownAccount."""
    account = lock_known_account(uow, command.account_id)
    if account.halted_at is None or account.halt_id != command.halt_id:
        return
    resumed = replace(account, halted_at=None, halt_reason=None)
    accounts = {account.id: resumed}
    AccountEvents(uow, accounts).emit(AccountResumed, account.id, halt_id=command.halt_id)
    uow.run(
        ending_halt(account, command.resumed_by, uow.now),
        saving_halts([resumed]),
        saving_accounts([accounts[account.id]]),
    )
