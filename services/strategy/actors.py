"""Handlers of strategy's messages."""

from services.strategy.rebalancing import start
from services.strategy.usecases import change_strategies, control_strategies, follow_accounts
from shared.bus.actors import Actors
from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.account_risk import AccountHalted
from shared.contracts.rebalancing import CancelRebalance, KeepTargets, PlanRebalance, StartRebalance
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


@actors.on(PlanRebalance, queue="strategy.commands")
def plan_rebalance(command: PlanRebalance, uow: UnitOfWork) -> None:
    start.preview(uow, command)


@actors.on(StartRebalance, queue="strategy.commands")
def start_rebalance(command: StartRebalance, uow: UnitOfWork) -> None:
    start.start(uow, command)


@actors.on(CancelRebalance, queue="strategy.commands")
def cancel_rebalance(command: CancelRebalance, uow: UnitOfWork) -> None:
    start.cancel(uow, command)


@actors.on(KeepTargets, queue="strategy.commands")
def keep_targets(command: KeepTargets, uow: UnitOfWork) -> None:
    start.keep(uow, command)
