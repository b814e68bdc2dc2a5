"""Margin accounts: interest once a day, a call where equity is too low, and liquidation where nobody answers it."""

from dataclasses import replace
from datetime import date, timedelta
from typing import Any
from uuid import UUID, uuid5

from services.orders.persistence import accounts as account_store
from services.orders.persistence import executions, margin_calls
from services.orders.persistence import orders as store
from services.orders.persistence.accounts import PreTradeContext
from services.orders.usecases.account_events import AccountEvents
from services.orders.usecases.execute import end_orders
from services.orders.usecases.submit import enter_orders, look_up
from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.accounts import InterestCharged, MarginCalled, MarginCallEnded
from shared.contracts.orders import NewOrder, OrderStatus, OrderType, Side, TimeInForce
from shared.exchange.ledger import Entry, Kind
from shared.exchange.order import Account
from shared.money import plain


def charge_interest(uow: UnitOfWork, day: date) -> int:
    """Charge a day's interest, once; the number of accounts that owed any."""
    accounts = account_store.lock_accounts(uow.connection, margin_calls.margin_accounts(uow.connection))
    charged = account_store.references(uow.connection, Kind.INTEREST, [_interest_id(id_, day) for id_ in accounts])
    events = AccountEvents(uow, accounts)
    entries = []
    for account in list(accounts.values()):
        amount, reference = account.daily_interest, _interest_id(account.id, day)
        if not amount or reference in charged:
            continue
        accounts[account.id] = replace(account, cash=account.cash - amount)
        entries.append(
            Entry(account.id, account.generation, Kind.INTEREST, uow.now, reference, cash=-amount, interest=amount)
        )
        events.emit(InterestCharged, account.id, day=day, amount=amount, cash=accounts[account.id].cash)
    if entries:
        charged_accounts = [accounts[entry.account_id] for entry in entries]
        uow.run(executions.saving_entries(entries), account_store.saving_accounts(charged_accounts))
    return len(entries)


def _interest_id(account_id: UUID, day: date) -> UUID:
    return uuid5(account_id, f"interest/{day.isoformat()}")


def check_margins(uow: UnitOfWork) -> dict[str, int]:
    """Call accounts whose equity is too low, end the calls that were met, and liquidate where one is overdue."""
    accounts = account_store.lock_accounts(uow.connection, margin_calls.margin_accounts(uow.connection))
    calls = margin_calls.open_calls(uow.connection, list(accounts))
    done = {"called": 0, "met": 0, "liquidated": 0}
    for account in list(accounts.values()):
        call, required = calls.get(account.id), account.maintenance_margin
        if account.equity >= required or not required:  # who holds nothing has nothing to close
            done["met"] += call is not None and _end(uow, account, call, "met")
        elif call is None:
            done["called"] += _call(uow, account, required)
        elif call.due_at <= uow.now and call.liquidated_at is None:
            done["liquidated"] += _liquidate(uow, account, call)
    return done


def _call(uow: UnitOfWork, account: Account, required: Any) -> bool:
    due_at = uow.now + timedelta(hours=account.settings.margin_grace)
    accounts = {account.id: account}
    margin_calls.add_call(uow.connection, account.id, account.equity, required, uow.now, due_at)
    AccountEvents(uow, accounts).emit(MarginCalled, account.id, equity=account.equity, required=required, due_at=due_at)
    uow.run(account_store.saving_accounts(list(accounts.values())))
    return True


def _end(uow: UnitOfWork, account: Account, call: margin_calls.Call, how: str) -> bool:
    accounts = {account.id: account}
    margin_calls.end_call(uow.connection, call, how, uow.now)
    AccountEvents(uow, accounts).emit(MarginCallEnded, account.id, how=how)
    uow.run(account_store.saving_accounts(list(accounts.values())))
    return True


def _liquidate(uow: UnitOfWork, account: Account, call: margin_calls.Call) -> bool:
    """Cancel what is open and close everything at the market; the call ends when equity suffices.

    The orders in what is halted come in all the same, and wait for the first price after it.
    """
    accounts = {account.id: account}
    orders = store.lock_open_orders(uow.connection, store.open_order_groups(uow.connection, account.id))
    if orders:
        end_orders(uow, orders, OrderStatus.CANCELED, orders, accounts, "margin_call")
    held = account_store.positions_of(uow.connection, account.id)
    closing = [_closing(call, symbol, qty, uow) for symbol, qty in held]
    unblocked = replace(accounts[account.id], settings=account.settings.model_copy(update={"trading_blocked": False}))
    _, pre_trade_contexts = look_up(uow, account.id, closing)
    enter_orders(uow, unblocked, closing, [_free_of_halts(pre_trade) for pre_trade in pre_trade_contexts])
    margin_calls.note_liquidation(uow.connection, call, uow.now)
    return True


def _free_of_halts(pre_trade: PreTradeContext) -> PreTradeContext:
    return replace(pre_trade, instrument=pre_trade.instrument and replace(pre_trade.instrument, halt=None))


def _closing(call: margin_calls.Call, symbol: str, qty: Any, uow: UnitOfWork) -> NewOrder:
    order_id = uuid5(call.id, symbol)
    return NewOrder(
        symbol=symbol,
        side=Side.SELL if qty > 0 else Side.BUY,
        type=OrderType.MARKET,
        time_in_force=TimeInForce.DAY if qty % 1 else TimeInForce.GTC,
        qty=abs(qty),
        order_id=order_id,
        client_order_id=f"margin-call-{plain(abs(qty))}-{order_id}",
        submitted_at=uow.now,
    )
