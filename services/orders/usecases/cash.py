"""Cash is paid in or taken out, and an account begins again."""

from dataclasses import replace

from services.orders.persistence.accounts import beginning_generation, saving_accounts
from services.orders.persistence.holdings import dropping_holdings
from services.orders.persistence.ledger import is_booked, saving_entries
from services.orders.persistence.orders import lock_open_orders, open_order_groups
from services.orders.usecases.account_events import AccountEvents
from services.orders.usecases.expire import end_orders
from services.orders.usecases.lookup import lock_account
from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.accounts import AccountReset, CashMoved, CashRefused, MoveCash, ResetAccount
from shared.contracts.reasons import CancelReason, RejectReason
from shared.exchange.ledger import transfer
from shared.money import ZERO, plain


def move_cash(uow: UnitOfWork, command: MoveCash) -> None:
    """Book the transfer, once. Cash that orders have reserved, or that a margin account owes, cannot be taken out.

    Raises UnknownAccount.
    """
    account = lock_account(uow, command.account_id)
    if is_booked(uow.connection, account.id, command.transfer_id):
        return
    accounts = {account.id: account}
    events = AccountEvents(uow, accounts)
    free = min(account.cash - account.reserved, account.buying_power)
    transfer_id = command.transfer_id
    if -command.amount > free:
        message = f"only {plain(free)} can be withdrawn (requested: {plain(-command.amount)})"
        reason = RejectReason.INSUFFICIENT_CASH
        events.emit(CashRefused, account.id, transfer_id=transfer_id, reason=reason, message=message)
    else:
        moved = accounts[account.id] = replace(account, cash=account.cash + command.amount)
        entry = transfer(account.id, account.generation, uow.now, transfer_id, command.amount)
        uow.run(saving_entries([entry]))
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
    orders = lock_open_orders(uow.connection, open_order_groups(uow.connection, account.id))
    if orders:
        end_orders(uow, orders, orders, accounts, CancelReason.RESET)
    after = replace(
        accounts[account.id],
        generation=account.generation + 1,
        cash=command.cash,
        long_value=ZERO,
        short_value=ZERO,
    )
    accounts[account.id] = after
    events = AccountEvents(uow, accounts)
    events.emit(AccountReset, account.id, reset_id=command.reset_id, generation=after.generation, cash=after.cash)
    uow.run(
        beginning_generation([after], now=uow.now),
        *dropping_holdings(account.id, uow.now),
        saving_entries([transfer(after.id, after.generation, uow.now, command.reset_id, command.cash)]),
        saving_accounts([accounts[account.id]]),
    )
