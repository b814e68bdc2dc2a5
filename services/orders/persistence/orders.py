"""The rows of orders and lots: finding and locking them. ``saving`` writes what a settlement changed.

Locks are taken in one order everywhere: the symbols' quotes, accounts by id, their orders by order_group and id,
then what
was taken of the market.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from shared.contracts.orders import OrderClass, OrderStatus, OrderType, Side, TimeInForce
from shared.exchange.lots import Lot
from shared.exchange.matching.book import Holding
from shared.exchange.order import Leg, Order
from shared.storage.driver import Call, fetch

#: Statuses in which an order has not ended, as SQL.
OPEN = "('accepted', 'held', 'partially_filled')"


#: (account, order_group) of orders that end together; a simple order is a order_group of its own.
GroupKey = tuple[UUID, UUID]
#: Symbol → the order_groups that its price concerns.
Concerned = Mapping[str, Sequence[GroupKey]]


def order_group_of(connection: Connection, account_id: UUID, order_id: UUID) -> UUID | None:
    """The order_group of the order, which is open or ended; None where there is no such order."""
    return connection.execute(_GROUP, {"account_id": account_id, "id": order_id}).scalar_one_or_none()


def order(connection: Connection, account_id: UUID, order_id: UUID) -> Order:
    return _order(connection.execute(_ORDER, {"account_id": account_id, "id": order_id}).one())


def open_order_groups(connection: Connection, account_id: UUID) -> list[GroupKey]:
    """The order_groups of all open orders of the account."""
    rows = fetch(connection, _OPEN_GROUPS, {"account_id": account_id})
    return [(account_id, row.order_group) for row in rows]


def open_order_groups_in(connection: Connection, symbol: str) -> list[GroupKey]:
    return [(row.account_id, row.order_group) for row in fetch(connection, _GROUPS_IN, {"symbol": symbol})]


def lock_open_orders(connection: Connection, order_groups: Iterable[GroupKey]) -> list[Order]:
    """The orders of these order_groups that still are open, locked."""
    return open_orders(fetch(connection, *locking_open(order_groups)))


def locking_open(order_groups: Iterable[GroupKey]) -> Call:
    """The statement of ``lock_open_orders``; ``open_orders`` reads its rows."""
    pairs = sorted(set(order_groups))
    return _LOCK_OPEN, {"accounts": [a for a, _ in pairs], "order_groups": [f for _, f in pairs]}


def open_orders(rows: Iterable[Any]) -> list[Order]:
    return [_order(row) for row in rows]


def finding_lots(holdings: Collection[Holding]) -> Call:
    """The statement that finds the open lots of these holdings, oldest first; ``lots`` reads its rows."""
    return _LOTS, {"accounts": [account for account, _ in holdings], "symbols": [symbol for _, symbol in holdings]}


def lots_in(connection: Connection, symbol: str, before: datetime) -> dict[Holding, tuple[Lot, ...]]:
    """The open lots of all holdings of the symbol of which one is from before that time."""
    found = lots(connection.execute(_LOTS_IN, {"symbol": symbol}).all())
    return {holding: lots for holding, lots in found.items() if any(lot.opened_at < before for lot in lots)}


def lots(rows: Iterable[Any]) -> dict[Holding, tuple[Lot, ...]]:
    found: dict[Holding, list[Lot]] = {}
    for row in rows:
        lot = Lot(row.fill_id, row.opened_at, row.qty, row.cost, row.strategy_id)
        found.setdefault((row.account_id, row.symbol), []).append(lot)
    return {holding: tuple(lots) for holding, lots in found.items()}


def expired(connection: Connection, now: datetime) -> list[GroupKey]:
    return [(row.account_id, row.order_group) for row in fetch(connection, _EXPIRED, {"now": now})]


def _order(row: Any) -> Order:
    return Order(
        account_id=row.account_id,
        id=row.id,
        symbol=row.symbol,
        side=Side(row.side),
        type=OrderType(row.type),
        qty=row.qty,
        accepted_at=row.accepted_at,
        active_at=row.active_at,
        time_in_force=TimeInForce(row.time_in_force),
        extended_hours=row.extended_hours,
        notional=row.notional,
        limit_price=row.limit_price,
        stop_price=row.stop_price,
        trail_price=row.trail_price,
        trail_percent=row.trail_percent,
        hwm=row.hwm,
        triggered=row.triggered,
        carried=row.carried,
        filled_qty=row.filled_qty,
        filled_avg_price=row.filled_avg_price,
        fills=row.fills,
        fees=row.fees,
        reserved=row.reserved,
        held_for_orders=row.held_for_orders,
        expires_at=row.expires_at,
        auction_day=row.auction_day,
        auction_at=row.auction_at,
        strategy_id=row.strategy_id,
        status=OrderStatus(row.status),
        order_class=OrderClass(row.order_class),
        order_group=None if row.order_class == OrderClass.SIMPLE else row.order_group,
        leg=None if row.leg is None else Leg(row.leg),
        trace=row.trace,
        currency=row.currency,
        filled_avg_rate=row.filled_avg_rate,
    )


_ORDER_COLUMNS = """
o.account_id, o.id, o.symbol, o.side, o.type, o.qty, o.accepted_at, o.active_at, o.time_in_force, o.extended_hours,
o.notional, o.limit_price, o.stop_price, o.trail_price, o.trail_percent, o.hwm, o.triggered, o.carried, o.filled_qty,
o.filled_avg_price, o.fills, o.fees, o.reserved, o.held_for_orders, o.expires_at, o.strategy_id, o.status,
o.order_class,
o.order_group, o.leg, o.trace, o.auction_day, o.auction_at, o.currency, o.filled_avg_rate
"""
_GROUP = text("SELECT order_group FROM orders.orders WHERE account_id = :account_id AND id = :id")
_ORDER = text(f"SELECT {_ORDER_COLUMNS} FROM orders.orders o WHERE o.account_id = :account_id AND o.id = :id")
_OPEN_GROUPS = "SELECT DISTINCT order_group FROM orders.orders WHERE account_id = %(account_id)s AND is_open"
_GROUPS_IN = (
    f"SELECT DISTINCT account_id, order_group FROM orders.orders WHERE symbol = %(symbol)s AND status IN {OPEN}"
)
_LOTS_IN = text("""
SELECT account_id, symbol, fill_id, opened_at, qty, cost, strategy_id FROM orders.lots
WHERE symbol = :symbol AND qty <> 0 ORDER BY account_id, opened_at, fill_id
""")
#: By index for each of what is wanted: a join might read all open orders, or lots, of everybody.
_LOCK_OPEN = f"""
SELECT o.* FROM unnest(%(accounts)b::uuid[], %(order_groups)b::uuid[]) AS wanted (account_id, order_group)
CROSS JOIN LATERAL (
  SELECT {_ORDER_COLUMNS} FROM orders.orders o
  WHERE o.account_id = wanted.account_id AND o.order_group = wanted.order_group AND o.is_open
  ORDER BY o.id FOR UPDATE
) o
"""
_LOTS = """
SELECT l.* FROM unnest(%(accounts)b::uuid[], %(symbols)b::text[]) AS wanted (account_id, symbol)
CROSS JOIN LATERAL (
  SELECT account_id, symbol, fill_id, opened_at, qty, cost, strategy_id FROM orders.lots l
  WHERE l.account_id = wanted.account_id AND l.symbol = wanted.symbol AND l.qty <> 0 OFFSET 0
) l
ORDER BY l.opened_at, l.fill_id
"""
_EXPIRED = "SELECT account_id, order_group FROM orders.orders WHERE expires AND expires_at <= %(now)s"
