"""The rows of orders: finding and locking them, adding those that come in, and saving what became of them.

Locks are taken in one order everywhere: the symbols' quotes, accounts by id, their orders by order group and id, then
the liquidity that was consumed.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, text

from shared.contracts.orders import OrderStatus, TimeInForce
from shared.contracts.reasons import CancelReason, RejectReason
from shared.exchange.matching.triggers import TriggerDirection, price_trigger
from shared.exchange.order import Account, Key, Order
from shared.exchange.refusal import Refusal
from shared.storage.driver import Call, fetch
from shared.storage.tables import Table, columns_of, typed

#: Statuses in which an order has not ended, as SQL.
OPEN = "('accepted', 'held', 'partially_filled')"

#: (account, order group) of orders that end together; a simple order is a group of its own.
GroupKey = tuple[UUID, UUID]
#: Symbol → the order groups that its price concerns.
Concerned = Mapping[str, Sequence[GroupKey]]


class End(NamedTuple):
    """Why an order ended: the reason of a cancel, or the reason and the message of a rejection."""

    cancel_reason: CancelReason | RejectReason | None = None
    reject_reason: RejectReason | None = None
    reject_message: str | None = None
    #: The figures behind a rejection, as a JSON object.
    reject_details: str | None = None


class NamedOrder(NamedTuple):
    """An order by its id: its group and its status."""

    id: UUID
    order_group: UUID
    status: OrderStatus


def rejected_for(refusal: Refusal) -> End:
    """The end of an order that the refusal rejects."""
    details = json.dumps(dict(refusal.details)) if refusal.details else None
    return End(None, refusal.reason, refusal.message, details)


class OrderState(NamedTuple):
    """An order with what its row says beside, so that prices find it, and why it ended."""

    order: Order
    trigger_direction: TriggerDirection | None
    trigger_price: Decimal | None
    end: End


class OrderRow(NamedTuple):
    """An order as it comes in. A simple order is in a group of its own. A rejected order was never accepted."""

    state: OrderState
    order_group: UUID
    accepted_at: datetime | None
    client_order_id: str
    submitted_at: datetime
    on_bar: bool
    generation: int
    updated_at: datetime
    replaces: UUID | None = None


NOT_ENDED = End()
ORDERS = Table("orders.orders", OrderRow, key=("account_id", "id"))
#: Columns that may change while an order is open, by what happens on the market.
CHANGING = (
    "status",
    "qty",
    "reserved",
    "held_for_orders",
    "hwm",
    "triggered",
    "rests",
    "active_at",
    "filled_qty",
    "filled_avg_price",
    "filled_avg_rate",
    "fills",
    "fees",
    "trigger_direction",
    "trigger_price",
    "cancel_reason",
    "reject_reason",
    "reject_message",
    "reject_details",
)
_ENDS = """
updated_at = %(now)s, filled_at = CASE v.status WHEN 'filled' THEN %(now)s ELSE t.filled_at END,
canceled_at = CASE v.status WHEN 'canceled' THEN %(now)s ELSE t.canceled_at END,
expired_at = CASE v.status WHEN 'expired' THEN %(now)s ELSE t.expired_at END
"""
adding_orders = ORDERS.insert()
_saving = ORDERS.update(OrderState, *CHANGING, also=_ENDS)
_saving_adjusted = ORDERS.update(
    OrderState, *CHANGING, "limit_price", "stop_price", "trail_price", also=f"{_ENDS}, adjusted_at = %(now)s"
)
_saving_times = ORDERS.update(OrderState, "time_in_force", "expires_at", also="updated_at = %(now)s")
_saving_sessions = ORDERS.update(OrderState, "auction_day", "auction_at", "expires_at", also="updated_at = %(now)s")
_saving_replaced = ORDERS.update(
    OrderState, *CHANGING, also=f"{_ENDS}, replaced_by = %(replaced_by)s, replaced_at = %(now)s"
)


def state_of(order: Order, end: End = NOT_ENDED) -> OrderState:
    """The order with the prices that concern it. None does once it has ended."""
    direction, trigger_price = price_trigger(order) if order.is_open else (None, None)
    return OrderState(order, direction, trigger_price, end)


def incoming(
    order: Order,
    account: Account,
    client_order_id: str,
    submitted_at: datetime,
    now: datetime,
    *,
    refusal: Refusal | None = None,
    replaces: UUID | None = None,
) -> OrderRow:
    """The row of an order that comes in, with the ``refusal`` where it is rejected."""
    return OrderRow(
        state=state_of(order, NOT_ENDED if refusal is None else rejected_for(refusal)),
        order_group=order.order_group or order.id,
        accepted_at=order.accepted_at if refusal is None else None,
        client_order_id=client_order_id,
        submitted_at=submitted_at,
        on_bar=account.settings.fills.fills_on == "bar",
        generation=account.generation,
        updated_at=now,
        replaces=replaces,
    )


def saving_orders(orders: Iterable[Order], ends: Mapping[Key, End], now: datetime) -> Call:
    """The statement that writes what the market changed. ``ends`` says why the ended orders ended."""
    return _saving([state_of(order, ends.get(order.key, NOT_ENDED)) for order in orders], now=now)


def saving_adjusted_orders(orders: Iterable[Order], now: datetime) -> Call:
    """The statement that writes orders whose quantities and prices a corporate action has changed."""
    return _saving_adjusted([state_of(order) for order in orders], now=now)


def saving_times(orders: Iterable[Order], now: datetime) -> Call:
    """The statement that writes open orders whose time in force is another now."""
    return _saving_times([state_of(order) for order in orders], now=now)


def saving_sessions(orders: Iterable[Order], now: datetime) -> Call:
    """The statement that writes open orders whose day or auction has moved."""
    return _saving_sessions([state_of(order) for order in orders], now=now)


def saving_replaced(old: Order, replaced_by: UUID, now: datetime) -> Call:
    """The statement that writes the order that was replaced, with the id of its successor."""
    return _saving_replaced([state_of(old)], replaced_by=replaced_by, now=now)


class _Group(NamedTuple):
    account_id: UUID
    order_group: UUID


def order_group_of(connection: Connection, account_id: UUID, order_id: UUID) -> UUID | None:
    """The group of the order, which is open or ended. None where there is no such order."""
    groups = typed(_Group, connection.execute(_GROUP, {"account_id": account_id, "id": order_id}))
    return groups[0].order_group if groups else None


def named_orders(connection: Connection, account_id: UUID, ids: Iterable[UUID]) -> dict[UUID, NamedOrder]:
    """The orders with these ids that exist, open or ended."""
    found = connection.execute(_NAMED, {"account_id": account_id, "ids": list(ids)})
    return {each.id: each for each in typed(NamedOrder, found)}


def find_order(connection: Connection, account_id: UUID, order_id: UUID) -> Order:
    """The order, which exists."""
    (order,) = typed(Order, connection.execute(_ORDER, {"account_id": account_id, "id": order_id}))
    return order


def open_order_groups(connection: Connection, account_id: UUID) -> list[GroupKey]:
    """The groups of all open orders of the account."""
    return _groups(fetch(connection, _OPEN_GROUPS, {"account_id": account_id}))


def open_order_groups_in(connection: Connection, symbol: str) -> list[GroupKey]:
    """The groups of all open orders of the symbol."""
    return _groups(fetch(connection, _GROUPS_IN, {"symbol": symbol}))


def expired_order_groups(connection: Connection, now: datetime, settled: datetime) -> list[GroupKey]:
    """The groups of the open orders that are due to end.

    The last bar before its end may still fill an order, until a later price was applied. It is not waited for if the
    order should have ended by ``settled``, or if no price came lately.
    """
    return _groups(fetch(connection, _EXPIRED, {"now": now, "settled": settled}))


def order_groups_for_auction(
    connection: Connection, symbol: str, day: date, time_in_force: TimeInForce
) -> list[GroupKey]:
    """The groups of the open orders for that auction."""
    return _groups(fetch(connection, _FOR_AUCTION, {"symbol": symbol, "day": day, "time": time_in_force.value}))


def _groups(rows: Iterable[Any]) -> list[GroupKey]:
    return [(group.account_id, group.order_group) for group in typed(_Group, rows)]


def lock_open_orders(connection: Connection, order_groups: Iterable[GroupKey]) -> list[Order]:
    """The orders of these groups that still are open, locked."""
    return typed(Order, fetch(connection, *locking_open(order_groups)))


def locking_open(order_groups: Iterable[GroupKey]) -> Call:
    """The statement of ``lock_open_orders``. Its rows are those of ``Order``, and are locked in one order."""
    pairs = sorted(set(order_groups), key=lambda pair: (pair[0].int, pair[1].int))  # faster than UUIDs compare
    return _LOCK_OPEN, {"accounts": [a for a, _ in pairs], "order_groups": [group for _, group in pairs]}


_GROUP_COLUMN = "CASE WHEN o.order_class <> 'simple' THEN o.order_group END AS order_group"
_ORDER_COLUMNS = ", ".join(_GROUP_COLUMN if name == "order_group" else f"o.{name}" for name in columns_of(Order))
_GROUP = text("SELECT account_id, order_group FROM orders.orders WHERE account_id = :account_id AND id = :id")
_NAMED = text("SELECT id, order_group, status FROM orders.orders WHERE account_id = :account_id AND id = ANY(:ids)")
_ORDER = text(f"SELECT {_ORDER_COLUMNS} FROM orders.orders o WHERE o.account_id = :account_id AND o.id = :id")
_OPEN_GROUPS = (
    "SELECT DISTINCT account_id, order_group FROM orders.orders WHERE account_id = %(account_id)s AND is_open"
)
_GROUPS_IN = (
    f"SELECT DISTINCT account_id, order_group FROM orders.orders WHERE symbol = %(symbol)s AND status IN {OPEN}"
)
_EXPIRED = """
SELECT o.account_id, o.order_group FROM orders.orders o LEFT JOIN orders.quotes q ON q.symbol = o.symbol
WHERE o.expires AND o.expires_at <= %(now)s AND (
  o.time_in_force NOT IN ('day', 'gtc') OR o.expires_at <= %(settled)s OR q.quoted_at IS NULL
  OR q.quoted_at >= o.expires_at OR q.quoted_at < o.expires_at - (%(now)s - %(settled)s))
"""
_FOR_AUCTION = """
SELECT account_id, order_group FROM orders.orders
WHERE symbol = %(symbol)s AND auction_day = %(day)s AND time_in_force = %(time)s AND awaits_auction
"""
#: By index for each group: a join might read all open orders of everybody.
_LOCK_OPEN = f"""
SELECT o.* FROM unnest(%(accounts)b::uuid[], %(order_groups)b::uuid[]) AS wanted (account_id, order_group)
CROSS JOIN LATERAL (
  SELECT {_ORDER_COLUMNS} FROM orders.orders o
  WHERE o.account_id = wanted.account_id AND o.order_group = wanted.order_group AND o.is_open
  ORDER BY o.id FOR UPDATE
) o
"""
