"""Filling open orders on prices: the same for an event and for the sweep."""

from collections.abc import Iterable
from dataclasses import replace

from services.orders import saving, store
from services.orders.domain.lots import held
from services.orders.domain.order import Order
from services.orders.domain.risk import Refusal
from services.orders.domain.settlement import Book, Fill, settle
from services.orders.settings import current
from shared.bus.transaction import Transaction
from shared.contracts.base import Message
from shared.contracts.orders import OrderExpired, OrderFilled, OrderRejected, OrderStatus
from shared.contracts.prices import Price


def fill_open_orders(tx: Transaction, prices: Iterable[Price]) -> int:
    """Fill what these prices can fill, and say so; the number of fills."""
    by_symbol = {price.symbol: price for price in prices}
    candidates = store.triggered(tx.connection, by_symbol.values())
    if not candidates:
        return 0
    book = Book(store.lock_accounts(tx.connection, sorted({account for account, _ in candidates})), {})
    orders = store.lock_open_orders(tx.connection, candidates)
    book.lots = store.lots_of(tx.connection, orders)
    settlement = settle(orders, by_symbol, book, tx.now, current().rules)
    if not settlement.outcomes:
        return 0
    for order, outcome in settlement.outcomes:
        tx.publish(_event(order, outcome, book, tx), trace=order.trace)
    saving.save(tx.connection, settlement, book, tx.now)
    return len(settlement.fills)


def _event(order: Order, outcome: Fill | Refusal, book: Book, tx: Transaction) -> Message:
    account = book.accounts[order.account_id]
    account = book.accounts[order.account_id] = replace(account, sequence=account.sequence + 1)
    common = {"account_id": account.id, "sequence": account.sequence, "at": tx.now, "order_id": order.id}
    if isinstance(outcome, Refusal):
        return OrderRejected(**common, reason=outcome.reason, message=outcome.message)
    return OrderFilled(
        **common,
        fill_id=outcome.id,
        symbol=order.symbol,
        side=order.side,
        qty=outcome.qty,
        price=outcome.price,
        fee=0,
        price_sequence=outcome.quote.sequence,
        order_status=order.status,
        filled_qty=order.filled_qty,
        position_qty=held(book.lots[(order.account_id, order.symbol)]),
        cash=account.cash,
    )


def expire_orders(tx: Transaction) -> int:
    """End the day orders whose session is over; the number of them."""
    overdue = store.expired(tx.connection, tx.now)
    if not overdue:
        return 0
    accounts = store.lock_accounts(tx.connection, sorted({account for account, _ in overdue}))
    orders = store.lock_open_orders(tx.connection, overdue)
    for order in orders:
        account = accounts[order.account_id]
        account = replace(account, reserved=account.reserved - order.reserved, sequence=account.sequence + 1)
        accounts[account.id] = account
        expired = OrderExpired(account_id=account.id, sequence=account.sequence, at=tx.now, order_id=order.id)
        tx.publish(expired, trace=order.trace)
    store.end_orders(tx.connection, orders, OrderStatus.EXPIRED, tx.now)
    saving.save_accounts(tx.connection, list(accounts.values()))
    return len(orders)
