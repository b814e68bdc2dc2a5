"""Handlers of marketdata's messages."""

from services.marketdata.usecases import corporate_actions, halts, indicators, official_prices
from shared.bus.actors import Actors
from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.corporate_actions import EnterCorporateAction
from shared.contracts.halts import HaltTrading, ResumeTrading
from shared.contracts.indicators import AddIndicator, RemoveIndicator
from shared.contracts.official_prices import EnterOfficialPrice

actors = Actors()


@actors.on(EnterCorporateAction, queue="marketdata.commands")
def enter_corporate_action(command: EnterCorporateAction, uow: UnitOfWork) -> None:
    """Store the action, and apply it at once if it is due."""
    corporate_actions.enter(uow, command)
    corporate_actions.apply_due(uow)


@actors.on(EnterOfficialPrice, queue="marketdata.commands")
def enter_official_price(command: EnterOfficialPrice, uow: UnitOfWork) -> None:
    official_prices.enter(uow, command)


@actors.on(HaltTrading, queue="marketdata.commands")
def halt_trading(command: HaltTrading, uow: UnitOfWork) -> None:
    halts.halt(uow, command)


@actors.on(ResumeTrading, queue="marketdata.commands")
def resume_trading(command: ResumeTrading, uow: UnitOfWork) -> None:
    halts.resume(uow, command)


@actors.on(AddIndicator, queue="marketdata.commands")
def add_indicator(command: AddIndicator, uow: UnitOfWork) -> None:
    indicators.add(uow, command)


@actors.on(RemoveIndicator, queue="marketdata.commands")
def remove_indicator(command: RemoveIndicator, uow: UnitOfWork) -> None:
    indicators.remove(uow, command)
