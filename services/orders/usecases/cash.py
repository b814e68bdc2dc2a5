"""Cash paid in and out, and an account that begins again."""

from dataclasses import replace
from uuid import UUID

from services.orders.persistence import accounts as account_store
from services.orders.persistence import executions
from services.orders.persistence import orders as store
from services.orders.usecases.account_events import Voice
from services.orders.usecases.execute import end_orders
from shared.bus.unit_of_work import Transaction
from shared.contracts.accounts import AccountReset, CashMoved, CashRefused, MoveCash, ResetAccount
from shared.contracts.orders import OrderStatus
from shared.exchange.ledger import transfer
from shared.exchange.order import Account
from shared.money import ZERO, plain


def move_cash(tx: Transaction, account: Account, command: MoveCash) -> None:
    """Book the transfer, once; cash that orders have reserved, or that a margin account owes, cannot be taken out."""
    if account_store.is_booked(tx.connection, account.id, command.transfer_id):
        return
    accounts = {account.id: account}
    voice = Voice(tx, accounts)
    free = min(account.cash - account.reserved, account.buying_power)
    if -command.amount > free:
        message = f"only {plain(free)} can be withdrawn (requested: {plain(-command.amount)})"
        voice.say(CashRefused, account.id, transfer_id=command.transfer_id, reason="insufficient_cash", message=message)
    else:
        _book(tx, accounts, voice, command)
    account_store.save_accounts(tx.connection, list(accounts.values()))


def _book(tx: Transaction, accounts: dict[UUID, Account], voice: Voice, command: MoveCash) -> None:
    account = accounts[command.account_id]
    accounts[account.id] = replace(account, cash=account.cash + command.amount)
    entry = transfer(account.id, account.epoch, tx.now, command.transfer_id, command.amount)
    executions.save_entries(tx.connection, [entry])
    cash = accounts[account.id].cash
    voice.say(CashMoved, account.id, transfer_id=command.transfer_id, amount=command.amount, cash=cash)


def reset(tx: Transaction, account: Account, command: ResetAccount) -> None:
    """Cancel what is open and begin a new epoch with nothing but cash; what was stays, under its epoch."""
    if account_store.is_booked(tx.connection, account.id, command.reset_id):
        return
    accounts = {account.id: account}
    orders = store.lock_open_orders(tx.connection, store.open_families(tx.connection, account.id))
    if orders:
        end_orders(tx, orders, OrderStatus.CANCELED, orders, accounts, "reset")
    after = accounts[account.id]
    after = replace(after, epoch=account.epoch + 1, cash=command.cash, long_value=ZERO, short_value=ZERO)
    accounts[account.id] = after
    voice = Voice(tx, accounts)
    voice.say(AccountReset, account.id, reset_id=command.reset_id, epoch=after.epoch, cash=after.cash)
    executions.begin_epoch(tx.connection, after, tx.now)
    executions.save_entries(tx.connection, [transfer(after.id, after.epoch, tx.now, command.reset_id, command.cash)])
    account_store.save_accounts(tx.connection, list(accounts.values()))
