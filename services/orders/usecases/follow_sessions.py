"""Open orders follow a market whose sessions have changed: day orders end with their day, others move to their auction.

Each order gets the end that it would have got if the sessions had been these when it was accepted. An order whose day
has become shorter than now is over, and the next run of ``expire_orders`` ends it.
"""

from services.orders.persistence.accounts import lock_accounts
from services.orders.persistence.orders import lock_open_orders, saving_sessions
from services.orders.persistence.trading_days import days_of_market, order_groups_of_market
from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.sessions import SessionsChanged
from shared.exchange.trading_days import rescheduled


def follow_sessions(uow: UnitOfWork, event: SessionsChanged) -> int:
    """Reschedule the open day and auction orders of the market, and return the number of those that changed."""
    order_groups = order_groups_of_market(uow.connection, event.market)
    if not order_groups:
        return 0
    lock_accounts(uow.connection, {account for account, _ in order_groups})
    orders = lock_open_orders(uow.connection, order_groups)
    if not orders:
        return 0
    days = days_of_market(uow.connection, event.market, min(order.accepted_at for order in orders))
    pairs = [(order, rescheduled(order, days)) for order in orders]
    moved = [after for before, after in pairs if after != before]
    if moved:
        uow.run(saving_sessions(moved, uow.now))
    return len(moved)
