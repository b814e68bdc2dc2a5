"""What valuation does with each message."""

from collections.abc import Sequence
from uuid import UUID

from services.valuation import store
from shared.bus.actors import Actors
from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.orders import OrderFilled
from shared.contracts.prices import PricesUpdated
from shared.contracts.valuation import AccountsValued

actors = Actors()


@actors.on(PricesUpdated, queue="valuation.prices")
def value_holders(event: PricesUpdated, uow: UnitOfWork) -> None:
    holders = store.holders_of(uow.connection, [price.symbol for price in event.prices])
    revalue_and_say(uow, holders)


@actors.on(OrderFilled, queue="valuation.fills")
def value_account(event: OrderFilled, uow: UnitOfWork) -> None:
    revalue_and_say(uow, [event.account_id])


def revalue_and_say(uow: UnitOfWork, accounts: Sequence[UUID] | None) -> int:
    """Revalue these accounts (None: all) and publish what they are worth now; the number of them."""
    if accounts is not None and not accounts:
        return 0
    values = store.revalue(uow.connection, accounts, uow.now)
    if values:
        uow.publish(AccountsValued(values=tuple(values), at=uow.now))
    return len(values)
