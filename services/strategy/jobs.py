"""The jobs of strategy."""

from datetime import timedelta
from uuid import UUID, uuid5

from services.strategy import store
from services.strategy.conditions import prices_younger_than
from services.strategy.domain.sma_crossover import Decision, decide
from services.strategy.store import SymbolView
from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.orders import OrderType, Side, SubmitOrder, TimeInForce
from shared.contracts.strategy import Action, SignalGenerated
from shared.jobs.declaration import Jobs
from shared.jobs.maintenance import OldRows, prune, remove
from shared.jobs.run_context import Counts, RunContext

jobs = Jobs("strategy")

#: The next decision reads those of the last day. A signal stops a second trade on its bar, which is long past.
OWN = (
    OldRows("strategy.decisions", "at < :before", timedelta(days=30)),
    OldRows("strategy.trading_signals", "at < :before", timedelta(days=90)),
)


@jobs.job(
    "trading_bot",
    schedule="1h",
    market_hours_only=True,
    priority="low",
    when=prices_younger_than("5m"),
    description="Let every enabled strategy decide on each of its symbols, and send its orders.",
)
def trading_bot(run: RunContext) -> Counts:
    """Decide once per run and symbol, and trade at most once per bar, even if the run is repeated."""
    decisions = signals = 0
    with run.context.unit_of_work() as uow:
        for strategy in store.enabled_strategies(uow.connection):
            views = store.symbol_views(uow.connection, strategy, uow.now)
            decided = [(view, decide(view.closes, view.holding, strategy.rules)) for view in views]
            new = store.add_decisions(uow.connection, run.id, decided, uow.now)
            decisions += len(new)
            signals += sum(_trade(uow, run.id, view, decision) for view, decision in decided if view.symbol in new)
    return {"decisions": decisions, "signals": signals}


def _trade(uow: UnitOfWork, run_id: UUID, view: SymbolView, decision: Decision) -> bool:
    """Turn a decision to trade into a signal and an order, once per bar. False if there is nothing to send."""
    if decision.action is Action.HOLD or view.bar_at is None:
        return False
    strategy = view.strategy
    signal_id = uuid5(strategy.id, f"{view.symbol}/{view.bar_at.isoformat()}")
    if not store.add_signal(uow.connection, signal_id, view, decision, uow.now):
        return False
    signal = SignalGenerated(
        signal_id=signal_id,
        strategy_id=strategy.id,
        account_id=strategy.account_id,
        symbol=view.symbol,
        action=decision.action,
        price=view.closes[-1],
        bar_at=view.bar_at,
        reason=decision.reason,
    )
    order = SubmitOrder(
        account_id=strategy.account_id,
        order_id=signal_id,
        client_order_id=f"{strategy.name}-{signal_id}",
        symbol=view.symbol,
        side=Side(decision.action),
        type=OrderType.MARKET,
        time_in_force=TimeInForce.DAY,
        qty=decision.qty,
        submitted_at=uow.now,
        strategy_id=strategy.id,
    )
    uow.publish(signal)
    uow.publish(order, message_id=signal_id)
    store.record_order(uow.connection, run_id, view, order.order_id)
    return True


@jobs.job(
    "maintain_strategy",
    schedule="30 4 * * *",
    priority="low",
    time_limit="1h",
    alert_runtime="30m",
    description="Remove old decisions and signals, and old rows of the bus and of the job engine.",
)
def maintain_strategy(run: RunContext) -> Counts:
    """Remove old rows. Raises RunCanceled and RunInterrupted between two batches."""
    return {**remove(run.context, OWN, run.progress), **prune(run)}
