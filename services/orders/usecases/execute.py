"""Filling open orders on prices, and ending those whose time is over: the same for an event and for the sweep."""

from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

from services.orders.persistence import accounts as account_store
from services.orders.persistence import executions, fx_rates, order_writes, quotes
from services.orders.persistence import orders as store
from services.orders.persistence.orders import Concerned
from services.orders.settings import current
from services.orders.usecases.account_events import AccountEvents
from shared.bus.metrics import STALE
from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.orders import OrderExpired, OrderStatus
from shared.contracts.prices import Price
from shared.exchange.matching.book import Book, Execution
from shared.exchange.matching.ending import end
from shared.exchange.matching.execution import execute
from shared.exchange.matching.liquidity import Liquidity
from shared.exchange.matching.matching import oldest_fresh
from shared.exchange.order import Account, Order


def fill_on(uow: UnitOfWork, prices: Collection[Price], *, at: datetime) -> int:
    """Fill what these prices can fill, and say so; the number of fills. No two are of one symbol.

    One that comes after a newer one of its symbol is dropped and counted; so is one that was stale ``at`` that time,
    when it became known. Others wait for the same symbols meanwhile.
    """
    rules = current().rules
    applied = quotes.apply_in_order(uow, quotes.columns(prices))
    STALE.labels("orders.prices").inc(len(applied.late))
    oldest = oldest_fresh(at, rules)
    fresh = {price.symbol: price for price in prices if price.quoted_at >= oldest and price.symbol not in applied.late}
    usable = {symbol: fresh[symbol] for symbol in applied.concerned if symbol in fresh}
    execution = Execution()
    if usable:
        book, orders = _lock(uow, {symbol: applied.concerned[symbol] for symbol in usable}, usable)
        execution = execute(orders, usable, book, uow.now, rules, known_at=at)
        if execution.changed:
            tell(uow, execution, book)
            uow.at_commit(*executions.saving(execution, book, uow.now))
    uow.at_commit(*quotes.following_best(applied.trailing, fresh))
    return len(execution.fills)


def _lock(uow: UnitOfWork, concerned: Concerned, prices: dict[str, Price]) -> tuple[Book, list[Order]]:
    accounts, orders, lots = account_store.lock_concerned(uow.connection, concerned)
    book = Book(accounts, lots)
    book.rates = fx_rates.usable_rates(uow.connection, orders, accounts, uow.now)
    if any(account.settings.fills.participation is not None for account in book.accounts.values()):
        book.liquidity = Liquidity(quotes.lock_taken(uow.connection, prices))
    return book, orders


def tell(uow: UnitOfWork, execution: Execution, book: Book) -> None:
    """Say what became of each order, and then what each account holds."""
    events = AccountEvents(uow, book.accounts)
    for order, outcome in execution.outcomes:
        events.outcome(order, outcome)
    for account_id, symbol in executions.holdings(execution.fills):
        events.position(account_id, symbol, book.lots[account_id, symbol])


def expire(uow: UnitOfWork) -> int:
    """End the orders whose session is over; the number of them."""
    order_groups = store.expired(uow.connection, uow.now)
    if not order_groups:
        return 0
    accounts = account_store.lock_accounts(uow.connection, sorted({account for account, _ in order_groups}))
    orders = store.lock_open_orders(uow.connection, order_groups)
    over = [order for order in orders if order.expires_at is not None and order.expires_at <= uow.now]
    end_orders(uow, over, OrderStatus.EXPIRED, orders, accounts)
    return len(over)


def end_orders(
    uow: UnitOfWork,
    ending: Sequence[Order],
    status: OrderStatus,
    open_orders: Sequence[Order],
    accounts: dict[UUID, Account],
    reason: str = "expired",
) -> None:
    """End these orders, and say so; ``open_orders`` are all of their order_groups. Saves the accounts, too."""
    result = end(ending, status, open_orders, accounts, uow.now)
    events = AccountEvents(uow, accounts)
    for order in result.ended:
        if status is OrderStatus.EXPIRED:
            events.emit(OrderExpired, order.account_id, trace=order.trace, order_id=order.id)
        else:
            events.canceled(order, reason)
    for order in result.canceled:
        events.canceled(order, "order_group")
    reasons = {order.key: reason for order in result.ended} if status is OrderStatus.CANCELED else {}
    reasons |= {order.key: "order_group" for order in result.canceled}
    concerned = [accounts[id_] for id_ in sorted({order.account_id for order in ending})]
    uow.run(
        order_writes.saving_ended(list(result.orders.values()), reasons, uow.now),
        account_store.saving_accounts(concerned),
    )
