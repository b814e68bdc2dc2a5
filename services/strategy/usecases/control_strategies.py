"""Start, pause, resume and stop strategies, and close their positions."""

from dataclasses import replace

from services.strategy.persistence import market, strategies
from services.strategy.persistence.strategies import StrategyRow
from services.strategy.strategies.protections import Watch
from services.strategy.usecases.change_strategies import Answer, Refused, answer, check, refuse, unknown
from services.strategy.usecases.flatten import flatten
from services.strategy.usecases.follow_accounts import why_halted
from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.strategy import Control, ControlStrategy, StrategyState

#: The states in which each action is possible, and the state that it leads to.
_FROM = {
    Control.START: {StrategyState.CREATED, StrategyState.STOPPED, StrategyState.RUNNING},
    Control.PAUSE: {StrategyState.RUNNING, StrategyState.PAUSED},
    Control.RESUME: {StrategyState.PAUSED, StrategyState.RUNNING},
    Control.STOP: set(StrategyState),
}
_TO = {
    Control.START: StrategyState.RUNNING,
    Control.PAUSE: StrategyState.PAUSED,
    Control.RESUME: StrategyState.RUNNING,
    Control.STOP: StrategyState.STOPPED,
}


def control(uow: UnitOfWork, command: ControlStrategy) -> Answer:
    """Do what the command wants, publish and return the answer. An action that changes nothing succeeds."""
    before = strategies.lock(uow.connection, [command.strategy_id]).get(command.strategy_id)
    if before is None:
        return refuse(uow, command, unknown(command))
    if command.action is Control.FLATTEN:
        flatten(uow, before, command.request_id)
        return answer(uow, command, before)
    try:
        after = _moved(uow, before, command)
    except Refused as refused:
        return refuse(uow, command, refused)
    if after != before:
        after = strategies.save(uow.connection, before, after, uow.now)
    return answer(uow, command, after)


def _moved(uow: UnitOfWork, before: StrategyRow, command: ControlStrategy) -> StrategyRow:
    """The strategy in its new state. Raises Refused where the action is not possible in the present one."""
    if before.state not in _FROM[command.action]:
        hint = {StrategyState.PAUSED: "resume it", StrategyState.CREATED: "start it", StrategyState.STOPPED: "start it"}
        why = f"the strategy is {before.state}, {hint.get(before.state, 'pause or stop it')} instead"
        raise Refused("state", f"state: cannot {command.action}: {why}", "conflict")
    to = _TO[command.action]
    if to is before.state:
        return before
    if to is not StrategyState.RUNNING:
        return replace(before, state=to, state_reason=command.reason)
    checked = check(uow.connection, before)
    account = market.accounts(uow.connection, [before.account_id]).get(before.account_id)
    if account is not None and (halted := why_halted(account)) is not None:
        raise Refused("account_id", f"account_id: {halted}; resume the account, then the strategy", "conflict")
    watch = Watch(since=uow.now)
    return replace(checked, state=to, failures=0, watch=watch, state_reason=None, evaluated_at=uow.now)
