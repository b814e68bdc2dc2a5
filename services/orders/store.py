"""The rows of orders: finding, locking, adding and ending them. ``saving`` writes what a settlement changed.

Locks are taken in one order everywhere: accounts by id, then their orders by id.
"""

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid5

from sqlalchemy import Connection, Row, text

from services.orders.domain.lots import Lot
from services.orders.domain.order import Account, Order
from services.orders.domain.risk import Listing, Refusal
from shared.bus import tracing
from shared.contracts.orders import OpenAccount, OrderStatus, OrderType, Side, SubmitOrder
from shared.contracts.prices import Price


def open_account(connection: Connection, command: OpenAccount, now: datetime) -> bool:
    """Create the account and pay in its cash; False when it is there already."""
    number = f"PA{uuid5(NAMESPACE_OID, str(command.account_id)).int % 10**10:010d}"
    values = {
        "id": command.account_id,
        "number": number,
        "name": command.name,
        "currency": command.currency,
        "cash": command.cash,
        "now": now,
    }
    return connection.execute(_OPEN_ACCOUNT, values).rowcount == 1


def lock_account(connection: Connection, account_id: UUID) -> Account | None:
    rows = lock_accounts(connection, [account_id])
    return rows.get(account_id)


def lock_accounts(connection: Connection, ids: Iterable[UUID]) -> dict[UUID, Account]:
    rows = connection.execute(_LOCK_ACCOUNTS, {"ids": list(ids)})
    return {row.id: Account(row.id, row.cash, row.reserved, row.sequence) for row in rows}


def listing(connection: Connection, symbol: str, now: datetime) -> tuple[Listing, datetime | None] | None:
    """What is known of the instrument, and when its market's session ends."""
    row = connection.execute(_LISTING, {"symbol": symbol, "now": now}).first()
    return None if row is None else (Listing(row.tradable, row.ask, row.last), row.session_end)


def available_qty(connection: Connection, account_id: UUID, symbol: str) -> Decimal:
    """Shares held less those that open sell orders have promised."""
    return Decimal(connection.execute(_AVAILABLE, {"account_id": account_id, "symbol": symbol}).scalar_one())


def client_id_taken(connection: Connection, account_id: UUID, client_order_id: str) -> bool:
    values = {"account_id": account_id, "client_order_id": client_order_id}
    return connection.execute(_CLIENT_ID_TAKEN, values).first() is not None


def order_exists(connection: Connection, account_id: UUID, order_id: UUID) -> bool:
    return connection.execute(_EXISTS, {"account_id": account_id, "id": order_id}).first() is not None


def add_order(
    connection: Connection,
    command: SubmitOrder,
    *,
    now: datetime,
    reserved: Decimal,
    expires_at: datetime | None,
    refusal: Refusal | None,
) -> None:
    """Write the order as accepted, or as rejected with its reason."""
    status = OrderStatus.ACCEPTED if refusal is None else OrderStatus.REJECTED
    connection.execute(
        _ADD_ORDER,
        {
            **command.model_dump(include=set(_SUBMITTED)),
            "id": command.order_id,
            "status": status,
            "reserved": reserved,
            "accepted_at": now if refusal is None else None,
            "expires_at": expires_at,
            "now": now,
            "reject_reason": refusal.reason if refusal else None,
            "reject_message": refusal.message if refusal else None,
            "trace": tracing.current(),
        },
    )


def lock_order(connection: Connection, account_id: UUID, order_id: UUID) -> Order | None:
    row = connection.execute(_LOCK_ORDER, {"account_id": account_id, "id": order_id}).first()
    return None if row is None else _order(row)


def end_orders(connection: Connection, orders: Iterable[Order], status: OrderStatus, now: datetime) -> None:
    """Cancel or expire what is open of the orders."""
    keys = [(order.account_id, order.id) for order in orders]
    values = {"accounts": [account for account, _ in keys], "ids": [id_ for _, id_ in keys]}
    connection.execute(_END_ORDERS, {**values, "status": status, "now": now})


def triggered(connection: Connection, prices: Iterable[Price]) -> list[tuple[UUID, UUID]]:
    """(account, order) of the open orders that the prices may fill, by index: resting ones cost nothing."""
    prices = list(prices)
    rows = connection.execute(
        _TRIGGERED,
        {
            "symbols": [price.symbol for price in prices],
            "bids": [price.bid for price in prices],
            "asks": [price.ask for price in prices],
            "lasts": [price.last for price in prices],
            "times": [price.quoted_at for price in prices],
        },
    )
    return [(row.account_id, row.id) for row in rows]


def lock_open_orders(connection: Connection, ids: Iterable[tuple[UUID, UUID]]) -> list[Order]:
    """The orders among these that still are open, locked."""
    pairs = list(ids)
    rows = connection.execute(_LOCK_OPEN, {"accounts": [a for a, _ in pairs], "ids": [i for _, i in pairs]})
    return [_order(row) for row in rows]


def lots_of(connection: Connection, orders: Iterable[Order]) -> dict[tuple[UUID, str], tuple[Lot, ...]]:
    """The open lots of each order's holding, oldest first."""
    holdings = sorted({(order.account_id, order.symbol) for order in orders})
    rows = connection.execute(_LOTS, {"accounts": [a for a, _ in holdings], "symbols": [s for _, s in holdings]})
    lots: dict[tuple[UUID, str], tuple[Lot, ...]] = {}
    for row in rows:
        lot = Lot(row.fill_id, row.opened_at, row.qty, row.cost)
        lots[(row.account_id, row.symbol)] = (*lots.get((row.account_id, row.symbol), ()), lot)
    return lots


def expired(connection: Connection, now: datetime) -> list[tuple[UUID, UUID]]:
    return [(row.account_id, row.id) for row in connection.execute(_EXPIRED, {"now": now})]


def prices_with_open_orders(connection: Connection) -> list[Price]:
    """The current price of each symbol that has an open order, from marketdata's view."""
    return [
        Price.model_validate(row._mapping)  # noqa: SLF001 - SQLAlchemy's public name for it
        for row in connection.execute(_CURRENT_PRICES)
    ]


def _order(row: Row[Any]) -> Order:
    return Order(
        account_id=row.account_id,
        id=row.id,
        symbol=row.symbol,
        side=Side(row.side),
        type=OrderType(row.type),
        qty=row.qty,
        accepted_at=row.accepted_at,
        limit_price=row.limit_price,
        stop_price=row.stop_price,
        filled_qty=row.filled_qty,
        filled_avg_price=row.filled_avg_price,
        fills=row.fills,
        reserved=row.reserved,
        expires_at=row.expires_at,
        strategy_id=row.strategy_id,
        status=OrderStatus(row.status),
        trace=row.trace,
    )


_SUBMITTED = (
    "account_id", "client_order_id", "symbol", "side", "type", "time_in_force", "qty", "limit_price",
    "stop_price", "extended_hours", "strategy_id", "submitted_at",
)  # fmt: skip
_OPEN = "('accepted', 'partially_filled')"
_ORDER_COLUMNS = """
o.account_id, o.id, o.symbol, o.side, o.type, o.qty, o.accepted_at, o.limit_price, o.stop_price, o.filled_qty,
o.filled_avg_price, o.reserved, o.expires_at, o.strategy_id, o.status, o.trace,
(SELECT count(*) FROM orders.fills f WHERE f.account_id = o.account_id AND f.order_id = o.id) AS fills
"""
_OPEN_ACCOUNT = text("""
WITH opened AS (
  INSERT INTO orders.accounts (id, number, name, currency, cash, created_at)
  VALUES (:id, :number, :name, :currency, :cash, :now) ON CONFLICT (id) DO NOTHING
  RETURNING id, cash, created_at
)
INSERT INTO orders.ledger (account_id, at, kind, amount)
SELECT id, created_at, 'deposit', cash FROM opened
""")
_LOCK_ACCOUNTS = text("""
SELECT id, cash, reserved, sequence FROM orders.accounts WHERE id = ANY(:ids) ORDER BY id FOR UPDATE
""")
_LISTING = text("""
SELECT i.tradable, i.ask, i.last,
       CASE WHEN s.close_at = 'infinity'
            THEN (date_trunc('day', CAST(:now AS timestamptz) AT TIME ZONE 'UTC') + interval '1 day') AT TIME ZONE 'UTC'
            ELSE s.close_at END AS session_end
FROM marketdata.instruments_v1 i
LEFT JOIN LATERAL (
  SELECT close_at FROM marketdata.sessions_v1 s
  WHERE s.market = i.market AND s.close_at > :now ORDER BY close_at LIMIT 1
) s ON true
WHERE i.symbol = :symbol
""")
_AVAILABLE = text(f"""
SELECT COALESCE((SELECT qty FROM orders.positions WHERE account_id = :account_id AND symbol = :symbol), 0)
     - COALESCE((SELECT sum(qty - filled_qty) FROM orders.orders
                 WHERE account_id = :account_id AND symbol = :symbol AND side = 'sell' AND status IN {_OPEN}), 0)
""")
_CLIENT_ID_TAKEN = text("""
SELECT 1 FROM orders.orders
WHERE account_id = :account_id AND client_order_id = :client_order_id AND status <> 'rejected'
""")
_EXISTS = text("SELECT 1 FROM orders.orders WHERE account_id = :account_id AND id = :id")
_ADD_ORDER = text(f"""
INSERT INTO orders.orders ({", ".join(_SUBMITTED)}, id, status, reserved, accepted_at, expires_at, updated_at,
                           reject_reason, reject_message, trace)
VALUES ({", ".join(":" + name for name in _SUBMITTED)}, :id, :status, :reserved, :accepted_at, :expires_at, :now,
        :reject_reason, :reject_message, :trace)
""")
_LOCK_ORDER = text(f"""
SELECT {_ORDER_COLUMNS} FROM orders.orders o WHERE o.account_id = :account_id AND o.id = :id FOR UPDATE
""")
_END_ORDERS = text(f"""
UPDATE orders.orders o SET status = :status, reserved = 0, updated_at = :now,
  canceled_at = CASE WHEN :status = 'canceled' THEN CAST(:now AS timestamptz) END,
  expired_at = CASE WHEN :status = 'expired' THEN CAST(:now AS timestamptz) END
FROM unnest(CAST(:accounts AS uuid[]), CAST(:ids AS uuid[])) AS ended (account_id, id)
WHERE o.account_id = ended.account_id AND o.id = ended.id AND o.status IN {_OPEN}
""")
_TRIGGERED = text(f"""
SELECT o.account_id, o.id
FROM unnest(CAST(:symbols AS text[]), CAST(:bids AS numeric[]), CAST(:asks AS numeric[]),
            CAST(:lasts AS numeric[]), CAST(:times AS timestamptz[])) AS p (symbol, bid, ask, last, quoted_at)
CROSS JOIN LATERAL (
  SELECT account_id, id FROM orders.orders
  WHERE symbol = p.symbol AND type = 'market' AND status IN {_OPEN} AND accepted_at < p.quoted_at
  UNION ALL
  SELECT account_id, id FROM orders.orders
  WHERE symbol = p.symbol AND type = 'limit' AND side = 'buy' AND trigger_price >= COALESCE(p.ask, p.last)
    AND status IN {_OPEN} AND accepted_at < p.quoted_at
  UNION ALL
  SELECT account_id, id FROM orders.orders
  WHERE symbol = p.symbol AND type = 'limit' AND side = 'sell' AND trigger_price <= COALESCE(p.bid, p.last)
    AND status IN {_OPEN} AND accepted_at < p.quoted_at
  UNION ALL
  SELECT account_id, id FROM orders.orders
  WHERE symbol = p.symbol AND type = 'stop' AND side = 'buy' AND trigger_price <= p.last
    AND status IN {_OPEN} AND accepted_at < p.quoted_at
  UNION ALL
  SELECT account_id, id FROM orders.orders
  WHERE symbol = p.symbol AND type = 'stop' AND side = 'sell' AND trigger_price >= p.last
    AND status IN {_OPEN} AND accepted_at < p.quoted_at
) o
""")
_LOCK_OPEN = text(f"""
SELECT {_ORDER_COLUMNS} FROM orders.orders o
JOIN unnest(CAST(:accounts AS uuid[]), CAST(:ids AS uuid[])) AS wanted (account_id, id)
  ON o.account_id = wanted.account_id AND o.id = wanted.id
WHERE o.status IN {_OPEN} ORDER BY o.account_id, o.id FOR UPDATE OF o
""")
_LOTS = text("""
SELECT l.account_id, l.symbol, l.fill_id, l.opened_at, l.qty, l.cost FROM orders.lots l
JOIN unnest(CAST(:accounts AS uuid[]), CAST(:symbols AS text[])) AS wanted (account_id, symbol)
  ON l.account_id = wanted.account_id AND l.symbol = wanted.symbol
WHERE l.qty > 0 ORDER BY l.opened_at, l.fill_id
""")
_EXPIRED = text(f"""
SELECT account_id, id FROM orders.orders WHERE status IN {_OPEN} AND expires_at <= :now
""")
_CURRENT_PRICES = text(f"""
SELECT symbol, bid, ask, bid_size, ask_size, last, COALESCE(open, last) AS open, COALESCE(high, last) AS high,
       COALESCE(low, last) AS low, last AS close, COALESCE(volume, 0) AS volume, quoted_at, sequence, provider
FROM marketdata.instruments_v1 i
WHERE last IS NOT NULL AND sequence > 0
  AND EXISTS (SELECT FROM orders.orders o WHERE o.symbol = i.symbol AND o.status IN {_OPEN})
""")
