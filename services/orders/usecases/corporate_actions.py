"""Splits and dividends on positions, lots, open orders and cash: each once, between the prices before and after it."""

from dataclasses import replace
from decimal import Decimal

from services.orders.persistence.accounts import accounts_in, lock_accounts
from services.orders.persistence.executions import saving_adjusted
from services.orders.persistence.fx_rates import rates_of
from services.orders.persistence.holdings import lots_in
from services.orders.persistence.orders import lock_open_orders, open_order_groups_in, saving_split
from services.orders.persistence.quotes import split_quote
from services.orders.usecases.account_events import AccountEvents
from services.orders.usecases.expire import end_orders
from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.accounts import DividendPaid
from shared.contracts.corporate_actions import CorporateActionApplied
from shared.contracts.orders import OrderAdjusted
from shared.contracts.reasons import CancelReason
from shared.exchange.corporate_actions import dividend, split_lots, split_order
from shared.exchange.ledger import Entry, Kind
from shared.exchange.lots import held
from shared.exchange.matching.book import Book


def apply_action(uow: UnitOfWork, event: CorporateActionApplied) -> None:
    """Apply the action to everything that was held and ordered before it took effect. Later prices wait for it.

    Raises NoExchangeRate where a dividend has to be converted and there never was a rate.
    """
    split_quote(uow.connection, event.symbol, event.split_count, event.effective_at)
    accounts = lock_accounts(uow.connection, accounts_in(uow.connection, event.symbol))
    book = Book(accounts, lots_in(uow.connection, event.symbol, event.effective_at))
    if event.ratio is not None:
        _split(uow, event, event.ratio, book)
    elif event.amount is not None:
        _pay(uow, event, event.amount, book)


def _split(uow: UnitOfWork, event: CorporateActionApplied, ratio: Decimal, book: Book) -> None:
    events = AccountEvents(uow, book.accounts)
    entries = []
    for holding, lots in list(book.lots.items()):
        book.lots[holding] = split_lots(lots, ratio, event.effective_at)
        account = book.accounts[holding[0]]
        more = held(book.lots[holding]) - held(lots)
        about = (account.id, account.generation, Kind.SPLIT, uow.now, event.action_id)
        entries.append(Entry(*about, symbol=event.symbol, qty=more))
        events.position(*holding, book.lots[holding])
    orders = lock_open_orders(uow.connection, open_order_groups_in(uow.connection, event.symbol))
    pairs = [(order, split_order(order, ratio)) for order in orders if order.accepted_at < event.effective_at]
    adjusted = [after for _, after in pairs if after is not None]
    for after in adjusted:
        events.emit(
            OrderAdjusted,
            after.account_id,
            trace=after.trace,
            order_id=after.id,
            qty=after.qty,
            limit_price=after.limit_price,
            stop_price=after.stop_price,
        )
    if adjusted:
        uow.run(saving_split(adjusted, uow.now))
    nothing_left = [order for order, after in pairs if after is None]
    if nothing_left:
        current = {order.key: order for order in [*orders, *adjusted]}
        end_orders(uow, nothing_left, list(current.values()), book.accounts, CancelReason.SPLIT)
    uow.run(*saving_adjusted(book, entries, uow.now))


def _pay(uow: UnitOfWork, event: CorporateActionApplied, amount: Decimal, book: Book) -> None:
    """Pay in each account's currency, at the latest rate, however old it is: a dividend is not put off.

    Raises NoExchangeRate where there never was any. Then nobody is paid.
    """
    rates = rates_of(uow.connection, event.symbol, book.accounts.values())
    events = AccountEvents(uow, book.accounts)
    entries = []
    for (account_id, symbol), lots in book.lots.items():
        qty = held(tuple(lot for lot in lots if lot.opened_at < event.effective_at))
        account = book.accounts[account_id]
        cash = dividend(qty, amount, rates.in_currency(account.currency))
        account = book.accounts[account_id] = replace(account, cash=account.cash + cash)
        about = (account_id, account.generation, Kind.DIVIDEND, uow.now, event.action_id)
        entries.append(Entry(*about, cash=cash, symbol=symbol, dividend=cash))
        events.emit(
            DividendPaid,
            account_id,
            action_id=event.action_id,
            symbol=symbol,
            qty=qty,
            amount=cash,
            cash=account.cash,
        )
    uow.run(*saving_adjusted(book, entries, uow.now))
