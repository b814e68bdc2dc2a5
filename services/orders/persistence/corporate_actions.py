"""The fills of open orders since a corporate action took effect."""

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Connection

from shared.exchange.corporate_actions import FilledSince
from shared.exchange.order import Order
from shared.storage.driver import fetch
from shared.storage.tables import typed


class _Filled(NamedTuple):
    account_id: UUID
    order_id: UUID
    order_group: UUID
    is_exit: bool
    qty: Decimal


def filled_since(connection: Connection, orders: Iterable[Order], at: datetime) -> FilledSince:
    """The fills on prices from that time on, of these orders and of others of their groups, also ended ones."""
    orders = list(orders)
    simple = [order for order in orders if order.order_group is None]
    groups = {(order.account_id, order.order_group) for order in orders if order.order_group is not None}
    columns = {
        "accounts": [order.account_id for order in simple],
        "ids": [order.id for order in simple],
        "group_accounts": [account for account, _ in groups],
        "order_groups": [group for _, group in groups],
        "at": at,
    }
    since = FilledSince()
    for row in typed(_Filled, fetch(connection, _FILLED_SINCE, columns)):
        since.by_order[row.account_id, row.order_id] = row.qty
        by_group = since.exited if row.is_exit else since.entered
        key = row.account_id, row.order_group
        by_group[key] = by_group.get(key, Decimal(0)) + row.qty
    return since


#: By index for each order: a join might read the fills of all orders.
_FILLED_SINCE = """
WITH wanted AS (
  SELECT account_id, id, id AS order_group, false AS is_exit
  FROM unnest(%(accounts)b::uuid[], %(ids)b::uuid[]) AS simple (account_id, id)
  UNION ALL
  SELECT o.account_id, o.id, o.order_group, o.leg IS NOT NULL
  FROM unnest(%(group_accounts)b::uuid[], %(order_groups)b::uuid[]) AS wanted (account_id, order_group)
  CROSS JOIN LATERAL (
    SELECT account_id, id, order_group, leg FROM orders.orders o
    WHERE o.account_id = wanted.account_id AND o.order_group = wanted.order_group AND o.order_class <> 'simple' OFFSET 0
  ) o
)
SELECT w.account_id, w.id AS order_id, w.order_group, w.is_exit, sum(f.qty) AS qty FROM wanted w
CROSS JOIN LATERAL (
  SELECT qty FROM orders.fills f
  WHERE f.account_id = w.account_id AND f.order_id = w.id AND f.quoted_at >= %(at)s OFFSET 0
) f
GROUP BY 1, 2, 3, 4
"""
