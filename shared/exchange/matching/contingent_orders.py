"""Brackets and their kin: what the fill or the end of one order does to the others of its order_group.

The exits of an entry are held until it has filled; then the two, and those of an oco order, share one quantity: what
one fills, the other no longer can. What an entry has bought so far, it promises to its exits: nobody else may sell it,
and when the entry ends with that part they are left for it.
"""

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal

from shared.contracts.orders import OrderStatus
from shared.exchange.order import Key, Leg, Order
from shared.exchange.values import changed
from shared.money import ZERO


def released(order: Order, status: OrderStatus) -> Order:
    """The order ended: nothing is reserved or held_for_orders for it any more."""
    return changed(order, status=status, reserved=ZERO, held_for_orders=ZERO)


def by_order_group(orders: Iterable[Order]) -> dict[Key, list[Key]]:
    """The orders of each (account, order_group), by their keys; simple orders are in none."""
    found: dict[Key, list[Key]] = {}
    for order in orders:
        if order.order_group is not None:
            found.setdefault((order.account_id, order.order_group), []).append(order.key)
    return found


def after_fill(before: Order, after: Order, order_group: Iterable[Order], at: datetime) -> list[Order]:
    """What becomes of the others when an order has filled some more; only those that change."""
    if before.order_group is None:
        return []
    others, qty = _others(before, order_group), after.filled_qty - before.filled_qty
    if before.leg is None:
        return _activated(others, before.held_for_orders + qty, at) if after.status is OrderStatus.FILLED else []
    return [_smaller(other, qty) for other in others if other.leg is not None]


def after_end(before: Order, order_group: Iterable[Order], at: datetime) -> list[Order]:
    """What becomes of the others when an order ends that was so far; only those that change."""
    if before.order_group is None:
        return []
    others = _others(before, order_group)
    if before.is_entry and before.held_for_orders:
        return _activated(others, before.held_for_orders, at)
    return [released(other, OrderStatus.CANCELED) for other in others]


def _others(order: Order, order_group: Iterable[Order]) -> list[Order]:
    return [other for other in order_group if other.id != order.id and other.is_open]


def _activated(exits: list[Order], qty: Decimal, at: datetime) -> list[Order]:
    """The exits work from now on; only later quotes fill them. Two of them promise the same shares, once."""
    both = len(exits) > 1
    return [
        changed(
            leg,
            qty=qty,
            status=OrderStatus.ACCEPTED,
            active_at=max(at, leg.active_at),
            held_for_orders=ZERO if both and leg.leg is Leg.STOP_LOSS else qty,
        )
        for leg in exits
        if leg.status is OrderStatus.HELD
    ]


def _smaller(leg: Order, by: Decimal) -> Order:
    qty = (leg.qty or ZERO) - by
    if qty <= leg.filled_qty:
        return released(leg, OrderStatus.CANCELED)
    return changed(leg, qty=qty, held_for_orders=max(leg.held_for_orders - by, ZERO))
