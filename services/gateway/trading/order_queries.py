"""Orders from the view of the orders service, or from their submissions until that service has answered."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from functools import cache
from uuid import UUID

from sqlalchemy import Connection, TextClause, text

from services.gateway.trading.requests import OrderQuery
from services.gateway.trading.serializers import ORDER_COLUMNS
from shared.contracts.orders import OPEN_STATUSES, OrderClass, OrderStatus
from shared.storage.keyset import Record, records


def instrument_exists(connection: Connection, symbol: str) -> bool:
    """Return True if the symbol is one of the instruments here."""
    return symbol_of(connection, symbol) is not None


def symbol_of(connection: Connection, asset: str) -> str | None:
    """Return the symbol of the instrument with this symbol or id, in capital letters, or None if there is none."""
    symbol: str | None = connection.execute(_SYMBOL, {"asset": asset}).scalar()
    return symbol


def order(connection: Connection, account_id: UUID, order_id: UUID, *, nested: bool = False) -> Record | None:
    """Return the order's row, or None if the account has no such order. ``nested`` adds its exits as ``legs``."""
    return next(iter(orders_of(connection, account_id, [order_id], nested=nested)), None)


def orders_of(connection: Connection, account_id: UUID, ids: Sequence[UUID], *, nested: bool = False) -> list[Record]:
    """Return the rows of the orders that exist, in the order of the ids."""
    given = {"account_id": account_id, "ids": list(ids)}
    known = records(connection, _BY_ID, **given)
    pending = records(connection, _PENDING_BY_ID, **given) if len(known) < len(ids) else []
    found = {row["id"]: row for row in (*pending, *known)}
    rows = [found[id_] for id_ in ids if id_ in found]
    return _nested(connection, account_id, rows) if nested else rows


def order_by_client_id(
    connection: Connection, account_id: UUID, client_order_id: str, *, nested: bool = False
) -> Record | None:
    """Return the row of the order with this client order id. A rejected order counts only if there is no other."""
    given = {"account_id": account_id, "client_order_id": client_order_id}
    found = records(connection, _BY_CLIENT_ID, **given) or records(connection, _PENDING_BY_CLIENT_ID, **given)
    return next(iter(_nested(connection, account_id, found) if nested else found), None)


def open_ids(connection: Connection, account_id: UUID) -> list[UUID]:
    """Return the ids of all open orders of the account, the oldest first."""
    return list(connection.execute(_OPEN_IDS, {"account_id": account_id}).scalars())


def pending_ids(connection: Connection, account_id: UUID) -> list[UUID]:
    """Return the ids of the account's submissions that the orders service has not taken yet."""
    return list(connection.execute(_PENDING_IDS, {"account_id": account_id}).scalars())


def orders(connection: Connection, account_id: UUID, query: OrderQuery) -> list[Record]:
    """Return the orders that the query asks for.

    With ``nested`` an exit is a leg of its entry, and an entry is open as long as one of its legs is. Raises
    LookupError if the order that the page begins after or ends before does not exist.
    """
    filters: dict[str, object] = {"symbols": query.symbol_list, "asset_classes": query.asset_classes}
    filters |= {"after": query.after, "until": query.until, "side": query.side}
    for name in ("after_order_id", "before_order_id"):
        edge_id: UUID | None = getattr(query, name)
        if edge_id is None:
            continue
        edge = order(connection, account_id, edge_id)
        if edge is None:
            raise LookupError(f"{name}: order not found for {edge_id}")
        filters |= {name: edge_id, f"{name}_at": edge["submitted_at"]}
    given = {name: value for name, value in filters.items() if value is not None}
    statement = _listing(query.status, query.direction, frozenset(given), nested=query.nested)
    rows = records(connection, statement, account_id=account_id, limit=query.limit, **given)
    return _nested(connection, account_id, rows) if query.nested else rows


def open_orders(connection: Connection, account_id: UUID) -> list[Record]:
    """Return all open orders, the newest first."""
    return records(connection, _OPEN_ORDERS, account_id=account_id)


def _nested(connection: Connection, account_id: UUID, rows: Sequence[Record]) -> list[Record]:
    """Add ``legs`` to each row that stands for its order group."""
    order_groups = [row["order_group"] for row in rows if _has_legs(row)]
    if not order_groups:
        return list(rows)
    legs: dict[UUID, list[Record]] = defaultdict(list)
    for leg in records(connection, _LEGS, account_id=account_id, order_groups=order_groups):
        legs[leg["order_group"]].append(leg)
    return [{**row, "legs": legs[row["order_group"]]} if _has_legs(row) else row for row in rows]


def _has_legs(row: Mapping[str, object]) -> bool:
    """Return True for the order that stands for its group: the entry, or the take-profit exit of an oco order."""
    if row["order_class"] == OrderClass.SIMPLE or row["status"] == OrderStatus.REPLACED:
        return False
    return row["leg"] is None or (row["order_class"] == OrderClass.OCO and row["leg"] == "take_profit")


@cache
def _listing(status: str, direction: str, filters: frozenset[str], *, nested: bool) -> TextClause:
    """Return the statement for a list of orders.

    Open and ended orders are read separately, each by an index of their own, so that neither slows down the other. Open
    orders are all read and then sorted, since an index by time would pass ended ones, or those of other symbols.
    """
    order_by = f"ORDER BY o.submitted_at {direction}, o.id {direction} LIMIT :limit"
    conditions = [condition for name, condition in _FILTERS.items() if name in filters]
    by_symbol = "symbols" in filters
    common = " AND ".join([_OF_ACCOUNT, *conditions, *([_STANDS_ALONE] if nested else [])])
    is_open = f"({common} AND o.status IN {OPEN} OFFSET 0)"
    ended = f"{common} AND o.status NOT IN {OPEN}"
    given_up = " AND ".join([_GIVEN_UP, *conditions])
    if status == "all":
        parts = [is_open, f"({ended} {order_by})"] if by_symbol else [f"({common} {order_by})"]
        parts.append(f"({given_up} {order_by})")
    elif status == "open":
        parts = [is_open, f"({ended} AND {_IN_OPEN_GROUP} {order_by})"] if nested else [is_open]
    else:
        parts = [f"({ended} {f'AND NOT {_GROUP_IS_OPEN}' if nested else ''} {order_by})", f"({given_up} {order_by})"]
    return text(f"{_with_instrument(' UNION ALL '.join(parts))} {order_by}")


def _with_instrument(orders: str) -> str:
    """Return the statement that reads the columns of these orders, of their instruments and of their markets."""
    return f"""
    WITH open_markets AS MATERIALIZED ({_OPEN_MARKETS})
    SELECT {_COLUMNS} FROM ({orders}) o
    LEFT JOIN marketdata.instruments_v1 i ON i.symbol = o.symbol
    LEFT JOIN open_markets m ON m.market = i.market
    """


#: The statuses of open orders as a list in SQL. Indexes have the same list as their condition.
OPEN = "({})".format(", ".join(f"'{status}'" for status in sorted(OPEN_STATUSES)))
_SYMBOL = text("""
SELECT symbol FROM marketdata.instruments_v1 WHERE symbol = upper(:asset)
UNION ALL
SELECT symbol FROM marketdata.instruments_v1 WHERE CAST(id AS text) = lower(:asset)
LIMIT 1
""")
#: The markets that trade now, and their phase. The sessions of one market do not overlap.
_OPEN_MARKETS = """
SELECT k.code AS market, COALESCE(s.phase, 'regular') AS phase
FROM marketdata.markets_v1 k LEFT JOIN LATERAL (
  SELECT phase, close_at FROM marketdata.sessions_v2
  WHERE market = k.code AND open_at <= now() ORDER BY open_at DESC LIMIT 1
) s ON true
WHERE k.always_open OR s.close_at > now()
"""
#: The status that clients see. An order that is ``accepted`` is ``new`` while its market trades such orders, and
#: ``accepted`` only while it waits for a session or an auction (Alpaca: orders-at-alpaca, order lifecycle).
_SHOWN_STATUS = """
CASE WHEN o.status = 'accepted' AND o.time_in_force NOT IN ('opg', 'cls')
          AND (m.phase = 'regular' OR o.extended_hours AND m.phase IN ('pre_market', 'after_hours'))
     THEN 'new' ELSE o.status END AS shown_status"""
_JOINED = {
    "asset_id": "i.id AS asset_id",
    "asset_class": "i.asset_class",
    "currency": "i.currency",
    "shown_status": _SHOWN_STATUS,
}
#: The columns of the JSON, and those that say why an order was rejected and where it stands in its group.
_COLUMNS = ", ".join(
    _JOINED.get(name, f"o.{name}")
    for name in dict.fromkeys(
        [*ORDER_COLUMNS.values(), "status", "reject_reason", "reject_details", "order_group", "leg"]
    )
)
_OF_ACCOUNT = "SELECT o.* FROM orders.orders_v1 o WHERE o.account_id = :account_id"
#: Without a limit, for which PostgreSQL would read the account's orders by time, the ended ones too.
_OPEN_ORDERS = text(f"{_with_instrument(f'{_OF_ACCOUNT} AND o.status IN {OPEN}')} ORDER BY o.submitted_at DESC, o.id")
_BY_ID = text(_with_instrument(f"{_OF_ACCOUNT} AND o.id = ANY(:ids)"))
#: Each half has an index of its own.
_BY_CLIENT_ID = text(f"""
{
    _with_instrument(f'''
  {_OF_ACCOUNT} AND o.client_order_id = :client_order_id AND o.status <> 'rejected'
  UNION ALL
  {_OF_ACCOUNT} AND o.client_order_id = :client_order_id AND o.status = 'rejected'
''')
}
ORDER BY (o.status = 'rejected'), o.submitted_at DESC LIMIT 1
""")
_AFTER = "(o.submitted_at, o.id) {} (CAST(:{name}_at AS timestamptz), CAST(:{name} AS uuid))"
#: The condition of each filter that a query may have. A query has a statement of its own for its filters, because a
#: plan for all of them would be kept, and would use no index for most.
_FILTERS = {
    "after": "o.submitted_at > :after",
    "until": "o.submitted_at < :until",
    "side": "o.side = :side",
    "symbols": "o.symbol = ANY(CAST(:symbols AS text[]))",
    "asset_classes": """o.symbol IN (
        SELECT symbol FROM marketdata.instruments_v1 WHERE asset_class = ANY(CAST(:asset_classes AS text[])))""",
    "after_order_id": _AFTER.format(">", name="after_order_id"),
    "before_order_id": _AFTER.format("<", name="before_order_id"),
}
_STANDS_ALONE = """
(o.order_class = 'simple' OR o.leg IS NULL OR o.order_class = 'oco' AND o.leg = 'take_profit' OR o.status = 'replaced')
"""
_OPEN_IDS = text(f"""
SELECT id FROM orders.orders_v1 WHERE account_id = :account_id AND status IN {OPEN} ORDER BY submitted_at, id
""")
_LEGS = text(f"""
{
    _with_instrument(f'''
  {_OF_ACCOUNT} AND o.order_group = ANY(:order_groups) AND o.order_class <> 'simple' AND NOT {_STANDS_ALONE}
''')
}
ORDER BY o.leg DESC, o.submitted_at, o.id
""")
_GROUP_IS_OPEN = f"""
(o.order_class <> 'simple' AND o.status <> 'replaced'
 AND EXISTS (SELECT FROM orders.orders_v1 g
             WHERE g.account_id = o.account_id AND g.order_group = o.order_group AND g.order_class <> 'simple'
               AND g.status IN {OPEN}))
"""
_IN_OPEN_GROUP = f"""
o.order_class <> 'simple' AND o.status <> 'replaced'
AND o.order_group = ANY(ARRAY(SELECT g.order_group FROM orders.orders_v1 g
                              WHERE g.account_id = :account_id AND g.order_class <> 'simple' AND g.status IN {OPEN}))
"""
#: A submission as the order that it will be, or that it is not because its command could not be processed. Commands of
#: old releases have neither a class nor extended hours.
_PENDING = """
SELECT o.* FROM gateway.submissions s CROSS JOIN jsonb_populate_record(
  NULL::orders.orders_v1,
  '{"order_class": "simple", "extended_hours": false, "do_not_reduce": false, "filled_qty": 0}' || s.command
  || jsonb_build_object('status', CASE WHEN s.rejected_at IS NULL THEN 'pending_new' ELSE 'rejected' END,
                        'reject_reason', s.reject_reason, 'reject_message', s.reject_message,
                        'id', s.order_id, 'order_group', s.order_id, 'client_order_id', s.client_order_id,
                        'submitted_at', s.submitted_at, 'updated_at', COALESCE(s.rejected_at, s.submitted_at))) o
WHERE s.account_id = :account_id
"""
#: The submissions that no order came of.
_GIVEN_UP = f"""
{_PENDING} AND s.rejected_at IS NOT NULL
AND NOT EXISTS (SELECT FROM orders.orders_v1 k WHERE k.account_id = s.account_id AND k.id = s.order_id)
"""
_PENDING_BY_ID = text(_with_instrument(f"{_PENDING} AND s.order_id = ANY(:ids)"))
_PENDING_BY_CLIENT_ID = text(f"""
{
    _with_instrument(f'''
  {_PENDING} AND s.client_order_id = :client_order_id AND (s.answered_at IS NULL OR s.rejected_at IS NOT NULL)
''')
}
ORDER BY (o.status = 'rejected'), o.submitted_at DESC LIMIT 1
""")
_PENDING_IDS = text("""
SELECT s.order_id FROM gateway.submissions s
WHERE s.account_id = :account_id AND s.answered_at IS NULL
  AND NOT EXISTS (SELECT FROM orders.orders_v1 o WHERE o.account_id = s.account_id AND o.id = s.order_id)
ORDER BY s.submitted_at
""")
