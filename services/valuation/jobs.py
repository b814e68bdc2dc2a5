"""The jobs of valuation."""

from datetime import timedelta

from services.valuation import store
from services.valuation.actors import revalue_and_say
from services.valuation.domain.trading_day import TradingDay, trading_day
from shared.bus.unit_of_work import UnitOfWork
from shared.jobs.declaration import Jobs
from shared.jobs.maintenance import prune
from shared.jobs.run_context import Counts, RunContext
from shared.markets import load_markets

jobs = Jobs("valuation")

ONE_DAY = timedelta(days=1)
#: No market is closed for longer.
LONGEST_CLOSURE = timedelta(days=30)


@jobs.job(
    "update_positions",
    schedule="10m",
    description="Value every position and account at current prices, and keep an account summary.",
)
def update_positions(run: RunContext) -> Counts:
    with run.context.unit_of_work() as uow:
        accounts, positions = store.snapshot(uow.connection, run.id, uow.now)
        revalue_and_say(uow, None)
    return {"accounts_valued": accounts, "positions_valued": positions}


@jobs.job(
    "summarize_day",
    schedule="5m after close",
    description="Sum up the trading day of every account: its value at the close, and what the day brought.",
)
def summarize_day(run: RunContext) -> Counts:
    with run.context.unit_of_work() as uow:
        day = _trading_day(uow, run)
        if day.until == uow.now:
            store.snapshot(uow.connection, run.id, uow.now)
        summaries = store.summarize(uow.connection, run.id, day)
    return {"accounts_summarized": summaries}


def _trading_day(uow: UnitOfWork, run: RunContext) -> TradingDay:
    begin, end = (run.slot or uow.now) - LONGEST_CLOSURE, uow.now + ONE_DAY
    market = load_markets(uow.connection, [run.market], begin, end)[run.market]
    return trading_day(market.closes(begin, end), run.slot, uow.now, market.zone)


@jobs.job(
    "maintain_valuation",
    schedule="20 4 * * *",
    priority="low",
    time_limit="1h",
    alert_runtime="30m",
    description="Remove old rows of the bus and of the job engine.",
)
def maintain_valuation(run: RunContext) -> Counts:
    return prune(run)
