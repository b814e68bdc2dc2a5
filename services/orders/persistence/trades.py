"""Trades: a row for each completed order.

An order is completed when it has ended and something of it was filled: also one that was canceled or expired with a
part filled, which is completed with that part. An order that was replaced with a part filled is a trade of that part,
under its own id, and the order that goes on is another trade of what it fills itself.
"""

from collections.abc import Iterable

from shared.exchange.order import Order
from shared.storage.driver import Call


def completing(orders: Iterable[Order]) -> list[Call]:
    """The statement that adds a trade for each completed one of these orders, or no statement where none is.

    It reads the orders and their fills, so it goes after the statements that write them.
    """
    completed = [order for order in orders if order.filled_qty and not order.is_open]
    if not completed:
        return []
    accounts, ids = [order.account_id for order in completed], [order.id for order in completed]
    return [(_COMPLETE, {"accounts": accounts, "ids": ids})]


#: By index for each order: a join might read all orders, or all fills.
_COMPLETE = """
INSERT INTO orders.trades (account_id, order_id, generation, symbol, side, qty, avg_price, currency, fees, realized_pl,
                           strategy_id, submitted_at, first_fill_at, completed_at)
SELECT completed.account_id, completed.id, o.generation, o.symbol, o.side, o.filled_qty, o.filled_avg_price,
       o.currency, o.fees, f.realized_pl, o.strategy_id, o.submitted_at, f.first_at, GREATEST(o.ended_at, f.last_at)
FROM unnest(%(accounts)b::uuid[], %(ids)b::uuid[]) AS completed (account_id, id)
CROSS JOIN LATERAL (
  SELECT generation, symbol, side, filled_qty, filled_avg_price, currency, fees, strategy_id, submitted_at,
         COALESCE(filled_at, canceled_at, expired_at, replaced_at) AS ended_at
  FROM orders.orders o WHERE o.account_id = completed.account_id AND o.id = completed.id OFFSET 0
) o
CROSS JOIN LATERAL (
  SELECT sum(realized_pl) AS realized_pl, min(filled_at) AS first_at, max(filled_at) AS last_at
  FROM orders.fills f WHERE f.account_id = completed.account_id AND f.order_id = completed.id
) f
"""
