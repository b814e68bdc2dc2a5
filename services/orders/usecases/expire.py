"""Orders end without a price: they expire at the end of their time in force, or are canceled."""

from collections.abc import Sequence
from uuid import UUID

from services.orders.persistence.accounts import lock_accounts, saving_accounts
from services.orders.persistence.orders import End, expired_order_groups, lock_open_orders, saving_orders
from services.orders.persistence.trades import completing
from services.orders.settings import current
from services.orders.usecases.account_events import AccountEvents
from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.orders import OrderExpired, OrderStatus, TimeInForce
from shared.contracts.reasons import CancelReason
from shared.exchange.matching.ending import end
from shared.exchange.matching.matching import oldest_fresh
from shared.exchange.order import Account, Order

_AT_ONCE = {TimeInForce.IOC: CancelReason.IOC, TimeInForce.FOK: CancelReason.FOK}


def expire(uow: UnitOfWork) -> int:
    """End the orders whose time is over, and return the number of them. An ioc or fok order is canceled."""
    order_groups = expired_order_groups(uow.connection, uow.now, oldest_fresh(uow.now, current().rules))
    if not order_groups:
        return 0
    accounts = lock_accounts(uow.connection, {account for account, _ in order_groups})
    orders = lock_open_orders(uow.connection, order_groups)
    over = [order for order in orders if order.expires_at is not None and order.expires_at <= uow.now]
    for reason in (None, CancelReason.IOC, CancelReason.FOK):
        ending = [order for order in over if _AT_ONCE.get(order.time_in_force) is reason]
        if ending:
            end_orders(uow, ending, orders, accounts, reason)
    return len(over)


def end_orders(
    uow: UnitOfWork,
    ending: Sequence[Order],
    open_orders: Sequence[Order],
    accounts: dict[UUID, Account],
    reason: CancelReason | None = None,
) -> None:
    """Cancel these orders for the reason, or let them expire where there is none. Their accounts are saved, too.

    ``open_orders`` are all of their order groups. An order that ends with a part filled is a trade.
    """
    status = OrderStatus.EXPIRED if reason is None else OrderStatus.CANCELED
    result = end(ending, status, open_orders, accounts, uow.now)
    events = AccountEvents(uow, accounts)
    ends = {}
    for order in result.ended:
        if reason is None:
            events.emit(OrderExpired, order.account_id, trace=order.trace, order_id=order.id)
        else:
            events.canceled(order, reason)
            ends[order.key] = End(cancel_reason=reason)
    for order in result.canceled:
        events.canceled(order, CancelReason.ORDER_GROUP)
        ends[order.key] = End(cancel_reason=CancelReason.ORDER_GROUP)
    changed = list(result.orders.values())
    concerned = [accounts[id_] for id_ in {order.account_id for order in ending}]
    uow.run(saving_orders(changed, ends, uow.now), saving_accounts(concerned), *completing(changed))
