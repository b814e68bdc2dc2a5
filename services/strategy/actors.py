"""Handlers of strategy's messages."""

from services.strategy.usecases import change_strategies, control_strategies, follow_accounts
from shared.bus.actors import Actors
from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.account_risk import AccountHalted
from shared.contracts.strategy import ControlStrategy, CreateStrategy, ReviseStrategy

actors = Actors()


@actors.on(CreateStrategy, queue="strategy.commands")
def create_strategy(command: CreateStrategy, uow: UnitOfWork) -> None:
    change_strategies.create(uow, command)


@actors.on(ReviseStrategy, queue="strategy.commands")
def revise_strategy(command: ReviseStrategy, uow: UnitOfWork) -> None:
    change_strategies.revise(uow, command)


@actors.on(ControlStrategy, queue="strategy.commands")
def control_strategy(command: ControlStrategy, uow: UnitOfWork) -> None:
    control_strategies.control(uow, command)


@actors.on(AccountHalted, queue="strategy.accounts")
def pause_strategies(event: AccountHalted, uow: UnitOfWork) -> None:
    follow_accounts.pause_strategies(uow, event)
