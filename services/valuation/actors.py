"""Handlers of valuation's messages: a price or a fill changes what accounts are worth."""

from collections.abc import Sequence

from services.valuation import values
from shared.bus.actors import Actors
from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.orders import OrderFilled
from shared.contracts.prices import PricesUpdated
from shared.contracts.valuation import AccountsValued, AccountValue
from shared.observability.progress import valued

actors = Actors()


@actors.on(PricesUpdated, queue="valuation.prices")
def value_holders(event: PricesUpdated, uow: UnitOfWork) -> None:
    publish_values(uow, values.values_of_holders(uow.connection, [price.symbol for price in event.prices]))
    uow.at_commit(valued(max(price.quoted_at for price in event.prices), uow.now))


@actors.on(OrderFilled, queue="valuation.fills")
def value_account(event: OrderFilled, uow: UnitOfWork) -> None:
    publish_values(uow, values.values_of(uow.connection, [event.account_id]))


def publish_values(uow: UnitOfWork, accounts: Sequence[AccountValue]) -> None:
    """Publish the accounts' values as one event, where there are any."""
    if accounts:
        uow.publish(AccountsValued(values=tuple(accounts), at=uow.now))
