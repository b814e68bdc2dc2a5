"""Writing orders that come in, change and end: one statement, however many rows."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from services.orders.domain.order import Account, Key, Order
from services.orders.domain.risk import Refusal
from services.orders.domain.waking import wakes
from shared.storage.driver import Writes, numbers

Columns = dict[str, Any]
#: Why an order ended: the reason of a cancel, or reason and message of a refusal.
Why = tuple[str | None, str | None, str | None]


@dataclass(frozen=True)
class Entered:
    """An order that came in, as it was asked for; ``refusal`` where it was not accepted."""

    order: Order
    client_order_id: str
    submitted_at: datetime
    on_bar: bool
    refusal: Refusal | None = None
    replaces: UUID | None = None
    epoch: int = 1


def enter(connection: Connection, entered: Sequence[Entered], account: Account, now: datetime) -> None:
    """Write orders of one account that came in, and the account with what they reserve."""
    writes = Writes(connection)
    writes.add(_ADD_ORDERS, _entered(entered, account, now))
    writes.send()


def save_orders(connection: Connection, orders: Sequence[Order], reasons: Mapping[Key, str], now: datetime) -> None:
    """Write orders that changed without a price; ``reasons`` says of those that are canceled why."""
    writes = Writes(connection)
    add_orders(writes, orders, {key: (reason, None, None) for key, reason in reasons.items()}, now)
    writes.send()


def save_split_orders(connection: Connection, orders: Sequence[Order], now: datetime) -> None:
    """Write orders whose quantities and prices are of other shares now."""
    writes = Writes(connection)
    add_orders(writes, orders, {}, now)
    prices = {
        **_keys(orders),
        "limits": numbers(order.limit_price for order in orders),
        "stops": numbers(order.stop_price for order in orders),
        "trails": numbers(order.trail_price for order in orders),
    }
    writes.add(_UPDATE_PRICES, {**prices, "now": now})
    writes.send()


def replace_order(connection: Connection, old: UUID, entered: Entered, account: Account, now: datetime) -> None:
    """Write the order that goes on, the account, and in the old order by which it was replaced."""
    writes = Writes(connection)
    writes.add(_REPLACE, {"account_id": account.id, "old": old, "new": entered.order.id, "now": now})
    writes.add(_ADD_ORDERS, _entered([entered], account, now))
    writes.send()


def _entered(entered: Sequence[Entered], account: Account, now: datetime) -> Columns:
    """All rows as one document: of a single order, a column of its own for each value would take thrice as long."""
    rows = json.dumps([_row(each) for each in entered], default=str)
    cash, reserved, sequence = account.cash, account.reserved, account.sequence
    return {"rows": rows, "now": now, "id": account.id, "cash": cash, "reserved": reserved, "sequence": sequence}


def _row(entered: Entered) -> dict[str, Any]:
    order, refusal = entered.order, entered.refusal
    direction, threshold = wakes(order) if order.is_open else (None, None)
    return {
        "account_id": order.account_id,
        "id": order.id,
        "client_order_id": entered.client_order_id,
        "symbol": order.symbol,
        "side": order.side,
        "type": order.type,
        "time_in_force": order.time_in_force,
        "extended_hours": order.extended_hours,
        "qty": order.qty,
        "notional": order.notional,
        "limit_price": order.limit_price,
        "stop_price": order.stop_price,
        "trail_price": order.trail_price,
        "trail_percent": order.trail_percent,
        "hwm": order.hwm,
        "triggered": order.triggered,
        "active_at": order.active_at,
        "direction": direction,
        "threshold": threshold,
        "on_bar": entered.on_bar,
        "status": order.status,
        "reserved": order.reserved,
        "promised": order.promised,
        "carried": order.carried,
        "order_class": order.order_class,
        "family": order.family or order.id,
        "leg": order.leg,
        "strategy_id": order.strategy_id,
        "submitted_at": entered.submitted_at,
        "accepted_at": None if refusal else order.accepted_at,
        "expires_at": order.expires_at,
        "replaces": entered.replaces,
        "reject_reason": refusal and refusal.reason,
        "reject_message": refusal and refusal.message,
        "trace": order.trace,
        "epoch": entered.epoch,
    }


def _keys(orders: Sequence[Order]) -> Columns:
    return {"accounts": [order.account_id for order in orders], "ids": [order.id for order in orders]}


def _state(orders: Sequence[Order]) -> Columns:
    """What changes while an order is open."""
    waking = [wakes(order) if order.is_open else (None, None) for order in orders]
    return {
        "statuses": [order.status.value for order in orders],
        "qtys": numbers(order.qty for order in orders),
        "reserved": numbers(order.reserved for order in orders),
        "promised": numbers(order.promised for order in orders),
        "hwms": numbers(order.hwm for order in orders),
        "triggered": [order.triggered for order in orders],
        "active": [order.active_at for order in orders],
        "directions": [direction and direction.value for direction, _ in waking],
        "thresholds": numbers(threshold for _, threshold in waking),
    }


def add_orders(
    writes: Writes,
    orders: Sequence[Order],
    ends: Mapping[Key, Why],
    now: datetime,
) -> None:
    why = [ends.get(order.key, (None, None, None)) for order in orders]
    columns = {
        **_keys(orders),
        **_state(orders),
        "filled": numbers(order.filled_qty for order in orders),
        "averages": numbers(order.filled_avg_price for order in orders),
        "fills": [order.fills for order in orders],
        "fees": numbers(order.fees for order in orders),
        "cancels": [cancel for cancel, _, _ in why],
        "reasons": [reason for _, reason, _ in why],
        "messages": [message for _, _, message in why],
    }
    writes.add(_UPDATE_ORDERS, {**columns, "now": now})


_COLUMNS = """
account_id, id, client_order_id, symbol, side, type, time_in_force, extended_hours, qty, notional, limit_price,
stop_price, trail_price, trail_percent, hwm, triggered, active_at, direction, threshold, on_bar, status, reserved,
promised, carried, order_class, family, leg, strategy_id, submitted_at, accepted_at, expires_at, replaces,
reject_reason, reject_message, trace, epoch
"""
_ADD_ORDERS = f"""
WITH account AS (
  UPDATE orders.accounts SET cash = %(cash)s, reserved = %(reserved)s, sequence = %(sequence)s WHERE id = %(id)s
)
INSERT INTO orders.orders ({_COLUMNS}, updated_at)
SELECT {_COLUMNS}, %(now)s FROM json_populate_recordset(NULL::orders.orders, %(rows)s)
"""
_UPDATE_ORDERS = """
UPDATE orders.orders o SET
  status = v.status, qty = v.qty, reserved = v.reserved, promised = v.promised, hwm = v.hwm, triggered = v.triggered,
  active_at = v.active_at, direction = v.direction, threshold = v.threshold, filled_qty = v.filled,
  filled_avg_price = v.average, fills = v.fills, fees = v.fees, cancel_reason = v.cancel_reason,
  reject_reason = v.reason, reject_message = v.message, updated_at = %(now)s,
  filled_at = CASE v.status WHEN 'filled' THEN %(now)s ELSE o.filled_at END,
  canceled_at = CASE v.status WHEN 'canceled' THEN %(now)s ELSE o.canceled_at END,
  expired_at = CASE v.status WHEN 'expired' THEN %(now)s ELSE o.expired_at END
FROM unnest(
  %(accounts)b::uuid[], %(ids)b::uuid[], %(statuses)b::text[], %(qtys)s::numeric[], %(reserved)s::numeric[],
  %(promised)s::numeric[], %(hwms)s::numeric[], %(triggered)b::boolean[], %(active)b::timestamptz[],
  %(directions)b::text[], %(thresholds)s::numeric[], %(filled)s::numeric[], %(averages)s::numeric[], %(fills)b::int[],
  %(fees)s::numeric[], %(cancels)b::text[], %(reasons)b::text[], %(messages)b::text[])
  AS v (account_id, id, status, qty, reserved, promised, hwm, triggered, active_at, direction, threshold, filled,
        average, fills, fees, cancel_reason, reason, message)
WHERE o.account_id = v.account_id AND o.id = v.id
"""
_UPDATE_PRICES = """
UPDATE orders.orders o SET
  limit_price = v.limit_price, stop_price = v.stop_price, trail_price = v.trail_price, adjusted_at = %(now)s
FROM unnest(%(accounts)b::uuid[], %(ids)b::uuid[], %(limits)s::numeric[], %(stops)s::numeric[], %(trails)s::numeric[])
  AS v (account_id, id, limit_price, stop_price, trail_price)
WHERE o.account_id = v.account_id AND o.id = v.id
"""
_REPLACE = """
UPDATE orders.orders SET status = 'replaced', replaced_by = %(new)s, replaced_at = %(now)s, updated_at = %(now)s,
  reserved = 0, promised = 0, direction = NULL, threshold = NULL
WHERE account_id = %(account_id)s AND id = %(old)s
"""
