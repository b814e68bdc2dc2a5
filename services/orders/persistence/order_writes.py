"""Writing orders that come in, change and end: one statement, however many rows."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from services.orders.persistence import accounts as account_store
from shared.exchange.matching.triggers import price_trigger
from shared.exchange.order import Account, Key, Order
from shared.exchange.refusal import Refusal
from shared.storage.driver import Call, numbers

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
    generation: int = 1


def entering(entered: Sequence[Entered], account: Account, now: datetime) -> list[Call]:
    """The statements that write orders of one account that came in, and the account with what they reserve."""
    return [(_ADD_ORDERS, {**_entered(entered), "now": now}), account_store.saving_accounts([account])]


def saving_ended(orders: Sequence[Order], reasons: Mapping[Key, str], now: datetime) -> Call:
    """The statement that writes orders that changed without a price; ``reasons`` says why the canceled ones ended."""
    return saving_orders(orders, {key: (reason, None, None) for key, reason in reasons.items()}, now)


def saving_split(orders: Sequence[Order], now: datetime) -> list[Call]:
    """The statements that write orders whose quantities and prices are of other shares now."""
    prices = {
        **_keys(orders),
        "limits": numbers(order.limit_price for order in orders),
        "stops": numbers(order.stop_price for order in orders),
        "trails": numbers(order.trail_price for order in orders),
        "now": now,
    }
    return [saving_orders(orders, {}, now), (_UPDATE_PRICES, prices)]


def replacing(old: UUID, entered: Entered, account: Account, now: datetime) -> list[Call]:
    """The statements that write the order that goes on, the account, and in the old order the id of its successor."""
    return [
        (_REPLACE, {"account_id": account.id, "old": old, "new": entered.order.id, "now": now}),
        (_ADD_ORDERS, {**_entered([entered]), "now": now}),
        account_store.saving_accounts([account]),
    ]


def _entered(entered: Sequence[Entered]) -> Columns:
    orders = [each.order for each in entered]
    refusals = [each.refusal for each in entered]
    return {
        **_keys(orders),
        **_state(orders),
        "client_ids": [each.client_order_id for each in entered],
        "symbols": [order.symbol for order in orders],
        "sides": [order.side.value for order in orders],
        "types": [order.type.value for order in orders],
        "times": [order.time_in_force.value for order in orders],
        "extended": [order.extended_hours for order in orders],
        "notionals": numbers(order.notional for order in orders),
        "limits": numbers(order.limit_price for order in orders),
        "stops": numbers(order.stop_price for order in orders),
        "trails": numbers(order.trail_price for order in orders),
        "percents": numbers(order.trail_percent for order in orders),
        "carried": numbers(order.carried for order in orders),
        "classes": [order.order_class.value for order in orders],
        "order_groups": [order.order_group or order.id for order in orders],
        "legs": [order.leg and order.leg.value for order in orders],
        "strategies": [order.strategy_id for order in orders],
        "submitted": [each.submitted_at for each in entered],
        "accepted": [None if each.refusal else each.order.accepted_at for each in entered],
        "expires": [order.expires_at for order in orders],
        "on_bar": [each.on_bar for each in entered],
        "replaced": [each.replaces for each in entered],
        "reasons": [refusal and refusal.reason for refusal in refusals],
        "messages": [refusal and refusal.message for refusal in refusals],
        "traces": [order.trace for order in orders],
        "generations": [each.generation for each in entered],
        "days": [order.auction_day for order in orders],
        "dues": [order.auction_at for order in orders],
        "currencies": [order.currency for order in orders],
    }


def _keys(orders: Sequence[Order]) -> Columns:
    return {"accounts": [order.account_id for order in orders], "ids": [order.id for order in orders]}


def _state(orders: Sequence[Order]) -> Columns:
    """What changes while an order is open."""
    waking = [price_trigger(order) if order.is_open else (None, None) for order in orders]
    return {
        "statuses": [order.status.value for order in orders],
        "qtys": numbers(order.qty for order in orders),
        "reserved": numbers(order.reserved for order in orders),
        "held_for_orders": numbers(order.held_for_orders for order in orders),
        "hwms": numbers(order.hwm for order in orders),
        "triggered": [order.triggered for order in orders],
        "active": [order.active_at for order in orders],
        "directions": [trigger_direction and trigger_direction.value for trigger_direction, _ in waking],
        "thresholds": numbers(trigger_price for _, trigger_price in waking),
    }


def saving_orders(orders: Sequence[Order], ends: Mapping[Key, Why], now: datetime) -> Call:
    """The statement that writes what changes while an order is open; ``ends`` says why the ended ones ended."""
    why = [ends.get(order.key, (None, None, None)) for order in orders]
    columns = {
        **_keys(orders),
        **_state(orders),
        "filled": numbers(order.filled_qty for order in orders),
        "averages": numbers(order.filled_avg_price for order in orders),
        "rates": numbers(order.filled_avg_rate for order in orders),
        "fills": [order.fills for order in orders],
        "fees": numbers(order.fees for order in orders),
        "cancels": [cancel for cancel, _, _ in why],
        "reasons": [reason for _, reason, _ in why],
        "messages": [message for _, _, message in why],
    }
    return _UPDATE_ORDERS, {**columns, "now": now}


_ADD_ORDERS = """
INSERT INTO orders.orders (
  account_id, id, client_order_id, symbol, side, type, time_in_force, extended_hours, qty, notional, limit_price,
  stop_price, trail_price, trail_percent, hwm, triggered, active_at, trigger_direction, trigger_price, on_bar,
  status, reserved,
  held_for_orders, carried, order_class, order_group, leg, strategy_id, submitted_at, accepted_at, expires_at, replaces,
  reject_reason, reject_message, trace, generation, auction_day, auction_at, currency, updated_at)
SELECT v.*, %(now)s FROM unnest(
  %(accounts)b::uuid[], %(ids)b::uuid[], %(client_ids)b::text[], %(symbols)b::text[], %(sides)b::text[],
  %(types)b::text[], %(times)b::text[], %(extended)b::boolean[], %(qtys)s::numeric[], %(notionals)s::numeric[],
  %(limits)s::numeric[], %(stops)s::numeric[], %(trails)s::numeric[], %(percents)s::numeric[], %(hwms)s::numeric[],
  %(triggered)b::boolean[], %(active)b::timestamptz[], %(directions)b::text[], %(thresholds)s::numeric[],
  %(on_bar)b::boolean[], %(statuses)b::text[], %(reserved)s::numeric[], %(held_for_orders)s::numeric[],
  %(carried)s::numeric[],
  %(classes)b::text[], %(order_groups)b::uuid[], %(legs)b::text[], %(strategies)b::uuid[], %(submitted)b::timestamptz[],
  %(accepted)b::timestamptz[], %(expires)b::timestamptz[], %(replaced)b::uuid[], %(reasons)b::text[],
  %(messages)b::text[], %(traces)b::text[], %(generations)b::int[], %(days)b::date[], %(dues)b::timestamptz[],
  %(currencies)b::text[]) AS v
"""
_UPDATE_ORDERS = """
UPDATE orders.orders o SET
  status = v.status, qty = v.qty, reserved = v.reserved, held_for_orders = v.held_for_orders, hwm = v.hwm, triggered
  = v.triggered,
  active_at = v.active_at, trigger_direction = v.trigger_direction, trigger_price = v.trigger_price, filled_qty =
  v.filled,
  filled_avg_price = v.average, filled_avg_rate = v.rate, fills = v.fills, fees = v.fees,
  cancel_reason = v.cancel_reason, reject_reason = v.reason, reject_message = v.message, updated_at = %(now)s,
  filled_at = CASE v.status WHEN 'filled' THEN %(now)s ELSE o.filled_at END,
  canceled_at = CASE v.status WHEN 'canceled' THEN %(now)s ELSE o.canceled_at END,
  expired_at = CASE v.status WHEN 'expired' THEN %(now)s ELSE o.expired_at END
FROM unnest(
  %(accounts)b::uuid[], %(ids)b::uuid[], %(statuses)b::text[], %(qtys)s::numeric[], %(reserved)s::numeric[],
  %(held_for_orders)s::numeric[], %(hwms)s::numeric[], %(triggered)b::boolean[], %(active)b::timestamptz[],
  %(directions)b::text[], %(thresholds)s::numeric[], %(filled)s::numeric[], %(averages)s::numeric[], %(fills)b::int[],
  %(fees)s::numeric[], %(cancels)b::text[], %(reasons)b::text[], %(messages)b::text[], %(rates)s::numeric[])
  AS v (account_id, id, status, qty, reserved, held_for_orders, hwm, triggered, active_at, trigger_direction,
  trigger_price, filled,
        average, fills, fees, cancel_reason, reason, message, rate)
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
  reserved = 0, held_for_orders = 0, trigger_direction = NULL, trigger_price = NULL
WHERE account_id = %(account_id)s AND id = %(old)s
"""
