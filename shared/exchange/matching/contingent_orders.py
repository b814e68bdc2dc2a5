"""Contingent orders (bracket, oto, oco): the effect of one order's fill or end on the others of its group.

The exits of an entry are held until it has filled. From then on the two exits, like those of an oco order, share one
quantity: a fill of one reduces the other. The shares that an entry has bought so far are held for its exits, and no
other order may sell them. If the entry ends partly filled, the exits get those shares (Alpaca: orders-at-alpaca).
"""

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal

from shared.contracts.orders import OrderStatus
from shared.exchange.order import Key, Leg, Order, released
from shared.exchange.values import changed
from shared.money import ZERO


def by_order_group(orders: Iterable[Order]) -> dict[Key, list[Key]]:
    """The keys of the orders of each (account, order group). Simple orders are in no group."""
    found: dict[Key, list[Key]] = {}
    for order in orders:
        if order.order_group is not None:
            found.setdefault((order.account_id, order.order_group), []).append(order.key)
    return found


def after_fill(before: Order, after: Order, order_group: Iterable[Order], at: datetime) -> list[Order]:
    """The other orders of the group that change when an order fills (further)."""
    if before.order_group is None:
        return []
    others, qty = _others(before, order_group), after.filled_qty - before.filled_qty
    if before.leg is None:
        return _activated(others, before.held_for_orders + qty, at) if after.status is OrderStatus.FILLED else []
    return [
        released(exit_, OrderStatus.CANCELED)
        if exit_.qty is None or exit_.qty - qty <= exit_.filled_qty
        else changed(exit_, qty=exit_.qty - qty, held_for_orders=max(exit_.held_for_orders - qty, ZERO))
        for exit_ in others
        if exit_.leg is not None
    ]


def after_end(before: Order, order_group: Iterable[Order], at: datetime) -> list[Order]:
    """The other orders of the group that change when an order ends that was ``before`` until then."""
    if before.order_group is None:
        return []
    others = _others(before, order_group)
    if before.is_entry and before.held_for_orders:
        return _activated(others, before.held_for_orders, at)
    return [released(other, OrderStatus.CANCELED) for other in others]


def _others(order: Order, order_group: Iterable[Order]) -> list[Order]:
    return [other for other in order_group if other.id != order.id and other.is_open]


def _activated(exits: list[Order], qty: Decimal, at: datetime) -> list[Order]:
    """The exits, working from now on. Only later quotes fill them. Two exits hold the same shares, once."""
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
