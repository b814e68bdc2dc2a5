"""Cash paid in and out, and an account that begins again."""

from dataclasses import replace
from uuid import UUID

from services.orders.persistence import accounts as account_store
from services.orders.persistence import executions
from services.orders.persistence import orders as store
from services.orders.usecases.account_events import AccountEvents
from services.orders.usecases.execute import end_orders
from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.accounts import AccountReset, CashMoved, CashRefused, MoveCash, ResetAccount
from shared.contracts.orders import OrderStatus
from shared.exchange.ledger import transfer
from shared.exchange.order import Account
from shared.money import ZERO, plain


def move_cash(uow: UnitOfWork, account: Account, command: MoveCash) -> None:
    """Book the transfer, once; cash that orders have reserved, or that a margin account owes, cannot be taken out."""
    if account_store.is_booked(uow.connection, account.id, command.transfer_id):
        return
    accounts = {account.id: account}
    events = AccountEvents(uow, accounts)
    free = min(account.cash - account.reserved, account.buying_power)
    if -command.amount > free:
        message = f"only {plain(free)} can be withdrawn (requested: {plain(-command.amount)})"
        events.emit(
            CashRefused, account.id, transfer_id=command.transfer_id, reason="insufficient_cash", message=message
        )
    else:
        _book(uow, accounts, events, command)
    uow.run(account_store.saving_accounts(list(accounts.values())))


def _book(uow: UnitOfWork, accounts: dict[UUID, Account], events: AccountEvents, command: MoveCash) -> None:
    account = accounts[command.account_id]
    accounts[account.id] = replace(account, cash=account.cash + command.amount)
    entry = transfer(account.id, account.generation, uow.now, command.transfer_id, command.amount)
    uow.run(executions.saving_entries([entry]))
    cash = accounts[account.id].cash
    events.emit(CashMoved, account.id, transfer_id=command.transfer_id, amount=command.amount, cash=cash)


def reset(uow: UnitOfWork, account: Account, command: ResetAccount) -> None:
    """Cancel what is open and begin a new generation with nothing but cash; what was stays, under its generation."""
    if account_store.is_booked(uow.connection, account.id, command.reset_id):
        return
    accounts = {account.id: account}
    orders = store.lock_open_orders(uow.connection, store.open_order_groups(uow.connection, account.id))
    if orders:
        end_orders(uow, orders, OrderStatus.CANCELED, orders, accounts, "reset")
    after = accounts[account.id]
    after = replace(after, generation=account.generation + 1, cash=command.cash, long_value=ZERO, short_value=ZERO)
    accounts[account.id] = after
    events = AccountEvents(uow, accounts)
    events.emit(AccountReset, account.id, reset_id=command.reset_id, generation=after.generation, cash=after.cash)
    paid_in = transfer(after.id, after.generation, uow.now, command.reset_id, command.cash)
    uow.run(
        *executions.beginning_generation(after, uow.now),
        executions.saving_entries([paid_in]),
        account_store.saving_accounts(list(accounts.values())),
    )
