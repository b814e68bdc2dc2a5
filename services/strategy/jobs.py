"""The jobs of strategy."""

from datetime import timedelta
from uuid import UUID

from services.strategy import backtest_jobs, optimise_jobs
from services.strategy.conditions import prices_younger_than
from services.strategy.persistence import market, strategies
from services.strategy.rebalancing.schedule import rebalance_accounts
from services.strategy.usecases.evaluate import evaluate
from services.strategy.usecases.schedules import is_due
from shared.contracts.markets import DEFAULT_MARKET
from shared.jobs.declaration import Jobs
from shared.jobs.maintenance import OldRows, prune, remove
from shared.jobs.run_context import Counts, RunContext
from shared.markets import PublishedCalendar

jobs = Jobs("strategy")

#: The next decision reads those of the last day. A signal stops a second trade on its bar, which is long past.
OWN = (
    OldRows("strategy.decisions", "outcome = 'held' AND at < :before", timedelta(days=7)),
    OldRows("strategy.decisions", "at < :before", timedelta(days=30)),
    OldRows("strategy.trading_signals", "at < :before", timedelta(days=90)),
    OldRows("strategy.backtests", "at < :before", timedelta(days=90)),
    OldRows("strategy.backtest_trials", "at < :before", timedelta(days=90)),
    OldRows("strategy.rebalances", "state = 'planned' AND created_at < :before", timedelta(days=1)),
    OldRows("strategy.rebalances", "finished_at < :before", timedelta(days=365)),
)
_FRESH = prices_younger_than("5m")


@jobs.job(
    "trading_bot",
    schedule="1h",
    market_hours_only=True,
    priority="low",
    when=_FRESH,
    description="Let every running strategy without a schedule of its own decide, and send its orders.",
)
def trading_bot(run: RunContext) -> Counts:
    """Decide once per run and symbol, and trade at most once per bar, even if the run is repeated."""
    return evaluate(run.context, run.id, lambda row: row.schedule is None)


def some_schedule_is_due(run: RunContext) -> str | None:
    """Skip the runs in which no strategy is due by a schedule of its own, and those without fresh prices."""
    return _FRESH(run) if _due(run) else "no strategy is due"


@jobs.job(
    "trading_bot_schedules",
    schedule="5s",
    priority="low",
    when=some_schedule_is_due,
    description="Let the running strategies decide whose own schedules are due.",
)
def trading_bot_schedules(run: RunContext) -> Counts:
    """Evaluate each strategy once for all slots of its schedule that came since its last evaluation."""
    due = _due(run)
    return evaluate(run.context, run.id, lambda row: row.id in due)


def _due(run: RunContext) -> set[UUID]:
    """The ids of the strategies that are due by their own schedules, by the market of their first symbol."""
    with run.context.engine.begin() as connection:
        rows = strategies.running(connection, scheduled=True)
        known = market.instruments(connection, sorted({row.symbols[0] for row in rows})) if rows else {}
    calendar = PublishedCalendar(run.context.engine, run.context.clock)
    found = set()
    for row in rows:
        instrument = known.get(row.symbols[0])
        code = instrument.market if instrument is not None else DEFAULT_MARKET
        if is_due(row, calendar.market(code), run.now):
            found.add(row.id)
    return found


@jobs.job(
    "rebalance_accounts",
    schedule="5m",
    market_hours_only=True,
    priority="low",
    when=_FRESH,
    description="Rebalance the accounts that keep target weights, if a weight is outside of its band.",
)
def rebalance(run: RunContext) -> Counts:
    """Start at most one rebalance per account, also if the run is repeated, and let those under way go on."""
    return rebalance_accounts(run.context, run.id)


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


jobs.job(
    "backtest",
    priority="low",
    time_limit="1h",
    alert_runtime="1h",
    retries=1,
    backfill=False,
    parameters=backtest_jobs.BacktestParameters,
    description="Run a strategy over stored bars.",
)(backtest_jobs.backtest)
jobs.job(
    "optimise",
    priority="low",
    time_limit="1h",
    alert_runtime="1h",
    retries=1,
    backfill=False,
    parameters=optimise_jobs.OptimiseParameters,
    parts=optimise_jobs.parts_of_optimise,
    join=optimise_jobs.join_optimise,
    description="Run a strategy over stored bars with each of many sets of parameters.",
)(optimise_jobs.optimise)
