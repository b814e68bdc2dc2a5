"""Handlers of valuation's messages: a price or a fill changes what accounts are worth."""

from services.valuation import account_alerts, account_risk, values
from shared.bus.actors import Actors
from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.account_alerts import SetAlertRules
from shared.contracts.account_risk import SetRiskLimits
from shared.contracts.orders import OrderFilled
from shared.contracts.prices import PricesUpdated

actors = Actors()


@actors.on(PricesUpdated, queue="valuation.prices")
def value_holders(event: PricesUpdated, uow: UnitOfWork) -> None:
    values.mark(uow, event.prices)


@actors.on(OrderFilled, queue="valuation.fills")
def value_account(event: OrderFilled, uow: UnitOfWork) -> None:
    values.publish_values(uow, values.values_of(uow.connection, [event.account_id]))


@actors.on(SetAlertRules, queue="valuation.commands")
def set_alert_rules(command: SetAlertRules, uow: UnitOfWork) -> None:
    account_alerts.set_rules(uow, command)


@actors.on(SetRiskLimits, queue="valuation.commands")
def set_risk_limits(command: SetRiskLimits, uow: UnitOfWork) -> None:
    account_risk.set_limits(uow, command)
