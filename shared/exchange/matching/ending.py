"""Ending orders without a price: a cancel, an expiry or a reset, with its effect on their order groups."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from uuid import UUID

from shared.contracts.orders import OrderStatus
from shared.exchange.matching.contingent_orders import after_end, by_order_group
from shared.exchange.order import Account, Key, Order, released


@dataclass
class Ending:
    """The newest of all orders that changed. ``ended`` are those asked for, ``canceled`` the others of their groups."""

    orders: dict[Key, Order] = field(default_factory=dict)
    ended: list[Order] = field(default_factory=list)
    canceled: list[Order] = field(default_factory=list)


def end(
    ending: Sequence[Order],
    status: OrderStatus,
    open_orders: Iterable[Order],
    accounts: dict[UUID, Account],
    now: datetime,
) -> Ending:
    """End these orders. ``open_orders`` are all of their groups. ``accounts`` get back the amounts reserved."""
    known = {order.key: order for order in open_orders}
    order_groups = by_order_group(known.values())
    result = Ending()
    for order in ending:
        _keep(released(order, status), known, accounts, result)
        result.ended.append(result.orders[order.key])
    for order in ending:
        keys = order_groups[order.account_id, order.order_group] if order.order_group is not None else []
        for other in after_end(order, [known[key] for key in keys], now):
            _keep(other, known, accounts, result)
            if not other.is_open:
                result.canceled.append(other)
    return result


def _keep(order: Order, known: dict[Key, Order], accounts: dict[UUID, Account], result: Ending) -> None:
    account = accounts[order.account_id]
    freed = known[order.key].reserved - order.reserved
    accounts[account.id] = replace(account, reserved=account.reserved - freed)
    known[order.key] = result.orders[order.key] = order
