"""Splits and dividends on positions, lots, open orders and cash: each once, between the prices before and after it."""

from dataclasses import replace
from decimal import Decimal

from services.orders.persistence import accounts as account_store
from services.orders.persistence import executions, fx_rates, order_writes, quotes
from services.orders.persistence import orders as store
from services.orders.usecases.account_events import AccountEvents
from services.orders.usecases.execute import end_orders
from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.accounts import DividendPaid
from shared.contracts.corporate_actions import CorporateActionApplied
from shared.contracts.orders import OrderAdjusted, OrderStatus
from shared.exchange.corporate_actions import dividend, split_lots, split_order
from shared.exchange.ledger import Entry, Kind
from shared.exchange.lots import held
from shared.exchange.matching.book import Book


def apply_action(uow: UnitOfWork, event: CorporateActionApplied) -> None:
    """Only what was held and handed in before it took effect is concerned; later prices wait for it."""
    quotes.split_quote(uow.connection, event.symbol, event.split_count, event.effective_at)
    accounts = account_store.lock_accounts(uow.connection, account_store.accounts_in(uow.connection, event.symbol))
    lots = store.lots_in(uow.connection, event.symbol, event.effective_at)
    book = Book(accounts, lots)
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
        entries.append(
            Entry(account.id, account.generation, Kind.SPLIT, uow.now, event.action_id, symbol=event.symbol, qty=more)
        )
        events.position(*holding, book.lots[holding])
    _split_orders(uow, event, ratio, book, events)
    uow.run(*executions.saving_adjusted(book, entries, uow.now))


def _split_orders(
    uow: UnitOfWork, event: CorporateActionApplied, ratio: Decimal, book: Book, events: AccountEvents
) -> None:
    orders = store.lock_open_orders(uow.connection, store.open_order_groups_in(uow.connection, event.symbol))
    before = [order for order in orders if order.accepted_at < event.effective_at]
    pairs = [(order, split_order(order, ratio)) for order in before]
    adjusted = [after for _, after in pairs if after is not None]
    for after in adjusted:
        prices = {"limit_price": after.limit_price, "stop_price": after.stop_price}
        events.emit(OrderAdjusted, after.account_id, trace=after.trace, order_id=after.id, qty=after.qty, **prices)
    if adjusted:
        uow.run(*order_writes.saving_split(adjusted, uow.now))
    nothing_left = [order for order, after in pairs if after is None]
    if nothing_left:
        current = {order.key: order for order in [*orders, *adjusted]}
        end_orders(uow, nothing_left, OrderStatus.CANCELED, list(current.values()), book.accounts, "split")


def _pay(uow: UnitOfWork, event: CorporateActionApplied, amount: Decimal, book: Book) -> None:
    """Pay in each account's currency, at the latest rate, however old it is: a dividend is not put off.

    Raises NoExchangeRate where there never was any; then nobody is paid.
    """
    rates = fx_rates.rates_of(uow.connection, event.symbol, book.accounts.values())
    events = AccountEvents(uow, book.accounts)
    entries = []
    for (account_id, symbol), lots in book.lots.items():
        qty = held(tuple(lot for lot in lots if lot.opened_at < event.effective_at))
        account = book.accounts[account_id]
        cash = dividend(qty, amount, rates.in_currency(account.currency))
        account = book.accounts[account_id] = replace(account, cash=account.cash + cash)
        entries.append(
            Entry(
                account_id,
                account.generation,
                Kind.DIVIDEND,
                uow.now,
                event.action_id,
                cash=cash,
                symbol=symbol,
                dividend=cash,
            )
        )
        events.emit(
            DividendPaid,
            account_id,
            action_id=event.action_id,
            symbol=symbol,
            qty=qty,
            amount=cash,
            cash=account.cash,
        )
    uow.run(*executions.saving_adjusted(book, entries, uow.now))
