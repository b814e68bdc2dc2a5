"""Cash is paid in or taken out, and an account begins again or is closed."""

from dataclasses import replace
from decimal import Decimal
from uuid import UUID

from services.orders.persistence.account_halts import ending_halt
from services.orders.persistence.accounts import Accounts, beginning_generation, closing_account, saving_accounts
from services.orders.persistence.holdings import dropping_holdings
from services.orders.persistence.ledger import is_booked, saving_entries
from services.orders.persistence.orders import lock_open_orders, open_order_groups
from services.orders.usecases.account_events import AccountEvents
from services.orders.usecases.expire import end_orders
from services.orders.usecases.lookup import lock_account, refuse_closed
from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.accounts import (
    AccountClosed,
    AccountReset,
    CashMoved,
    CashRefused,
    CloseAccount,
    MoveCash,
    ResetAccount,
)
from shared.contracts.reasons import CancelReason, RejectReason
from shared.exchange.ledger import transfer
from shared.exchange.refusal import Refusal
from shared.money import ZERO, plain


def move_cash(uow: UnitOfWork, command: MoveCash) -> None:
    """Book the transfer, once. Cash that orders have reserved, or that a margin account owes, cannot be taken out.

    Raises UnknownAccount.
    """
    account = lock_account(uow, command.account_id)
    if is_booked(uow.connection, account.id, command.transfer_id):
        return
    accounts = {account.id: account}
    free = min(account.cash - account.reserved, account.buying_power)
    transfer_id = command.transfer_id
    if account.closed:
        _refuse(uow, accounts, account.id, transfer_id, refuse_closed(account.id))
    elif -command.amount > free:
        message = f"only {plain(free)} can be withdrawn (requested: {plain(-command.amount)})"
        _refuse(uow, accounts, account.id, transfer_id, Refusal(RejectReason.INSUFFICIENT_CASH, message))
    else:
        moved = accounts[account.id] = replace(account, cash=account.cash + command.amount)
        entry = transfer(account.id, account.generation, uow.now, transfer_id, command.amount)
        uow.run(saving_entries([entry]))
        events = AccountEvents(uow, accounts)
        events.emit(CashMoved, account.id, transfer_id=transfer_id, amount=command.amount, cash=moved.cash)
    uow.run(saving_accounts([accounts[account.id]]))


def reset_account(uow: UnitOfWork, command: ResetAccount) -> None:
    """Cancel all open orders and begin a new generation of the account, with nothing but cash.

    Orders, fills, trades and ledger of the earlier generations stay. Raises UnknownAccount.
    """
    account = lock_account(uow, command.account_id)
    if is_booked(uow.connection, account.id, command.reset_id):
        return
    accounts = {account.id: account}
    if account.closed:
        _refuse(uow, accounts, account.id, command.reset_id, refuse_closed(account.id))
    else:
        generation = _begin_again(uow, accounts, account.id, command.reset_id, command.cash, CancelReason.RESET)
        events = AccountEvents(uow, accounts)
        events.emit(AccountReset, account.id, reset_id=command.reset_id, generation=generation, cash=command.cash)
    uow.run(saving_accounts([accounts[account.id]]))


def close_account(uow: UnitOfWork, command: CloseAccount) -> None:
    """Begin a last generation of the account, with nothing at all, in which every command is refused.

    Closing it again changes nothing. Raises UnknownAccount.
    """
    account = lock_account(uow, command.account_id)
    if account.closed:
        return
    accounts = {account.id: account}
    generation = _begin_again(uow, accounts, account.id, command.closing_id, ZERO, CancelReason.CLOSED)
    events = AccountEvents(uow, accounts)
    events.emit(AccountClosed, account.id, closing_id=command.closing_id, generation=generation)
    uow.run(closing_account(account.id), saving_accounts([accounts[account.id]]))


def _begin_again(
    uow: UnitOfWork, accounts: Accounts, account_id: UUID, cause: UUID, cash: Decimal, reason: CancelReason
) -> int:
    """Cancel the open orders, drop the holdings, and return the number of the generation that begins with this cash."""
    orders = lock_open_orders(uow.connection, open_order_groups(uow.connection, account_id))
    if orders:
        end_orders(uow, orders, orders, accounts, reason)
    before = accounts[account_id]
    after = replace(
        before,
        generation=before.generation + 1,
        cash=cash,
        long_value=ZERO,
        short_value=ZERO,
        halted_at=None,
        halt_reason=None,
    )
    accounts[account_id] = after
    if before.halted_at is not None:
        uow.run(ending_halt(before, reason.value, uow.now))
    uow.run(
        beginning_generation([after], now=uow.now),
        *dropping_holdings(account_id, uow.now),
        saving_entries([transfer(account_id, after.generation, uow.now, cause, cash)]),
    )
    return after.generation


def _refuse(uow: UnitOfWork, accounts: Accounts, account_id: UUID, transfer_id: UUID, refusal: Refusal) -> None:
    AccountEvents(uow, accounts).emit(
        CashRefused, account_id, transfer_id=transfer_id, reason=refusal.reason, message=refusal.message
    )
