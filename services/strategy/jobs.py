"""The jobs of strategy."""

from datetime import datetime
from uuid import UUID, uuid5

from services.strategy import store
from services.strategy.domain.sma_crossover import Decision, decide
from services.strategy.store import Look
from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.orders import OrderType, Side, SubmitOrder, TimeInForce
from shared.contracts.strategy import Action, SignalGenerated
from shared.jobs.conditions import prices_younger_than
from shared.jobs.declaration import Jobs
from shared.jobs.maintenance import prune
from shared.jobs.run_context import Counts, RunContext

jobs = Jobs("strategy")


@jobs.job(
    "trading_bot",
    schedule="1h",
    market_hours_only=True,
    priority="low",
    when=prices_younger_than("5m"),
    description="Let every enabled strategy look at its symbols, and send the orders it decides on.",
)
def trading_bot(run: RunContext) -> Counts:
    decided = signals = 0
    with run.context.unit_of_work() as uow:
        for strategy in store.enabled_strategies(uow.connection):
            decisions = [
                (look, decide(look.closes, look.holding, strategy.rules))
                for look in store.looks(uow.connection, strategy, uow.now)
            ]
            new = store.add_decisions(uow.connection, run.id, decisions, uow.now)
            signals += sum(_act(uow, run.id, look, decision) for look, decision in decisions if look.symbol in new)
            decided += len(new)
    return {"decisions": decided, "signals": signals}


@jobs.job(
    "maintain_strategy",
    schedule="30 4 * * *",
    priority="low",
    time_limit="1h",
    alert_runtime="30m",
    description="Remove old rows of the bus and of the job engine.",
)
def maintain_strategy(run: RunContext) -> Counts:
    return prune(run)


def _act(uow: UnitOfWork, run_id: UUID, look: Look, decision: Decision) -> bool:
    """Turn a decision to trade into a signal and an order, once per bar."""
    if decision.action is Action.HOLD or look.bar_at is None:
        return False
    signal_id = uuid5(look.strategy.id, f"{look.symbol}/{look.bar_at.isoformat()}")
    if not store.add_signal(uow.connection, signal_id, look, decision, uow.now):
        return False
    uow.publish(_signal(signal_id, look, decision, look.bar_at))
    uow.publish(_order(signal_id, look, decision, uow.now), message_id=signal_id)
    store.note_order(uow.connection, run_id, look, signal_id)
    return True


def _signal(signal_id: UUID, look: Look, decision: Decision, bar_at: datetime) -> SignalGenerated:
    return SignalGenerated(
        signal_id=signal_id,
        strategy_id=look.strategy.id,
        account_id=look.strategy.account_id,
        symbol=look.symbol,
        action=decision.action,
        price=look.closes[-1],
        bar_at=bar_at,
        reason=decision.reason,
    )


def _order(order_id: UUID, look: Look, decision: Decision, now: datetime) -> SubmitOrder:
    return SubmitOrder(
        account_id=look.strategy.account_id,
        order_id=order_id,
        client_order_id=f"{look.strategy.name}-{order_id}",
        symbol=look.symbol,
        side=Side(decision.action),
        type=OrderType.MARKET,
        time_in_force=TimeInForce.DAY,
        qty=decision.qty,
        submitted_at=now,
        strategy_id=look.strategy.id,
    )
