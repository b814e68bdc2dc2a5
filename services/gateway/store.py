"""What the gateway reads of the others' views, and the submissions it keeps itself."""

import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, text

from services.gateway.models import OrderQuery
from shared.bus.transaction import Transaction
from shared.contracts.orders import SubmitOrder

Record = Mapping[str, Any]


def account(connection: Connection, account_id: UUID) -> Record | None:
    """The account with its value at current prices."""
    return _first(connection, _ACCOUNT, account_id=account_id)


def positions(connection: Connection, account_id: UUID, symbol: str | None = None) -> list[Record]:
    return _all(connection, _POSITIONS, account_id=account_id, symbol=symbol)


def order(connection: Connection, account_id: UUID, order_id: UUID) -> Record | None:
    """The order as orders has it, or as it was handed in while orders has not answered yet."""
    found = _first(connection, _ORDER, account_id=account_id, id=order_id)
    return found or _first(connection, _PENDING_ORDER, account_id=account_id, id=order_id)


def order_by_client_id(connection: Connection, account_id: UUID, client_order_id: str) -> Record | None:
    values = {"account_id": account_id, "client_order_id": client_order_id}
    return _first(connection, _BY_CLIENT_ID, **values) or _first(connection, _PENDING_BY_CLIENT_ID, **values)


def orders(connection: Connection, account_id: UUID, query: OrderQuery) -> list[Record]:
    sql = _ORDERS_ASCENDING if query.direction == "asc" else _ORDERS_DESCENDING
    return _all(
        connection,
        sql,
        account_id=account_id,
        status=query.status,
        limit=query.limit,
        after=query.after,
        until=query.until,
        side=query.side,
        symbols=query.symbol_list,
    )


def instrument_exists(connection: Connection, symbol: str) -> bool:
    return connection.execute(_INSTRUMENT, {"symbol": symbol}).first() is not None


def prices(connection: Connection) -> list[Record]:
    return _all(connection, _PRICES)


def market_is_open(connection: Connection, market: str, now: datetime) -> Record | None:
    """Whether the market is open, and the sessions' next opening and close (None: open at all hours)."""
    return _first(connection, _CLOCK, market=market, now=now)


def add_submission(tx: Transaction, command: SubmitOrder) -> None:
    """Keep the order's row before anything is sent, and send it from the outbox of this transaction."""
    message_id = tx.publish(command)
    previous = tx.chain()
    tx.connection.execute(
        _ADD_SUBMISSION,
        {
            "order_id": command.order_id,
            "account_id": command.account_id,
            "client_order_id": command.client_order_id,
            "message_id": message_id,
            "previous": previous,
            "command": json.dumps(command.payload()),
            "now": tx.now,
        },
    )


def resend_unanswered(tx: Transaction, older_than: timedelta) -> int:
    """Note which submissions orders knows by now, and send the others again; the number sent.

    None is given up: the pause before each time is as long as all before it together, so that it doubles.
    """
    tx.connection.execute(_NOTE_ANSWERED, {"now": tx.now})
    rows = tx.connection.execute(_UNANSWERED, {"now": tx.now, "before": tx.now - older_than}).all()
    for row in rows:
        tx.publish(SubmitOrder.model_validate(row.command), message_id=row.message_id, previous=row.previous)
    return len(rows)


def _first(connection: Connection, sql: Any, **values: Any) -> Record | None:
    row = connection.execute(sql, values).first()
    return None if row is None else _record(row)


def _all(connection: Connection, sql: Any, **values: Any) -> list[Record]:
    return [_record(row) for row in connection.execute(sql, values)]


def _record(row: Row[Any]) -> Record:
    return dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's public name for it


_ACCOUNT = text("""
SELECT a.id, a.number, a.currency, a.status, a.cash, a.reserved, a.created_at,
       COALESCE(v.market_value, 0) AS market_value, COALESCE(v.unrealized_pl, 0) AS unrealized_pl,
       COALESCE(v.cost, 0) AS cost,
       (SELECT s.equity FROM valuation.account_summaries_v1 s
        WHERE s.account_id = a.id AND s.at < date_trunc('day', now()) ORDER BY s.at DESC LIMIT 1) AS last_equity
FROM orders.accounts_v1 a
LEFT JOIN LATERAL (
  SELECT sum(round(p.qty * i.last, 2)) AS market_value, sum(round(p.qty * i.last, 2) - p.cost) AS unrealized_pl,
         sum(p.cost) AS cost
  FROM orders.positions_v1 p JOIN marketdata.instruments_v1 i ON i.symbol = p.symbol
  WHERE p.account_id = a.id
) v ON true
WHERE a.id = :account_id
""")
_POSITIONS = text("""
SELECT i.id AS asset_id, p.symbol, i.asset_class, p.qty, p.cost, i.last,
       round(p.qty * i.last, 2) AS market_value, round(p.qty * i.last, 2) - p.cost AS unrealized_pl,
       p.qty - COALESCE(
         (SELECT sum(o.qty - o.filled_qty) FROM orders.orders_v1 o
          WHERE o.account_id = p.account_id AND o.symbol = p.symbol AND o.side = 'sell'
            AND o.status IN ('accepted', 'partially_filled')), 0) AS qty_available
FROM orders.positions_v1 p JOIN marketdata.instruments_v1 i ON i.symbol = p.symbol
WHERE p.account_id = :account_id AND (CAST(:symbol AS text) IS NULL OR p.symbol = :symbol)
ORDER BY p.symbol
""")
_ORDER_COLUMNS = """
o.id, o.client_order_id, o.symbol, o.side, o.type, o.time_in_force, o.extended_hours, o.qty, o.limit_price,
o.stop_price, o.status, o.filled_qty, o.filled_avg_price, o.submitted_at, o.filled_at, o.canceled_at,
o.expired_at, o.expires_at, o.updated_at, o.reject_reason, o.reject_message, i.id AS asset_id, i.asset_class
"""
_ORDER = text(f"""
SELECT {_ORDER_COLUMNS} FROM orders.orders_v1 o LEFT JOIN marketdata.instruments_v1 i ON i.symbol = o.symbol
WHERE o.account_id = :account_id AND o.id = :id
""")
_BY_CLIENT_ID = text(f"""
SELECT {_ORDER_COLUMNS} FROM orders.orders_v1 o LEFT JOIN marketdata.instruments_v1 i ON i.symbol = o.symbol
WHERE o.account_id = :account_id AND o.client_order_id = :client_order_id
ORDER BY (o.status = 'rejected'), o.submitted_at DESC LIMIT 1
""")
_PENDING_COLUMNS = """
s.order_id AS id, s.client_order_id, s.command->>'symbol' AS symbol, s.command->>'side' AS side,
s.command->>'type' AS type, s.command->>'time_in_force' AS time_in_force, false AS extended_hours,
(s.command->>'qty')::numeric AS qty, (s.command->>'limit_price')::numeric AS limit_price,
(s.command->>'stop_price')::numeric AS stop_price, 'pending_new' AS status, 0::numeric AS filled_qty,
NULL::numeric AS filled_avg_price, s.submitted_at, NULL::timestamptz AS filled_at,
NULL::timestamptz AS canceled_at, NULL::timestamptz AS expired_at, NULL::timestamptz AS expires_at,
s.submitted_at AS updated_at, NULL AS reject_reason, NULL AS reject_message, i.id AS asset_id, i.asset_class
"""
_PENDING = f"""
SELECT {_PENDING_COLUMNS} FROM gateway.submissions s
LEFT JOIN marketdata.instruments_v1 i ON i.symbol = s.command->>'symbol'
"""
_PENDING_ORDER = text(f"{_PENDING} WHERE s.account_id = :account_id AND s.order_id = :id")
_PENDING_BY_CLIENT_ID = text(f"""
{_PENDING} WHERE s.account_id = :account_id AND s.client_order_id = :client_order_id AND s.answered_at IS NULL
ORDER BY s.submitted_at DESC LIMIT 1
""")
_ORDERS = f"""
SELECT {_ORDER_COLUMNS} FROM orders.orders_v1 o LEFT JOIN marketdata.instruments_v1 i ON i.symbol = o.symbol
WHERE o.account_id = :account_id
  AND (:status = 'all' OR (o.status IN ('accepted', 'partially_filled')) = (:status = 'open'))
  AND (CAST(:after AS timestamptz) IS NULL OR o.submitted_at > :after)
  AND (CAST(:until AS timestamptz) IS NULL OR o.submitted_at < :until)
  AND (CAST(:side AS text) IS NULL OR o.side = :side)
  AND (CAST(:symbols AS text[]) IS NULL OR o.symbol = ANY(CAST(:symbols AS text[])))
"""
_ORDERS_ASCENDING = text(f"{_ORDERS} ORDER BY o.submitted_at, o.id LIMIT :limit")
_ORDERS_DESCENDING = text(f"{_ORDERS} ORDER BY o.submitted_at DESC, o.id LIMIT :limit")
_INSTRUMENT = text("SELECT 1 FROM marketdata.instruments_v1 WHERE symbol = :symbol")
_PRICES = text("""
SELECT symbol, bid, ask, bid_size, ask_size, last, open, high, low, last AS close, volume, quoted_at, sequence,
       provider
FROM marketdata.instruments_v1 WHERE last IS NOT NULL ORDER BY symbol
""")
_CLOCK = text("""
SELECT EXISTS (SELECT FROM marketdata.sessions_v1 WHERE market = :market AND open_at <= :now AND close_at > :now)
         AS is_open,
       (SELECT min(open_at) FROM marketdata.sessions_v1
        WHERE market = :market AND open_at > :now AND isfinite(open_at)) AS next_open,
       (SELECT min(close_at) FROM marketdata.sessions_v1
        WHERE market = :market AND close_at > :now AND isfinite(close_at)) AS next_close
""")
_ADD_SUBMISSION = text("""
INSERT INTO gateway.submissions
  (order_id, account_id, client_order_id, message_id, previous, command, submitted_at, sent_at)
VALUES (:order_id, :account_id, :client_order_id, :message_id, :previous, CAST(:command AS jsonb), :now, :now)
""")
_NOTE_ANSWERED = text("""
UPDATE gateway.submissions s SET answered_at = :now
WHERE s.answered_at IS NULL
  AND EXISTS (SELECT FROM orders.orders_v1 o WHERE o.account_id = s.account_id AND o.id = s.order_id)
""")
_UNANSWERED = text("""
UPDATE gateway.submissions SET sent_at = :now
WHERE answered_at IS NULL AND sent_at < :before AND CAST(:now AS timestamptz) - sent_at >= sent_at - submitted_at
RETURNING message_id, previous, command
""")
