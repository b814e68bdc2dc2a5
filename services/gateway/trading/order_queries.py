"""Orders as their view has them, or as they were handed in while orders has not answered yet."""

from collections.abc import Iterable, Mapping, Sequence
from uuid import UUID

from sqlalchemy import Connection, text

from services.gateway.trading.requests import OrderQuery
from shared.storage.keyset import Record, records


def order(connection: Connection, account_id: UUID, order_id: UUID, *, nested: bool = False) -> Record | None:
    """The order; ``nested``: with the others of its class as ``legs``."""
    return next(iter(orders_of(connection, account_id, [order_id], nested=nested)), None)


def orders_of(connection: Connection, account_id: UUID, ids: Sequence[UUID], *, nested: bool = False) -> list[Record]:
    """Those of the orders that there are, in this order."""
    given = {"account_id": account_id, "ids": list(ids)}
    known = records(connection, _BY_ID, **given)
    pending = records(connection, _PENDING_BY_ID, **given) if len(known) < len(ids) else []
    found = {row["id"]: row for row in (*pending, *known)}
    rows = [found[id_] for id_ in ids if id_ in found]
    return _nested(connection, account_id, rows) if nested else rows


def order_by_client_id(connection: Connection, account_id: UUID, client_order_id: str) -> Record | None:
    given = {"account_id": account_id, "client_order_id": client_order_id}
    found = records(connection, _BY_CLIENT_ID, **given) or records(connection, _PENDING_BY_CLIENT_ID, **given)
    return next(iter(found), None)


def orders(connection: Connection, account_id: UUID, query: OrderQuery) -> list[Record]:
    """``nested``: exits stand in the ``legs`` of their order, which is open while one of them is."""
    rows = records(
        connection,
        _ORDERS_ASCENDING if query.direction == "asc" else _ORDERS_DESCENDING,
        account_id=account_id,
        status=query.status,
        nested=query.nested,
        limit=query.limit,
        after=query.after,
        until=query.until,
        side=query.side,
        symbols=query.symbol_list,
    )
    return _nested(connection, account_id, rows) if query.nested else rows


def _nested(connection: Connection, account_id: UUID, rows: Sequence[Record]) -> list[Record]:
    order_groups = [row["order_group"] for row in rows if _has_legs(row)]
    if not order_groups:
        return list(rows)
    legs = _by_order_group(records(connection, _LEGS, account_id=account_id, order_groups=order_groups))
    return [{**row, "legs": legs.get(row["order_group"], [])} if _has_legs(row) else row for row in rows]


def _has_legs(row: Mapping[str, object]) -> bool:
    """Whether it stands for its order_group: the entry, or of two exits alone the one that takes the profit."""
    if row["order_class"] == "simple" or row["status"] == "replaced":
        return False
    return row["leg"] is None or (row["order_class"] == "oco" and row["leg"] == "take_profit")


def _by_order_group(legs: Iterable[Record]) -> dict[UUID, list[Record]]:
    found: dict[UUID, list[Record]] = {}
    for leg in legs:
        found.setdefault(leg["order_group"], []).append(leg)
    return found


_OPEN = "('accepted', 'held', 'partially_filled')"
_COLUMNS = """
o.id, o.client_order_id, o.symbol, o.side, o.type, o.time_in_force, o.extended_hours, o.qty, o.notional, o.limit_price,
o.stop_price, o.trail_price, o.trail_percent, o.hwm, o.order_class, o.order_group, o.leg, o.status, o.filled_qty,
o.filled_avg_price, o.submitted_at, o.filled_at, o.canceled_at, o.expired_at, o.expires_at, o.replaced_at,
o.replaced_by, o.replaces, o.updated_at, o.reject_reason, o.reject_message, i.id AS asset_id, i.asset_class, i.currency
"""
_SELECT = f"""
SELECT {_COLUMNS} FROM orders.orders_v1 o LEFT JOIN marketdata.instruments_v1 i ON i.symbol = o.symbol
WHERE o.account_id = :account_id
"""
_BY_ID = text(f"{_SELECT} AND o.id = ANY(:ids)")
#: Each half has an index of its own.
_BY_CLIENT_ID = text(f"""
SELECT * FROM (
  {_SELECT} AND o.client_order_id = :client_order_id AND o.status <> 'rejected'
  UNION ALL
  {_SELECT} AND o.client_order_id = :client_order_id AND o.status = 'rejected'
) o
ORDER BY (o.status = 'rejected'), o.submitted_at DESC LIMIT 1
""")
_STANDS_ALONE = """
(o.order_class = 'simple' OR o.leg IS NULL OR o.order_class = 'oco' AND o.leg = 'take_profit' OR o.status = 'replaced')
"""
_LEGS = text(f"""
{_SELECT} AND o.order_group = ANY(:order_groups) AND o.order_class <> 'simple' AND NOT {_STANDS_ALONE}
ORDER BY o.leg DESC, o.submitted_at, o.id
""")
_FAMILY_IS_OPEN = f"""
(o.order_class <> 'simple' AND o.status <> 'replaced'
 AND EXISTS (SELECT FROM orders.orders_v1 f
             WHERE f.account_id = o.account_id AND f.order_group = o.order_group AND f.order_class <> 'simple'
               AND f.status IN {_OPEN}))
"""
_ORDERS = f"""
{_SELECT}
  AND (NOT CAST(:nested AS boolean) OR {_STANDS_ALONE})
  AND (:status = 'all'
       OR (o.status IN {_OPEN} OR CAST(:nested AS boolean) AND {_FAMILY_IS_OPEN}) = (:status = 'open'))
  AND (CAST(:after AS timestamptz) IS NULL OR o.submitted_at > :after)
  AND (CAST(:until AS timestamptz) IS NULL OR o.submitted_at < :until)
  AND (CAST(:side AS text) IS NULL OR o.side = :side)
  AND (CAST(:symbols AS text[]) IS NULL OR o.symbol = ANY(CAST(:symbols AS text[])))
"""
_ORDERS_ASCENDING = text(f"{_ORDERS} ORDER BY o.submitted_at, o.id LIMIT :limit")
_ORDERS_DESCENDING = text(f"{_ORDERS} ORDER BY o.submitted_at DESC, o.id LIMIT :limit")
#: What came in before there were classes names none.
_PENDING = """
SELECT s.order_id AS id, s.client_order_id, asked.symbol, asked.side, asked.type, asked.time_in_force,
       COALESCE(asked.extended_hours, false) AS extended_hours, asked.qty, asked.notional, asked.limit_price,
       asked.stop_price, asked.trail_price, asked.trail_percent, NULL::numeric AS hwm,
       COALESCE(asked.order_class, 'simple') AS order_class, s.order_id AS order_group, NULL AS leg,
       'pending_new' AS status, 0::numeric AS filled_qty, NULL::numeric AS filled_avg_price, s.submitted_at,
       NULL::timestamptz AS filled_at, NULL::timestamptz AS canceled_at, NULL::timestamptz AS expired_at,
       NULL::timestamptz AS expires_at, NULL::timestamptz AS replaced_at, NULL::uuid AS replaced_by,
       NULL::uuid AS replaces, s.submitted_at AS updated_at, NULL AS reject_reason, NULL AS reject_message,
       i.id AS asset_id, i.asset_class, i.currency
FROM gateway.submissions s
CROSS JOIN jsonb_to_record(s.command) AS asked (
  symbol text, side text, type text, time_in_force text, extended_hours boolean, qty numeric, notional numeric,
  limit_price numeric, stop_price numeric, trail_price numeric, trail_percent numeric, order_class text)
LEFT JOIN marketdata.instruments_v1 i ON i.symbol = asked.symbol
WHERE s.account_id = :account_id
"""
_PENDING_BY_ID = text(f"{_PENDING} AND s.order_id = ANY(:ids)")
_PENDING_BY_CLIENT_ID = text(f"""
{_PENDING} AND s.client_order_id = :client_order_id AND s.answered_at IS NULL ORDER BY s.submitted_at DESC LIMIT 1
""")
