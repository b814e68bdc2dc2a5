"""Filling open orders on prices, and ending those whose time is over: the same for an event and for the sweep."""

from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

from services.orders.persistence import accounts as account_store
from services.orders.persistence import executions, fx_rates, order_writes, quotes
from services.orders.persistence import orders as store
from services.orders.persistence.orders import Concerned
from services.orders.settings import current
from services.orders.usecases.account_events import Voice
from shared.bus.metrics import STALE
from shared.bus.unit_of_work import Transaction
from shared.contracts.orders import OrderExpired, OrderStatus
from shared.contracts.prices import Price
from shared.exchange.matching.book import Book, Settlement
from shared.exchange.matching.ending import end
from shared.exchange.matching.execution import settle
from shared.exchange.matching.liquidity import Liquidity
from shared.exchange.matching.matching import oldest_fresh
from shared.exchange.order import Account, Order


def fill_on(tx: Transaction, prices: Collection[Price], *, at: datetime) -> int:
    """Fill what these prices can fill, and say so; the number of fills. No two are of one symbol.

    One that comes after a newer one of its symbol is dropped and counted; so is one that was stale ``at`` that time,
    when it became known. Others wait for the same symbols meanwhile.
    """
    rules = current().rules
    applied = quotes.apply_in_order(tx, quotes.columns(prices))
    STALE.labels("orders.prices").inc(len(applied.late))
    oldest = oldest_fresh(at, rules)
    fresh = {price.symbol: price for price in prices if price.quoted_at >= oldest and price.symbol not in applied.late}
    usable = {symbol: fresh[symbol] for symbol in applied.concerned if symbol in fresh}
    settlement = Settlement()
    if usable:
        book, orders = _lock(tx, {symbol: applied.concerned[symbol] for symbol in usable}, usable)
        settlement = settle(orders, usable, book, tx.now, rules, known_at=at)
        if settlement.changed:
            tell(tx, settlement, book)
            executions.add(tx.writes, settlement, book, tx.now)
    quotes.follow_best(tx.writes, applied.trailing, fresh)
    return len(settlement.fills)


def _lock(tx: Transaction, concerned: Concerned, prices: dict[str, Price]) -> tuple[Book, list[Order]]:
    accounts, orders, lots = account_store.lock_concerned(tx.connection, concerned)
    book = Book(accounts, lots)
    book.rates = fx_rates.usable_rates(tx.connection, orders, accounts, tx.now)
    if any(account.settings.fills.participation is not None for account in book.accounts.values()):
        book.liquidity = Liquidity(quotes.lock_taken(tx.connection, prices))
    return book, orders


def tell(tx: Transaction, settlement: Settlement, book: Book) -> None:
    """Say what became of each order, and then what each account holds."""
    voice = Voice(tx, book.accounts)
    for order, outcome in settlement.outcomes:
        voice.outcome(order, outcome)
    for account_id, symbol in executions.holdings(settlement.fills):
        voice.position(account_id, symbol, book.lots[account_id, symbol])


def expire(tx: Transaction) -> int:
    """End the orders whose session is over; the number of them."""
    families = store.expired(tx.connection, tx.now)
    if not families:
        return 0
    accounts = account_store.lock_accounts(tx.connection, sorted({account for account, _ in families}))
    orders = store.lock_open_orders(tx.connection, families)
    over = [order for order in orders if order.expires_at is not None and order.expires_at <= tx.now]
    end_orders(tx, over, OrderStatus.EXPIRED, orders, accounts)
    return len(over)


def end_orders(
    tx: Transaction,
    ending: Sequence[Order],
    status: OrderStatus,
    open_orders: Sequence[Order],
    accounts: dict[UUID, Account],
    reason: str = "expired",
) -> None:
    """End these orders, and say so; ``open_orders`` are all of their families. Saves the accounts, too."""
    result = end(ending, status, open_orders, accounts, tx.now)
    voice = Voice(tx, accounts)
    for order in result.ended:
        if status is OrderStatus.EXPIRED:
            voice.say(OrderExpired, order.account_id, trace=order.trace, order_id=order.id)
        else:
            voice.canceled(order, reason)
    for order in result.canceled:
        voice.canceled(order, "family")
    reasons = {order.key: reason for order in result.ended} if status is OrderStatus.CANCELED else {}
    reasons |= {order.key: "family" for order in result.canceled}
    order_writes.save_orders(tx.connection, list(result.orders.values()), reasons, tx.now)
    account_store.save_accounts(tx.connection, [accounts[id_] for id_ in sorted({o.account_id for o in ending})])
