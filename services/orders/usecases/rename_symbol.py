"""A symbol changes: positions, lots, orders and the whole history of the books move to the new one.

No quantity, cost or price changes. The books would not add up if only what is open moved, so all of it does.
"""

from services.orders.persistence import renaming
from services.orders.persistence.accounts import accounts_in, lock_accounts, saving_accounts
from services.orders.persistence.holdings import lots_in
from services.orders.persistence.orders import lock_open_orders, open_order_groups_in
from services.orders.usecases.account_events import AccountEvents
from shared.bus.unit_of_work import UnitOfWork


def rename_symbol(uow: UnitOfWork, old: str, new: str) -> None:
    """Move everything, and announce the positions under both symbols. Prices of the two wait meanwhile."""
    accounts = lock_accounts(uow.connection, accounts_in(uow.connection, old))
    lots = lots_in(uow.connection, old)
    lock_open_orders(uow.connection, open_order_groups_in(uow.connection, old))
    renaming.move(uow.connection, old, new)
    events = AccountEvents(uow, accounts)
    for (account_id, _), held in lots.items():
        events.position(account_id, old, ())
        events.position(account_id, new, held)
    if accounts:
        uow.run(saving_accounts(list(accounts.values())))
