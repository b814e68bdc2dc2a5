"""The strategies of an account that is halted are paused, each with a decision that says so."""

from dataclasses import replace

from services.strategy.persistence import decisions, market, strategies
from services.strategy.persistence.decisions import EVERY, DecisionRow
from services.strategy.persistence.market import AccountRow
from services.strategy.strategies.judgement import Outcome
from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.account_risk import AccountHalted
from shared.contracts.strategy import StrategyState


def why_halted(account: AccountRow) -> str | None:
    """The reason why strategies on the account do not run, or None."""
    return None if account.halt_reason is None else f"account_halted: {account.halt_reason}"


def pause_strategies(uow: UnitOfWork, event: AccountHalted) -> int:
    """Pause the running strategies of the account. Returns their number.

    An event about a halt that is over pauses nothing.
    """
    account = market.accounts(uow.connection, [event.account_id]).get(event.account_id)
    if account is None or account.halt_id != event.halt_id or (why := why_halted(account)) is None:
        return 0
    found = strategies.lock_running_of(uow.connection, event.account_id)
    paused = [replace(row, state=StrategyState.PAUSED, state_reason=why) for row in found]
    if paused:
        rows = [
            DecisionRow(
                strategy_id=row.id,
                symbol=EVERY,
                version=row.version,
                action="hold",
                outcome=Outcome.BLOCKED,
                reason=f"The strategy was paused: {why}",
                equity=account.equity,
            )
            for row in paused
        ]
        decisions.add(uow.connection, event.halt_id, rows, uow.now)
        strategies.save_paused(uow.connection, paused, uow.now)
    return len(paused)
