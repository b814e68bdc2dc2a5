"""Margin accounts: interest once a day, a call where equity is too low, and liquidation where nobody answers it."""

from dataclasses import replace
from datetime import date, timedelta
from uuid import uuid5

from services.orders.persistence import margin_calls
from services.orders.persistence.accounts import lock_accounts, saving_accounts
from services.orders.persistence.holdings import positions_of
from services.orders.persistence.ledger import booked, saving_entries
from services.orders.persistence.orders import adding_orders, incoming, lock_open_orders, open_order_groups
from services.orders.persistence.pre_trade import pre_trade_contexts
from services.orders.usecases.account_events import AccountEvents
from services.orders.usecases.expire import end_orders
from shared.bus import tracing
from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.accounts import InterestCharged, MarginCalled, MarginCallEnded
from shared.contracts.orders import OrderAccepted
from shared.contracts.reasons import CancelReason
from shared.exchange.acceptance.liquidation import liquidation
from shared.exchange.ledger import Entry, Kind
from shared.exchange.order import Account
from shared.money import ZERO, plain


def charge_interest(uow: UnitOfWork, day: date) -> int:
    """Charge a day's interest, once. Returns the number of accounts that owed any."""
    accounts = lock_accounts(uow.connection, margin_calls.margin_accounts(uow.connection))
    references = {id_: uuid5(id_, f"interest/{day.isoformat()}") for id_ in accounts}
    charged = booked(uow.connection, Kind.INTEREST, list(references.values()))
    events = AccountEvents(uow, accounts)
    entries = []
    for account in list(accounts.values()):
        amount, reference = account.daily_interest, references[account.id]
        if not amount or reference in charged:
            continue
        accounts[account.id] = replace(account, cash=account.cash - amount)
        about = (account.id, account.generation, Kind.INTEREST, uow.now, reference)
        entries.append(Entry(*about, cash=-amount, interest=amount))
        events.emit(InterestCharged, account.id, day=day, amount=amount, cash=accounts[account.id].cash)
    if entries:
        uow.run(saving_entries(entries), saving_accounts([accounts[entry.account_id] for entry in entries]))
    return len(entries)


def check_margins(uow: UnitOfWork) -> dict[str, int]:
    """Call accounts whose equity is too low, end the calls that were met, and liquidate where one is overdue.

    A liquidation is tried again in each check until equity suffices: a split may have left shares of it.
    An account that holds shares which are just being split is checked in the next run.
    """
    accounts = lock_accounts(uow.connection, margin_calls.margin_accounts(uow.connection))
    calls = margin_calls.open_calls(uow.connection, list(accounts))
    splitting = margin_calls.accounts_between_splits(uow.connection, list(accounts))
    events = AccountEvents(uow, accounts)
    done = {"called": 0, "met": 0, "liquidated": 0}
    for account in list(accounts.values()):
        if account.id in splitting:
            continue
        call, required = calls.get(account.id), account.maintenance_margin
        if account.equity >= required or not required:  # an account that holds nothing has nothing to close
            if call is None:
                continue
            margin_calls.end_call(uow.connection, call, "met", uow.now)
            events.emit(MarginCallEnded, account.id, how="met")
            done["met"] += 1
        elif call is None:
            due_at = uow.now + timedelta(hours=account.settings.margin_grace)
            margin_calls.add_call(uow.connection, account.id, account.equity, required, uow.now, due_at)
            events.emit(MarginCalled, account.id, equity=account.equity, required=required, due_at=due_at)
            done["called"] += 1
        elif call.due_at <= uow.now:
            done["liquidated"] += _liquidate(uow, account, call)
            continue
        else:
            continue
        uow.run(saving_accounts([accounts[account.id]]))
    return done


def _liquidate(uow: UnitOfWork, account: Account, call: margin_calls.MarginCall) -> bool:
    """Cancel all other open orders and close every position at the market, as far as no liquidation does so already.

    Returns False where there was nothing to do. The account's settings and limits do not count, and orders in halted
    symbols wait for the first price after the halt. The call ends when equity suffices.
    """
    accounts = {account.id: account}
    orders = lock_open_orders(uow.connection, open_order_groups(uow.connection, account.id))
    others = [order for order in orders if not order.liquidation]
    if others:
        end_orders(uow, others, others, accounts, CancelReason.MARGIN_CALL)
    closing = {order.symbol: order.held_for_orders for order in orders if order.liquidation}
    left = {
        symbol: qty for symbol, qty in positions_of(uow.connection, account.id) if abs(qty) > closing.get(symbol, ZERO)
    }
    asked = [(uuid5(account.id, f"margin call {symbol} {uow.now.isoformat()}"), "", symbol) for symbol in left]
    contexts = pre_trade_contexts(uow.connection, account.id, asked, uow.now)
    events, rows = AccountEvents(uow, accounts), []
    for (order_id, _, symbol), context in zip(asked, contexts, strict=True):
        currency = account.currency if context.instrument is None else context.instrument.currency
        free = context.exposure.free(buys=left[symbol] < 0)
        order = liquidation(
            account, symbol, free if left[symbol] > 0 else -free, currency, order_id, uow.now, tracing.current()
        )
        rows.append(incoming(order, account, f"margin-call-{plain(free)}-{order_id}", uow.now, uow.now))
        events.emit(OrderAccepted, account.id, order_id=order_id)
    if rows:
        uow.run(adding_orders(rows), saving_accounts([accounts[account.id]]))
        margin_calls.note_liquidation(uow.connection, call, uow.now)
    return bool(rows or others)
