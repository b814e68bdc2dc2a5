"""The jobs of strategy."""

from datetime import datetime
from uuid import UUID, uuid5

from services.strategy import store
from services.strategy.domain.sma_crossover import Decision, decide
from services.strategy.store import Look
from shared.bus.unit_of_work import Transaction
from shared.contracts.orders import OrderType, Side, SubmitOrder, TimeInForce
from shared.contracts.strategy import Action, SignalGenerated
from shared.jobs.conditions import prices_younger_than
from shared.jobs.declaration import Jobs
from shared.jobs.maintenance import prune
from shared.jobs.run_context import Counts, JobRun

jobs = Jobs("strategy")


@jobs.job(
    "trading_bot",
    schedule="1h",
    market_hours_only=True,
    priority="low",
    when=prices_younger_than("5m"),
    description="Let every enabled strategy look at its symbols, and send the orders it decides on.",
)
def trading_bot(run: JobRun) -> Counts:
    decided = signals = 0
    with run.unit.transaction() as tx:
        for strategy in store.enabled_strategies(tx.connection):
            decisions = [
                (look, decide(look.closes, look.holding, strategy.rules))
                for look in store.looks(tx.connection, strategy, tx.now)
            ]
            new = store.add_decisions(tx.connection, run.id, decisions, tx.now)
            signals += sum(_act(tx, run.id, look, decision) for look, decision in decisions if look.symbol in new)
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
def maintain_strategy(run: JobRun) -> Counts:
    return prune(run)


def _act(tx: Transaction, run_id: UUID, look: Look, decision: Decision) -> bool:
    """Turn a decision to trade into a signal and an order, once per bar."""
    if decision.action is Action.HOLD or look.bar_at is None:
        return False
    signal_id = uuid5(look.strategy.id, f"{look.symbol}/{look.bar_at.isoformat()}")
    if not store.add_signal(tx.connection, signal_id, look, decision, tx.now):
        return False
    tx.publish(_signal(signal_id, look, decision, look.bar_at))
    tx.publish(_order(signal_id, look, decision, tx.now), message_id=signal_id)
    store.note_order(tx.connection, run_id, look, signal_id)
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
