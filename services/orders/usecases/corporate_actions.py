"""Splits and dividends on positions, lots, open orders and cash: each once, between the prices before and after it."""

from collections.abc import Sequence
from dataclasses import replace
from uuid import UUID

from services.orders.persistence import dividends
from services.orders.persistence.accounts import accounts_in, lock_accounts, saving_accounts
from services.orders.persistence.corporate_actions import filled_since
from services.orders.persistence.executions import saving_adjusted, saving_paid_out
from services.orders.persistence.fx_rates import rates_of
from services.orders.persistence.holdings import lots_in
from services.orders.persistence.orders import lock_open_orders, open_order_groups_in, saving_adjusted_orders
from services.orders.persistence.quotes import split_quote
from services.orders.usecases.account_events import AccountEvents
from services.orders.usecases.expire import end_orders
from services.orders.usecases.pay_dividends import pay_dividends
from services.orders.usecases.rename_symbol import rename_symbol
from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.accounts import CashInLieuPaid
from shared.contracts.corporate_actions import CorporateActionApplied
from shared.contracts.orders import OrderAdjusted
from shared.contracts.reasons import CancelReason
from shared.exchange.corporate_actions import Split, pay_fraction, reduce_order, split_lots, split_orders
from shared.exchange.ledger import Entry, Kind
from shared.exchange.lots import Closed, Lot, cost_of, held
from shared.exchange.matching.book import Book
from shared.exchange.order import Order
from shared.money import ZERO


def apply_action(uow: UnitOfWork, event: CorporateActionApplied) -> None:
    """Apply the action to everything that was held and ordered before it took effect. Later prices wait for it.

    Raises NoExchangeRate where cash in lieu has to be converted and there never was a rate.
    """
    symbol = event.new_symbol or event.symbol
    split_quote(uow.connection, symbol, event.split_count, event.effective_at)
    if event.new_symbol is not None:
        rename_symbol(uow, event.symbol, event.new_symbol)
    elif event.new_shares is not None and event.old_shares is not None:
        _split(uow, event, Split(event.new_shares, event.old_shares))
    elif event.amount is not None:
        _go_ex_dividend(uow, event)


def _split(uow: UnitOfWork, event: CorporateActionApplied, split: Split) -> None:
    accounts = lock_accounts(uow.connection, accounts_in(uow.connection, event.symbol))
    lots = lots_in(uow.connection, event.symbol)
    orders = lock_open_orders(uow.connection, open_order_groups_in(uow.connection, event.symbol))
    before = event.effective_at
    old = {holding: each for holding, each in lots.items() if any(lot.opened_at < before for lot in each)}
    book = Book(accounts, {holding: split_lots(each, split, before) for holding, each in old.items()})
    events = AccountEvents(uow, accounts)
    closed = _pay_fractions(uow, event, old, book, events) if event.cash_in_lieu else []
    entries = []
    for (account_id, symbol), was in old.items():
        now = book.lots[account_id, symbol]
        parts = [part for owner, part in closed if owner == account_id]
        cost, realized = cost_of(now) - cost_of(was), sum((part.realized for part in parts), ZERO)
        about = (account_id, accounts[account_id].generation, Kind.SPLIT, uow.now, event.action_id)
        moved = held(now) - held(was)
        entries.append(Entry(*about, cash=realized - cost, symbol=symbol, qty=moved, cost=cost, realized=realized))
        events.position(account_id, symbol, now)
    positions = {account_id: held(each) for (account_id, _), each in {**lots, **book.lots}.items()}
    after = split_orders(orders, split, before, positions, filled_since(uow.connection, orders, before))
    _save_adjusted(uow, after.adjusted, events)
    if after.ending:
        current = {order.key: order for order in [*orders, *after.adjusted, *after.ending]}
        end_orders(uow, after.ending, list(current.values()), accounts, CancelReason.SPLIT)
    uow.run(*saving_adjusted(book, entries, uow.now))
    if closed:
        uow.run(saving_paid_out(event.action_id, event.symbol, closed, book, uow.now))


def _pay_fractions(
    uow: UnitOfWork,
    event: CorporateActionApplied,
    old: dict[tuple[UUID, str], tuple[Lot, ...]],
    book: Book,
    events: AccountEvents,
) -> list[tuple[UUID, Closed]]:
    """Pay the fractions of shares that the split has made of whole ones, where there ever was a price to pay."""
    closed: list[tuple[UUID, Closed]] = []
    if event.last is None:
        return closed
    rates = rates_of(uow.connection, event.symbol, book.accounts.values())
    for holding, was in old.items():
        account = book.accounts[holding[0]]
        rate = rates.in_currency(account.currency)
        paid = pay_fraction(was, book.lots[holding], event.last, rate, event.action_id, uow.now)
        if paid is None:
            continue
        book.lots[holding] = paid.lots
        book.accounts[account.id] = replace(account, cash=account.cash + paid.cash)
        closed += [(account.id, part) for part in paid.closed]
        events.emit(
            CashInLieuPaid,
            account.id,
            action_id=event.action_id,
            symbol=event.symbol,
            qty=paid.qty,
            amount=paid.cash,
            cash=book.accounts[account.id].cash,
        )
    return closed


def _go_ex_dividend(uow: UnitOfWork, event: CorporateActionApplied) -> None:
    """Reduce open orders by the dividend, and record who held the shares. Pay at once where it is due."""
    amount, ex_at = event.amount or ZERO, event.effective_at
    closers = dividends.accounts_that_closed(uow.connection, event.symbol, ex_at)
    accounts = lock_accounts(uow.connection, {*accounts_in(uow.connection, event.symbol), *closers})
    orders = lock_open_orders(uow.connection, open_order_groups_in(uow.connection, event.symbol))
    pairs = [(order, reduce_order(order, amount)) for order in orders if order.accepted_at < ex_at]
    _save_adjusted(uow, [after for order, after in pairs if after != order], AccountEvents(uow, accounts))
    owed = [
        dividends.Owed(
            account_id=holder.account_id,
            action_id=event.action_id,
            generation=accounts[holder.account_id].generation,
            symbol=event.symbol,
            qty=holder.qty,
            amount=amount,
            ex_at=ex_at,
            pay_at=event.pay_at or ex_at,
        )
        for holder in dividends.holders_at(uow.connection, event.symbol, ex_at)
    ]
    uow.run(saving_accounts(list(accounts.values())), dividends.owing(owed))
    pay_dividends(uow, [each.account_id for each in owed])


def _save_adjusted(uow: UnitOfWork, orders: Sequence[Order], events: AccountEvents) -> None:
    for order in orders:
        events.emit(
            OrderAdjusted,
            order.account_id,
            trace=order.trace,
            order_id=order.id,
            qty=order.qty,
            limit_price=order.limit_price,
            stop_price=order.stop_price,
        )
    if orders:
        uow.run(saving_adjusted_orders(orders, uow.now))
