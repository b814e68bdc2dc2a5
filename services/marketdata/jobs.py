"""Jobs of marketdata."""

from datetime import timedelta
from functools import cache

from services.marketdata.calendars import compute_sessions
from services.marketdata.persistence import partitions
from services.marketdata.persistence.sessions import replace_sessions
from services.marketdata.providers.registry import make_provider
from services.marketdata.providers.stateful import StatefulProvider
from services.marketdata.settings import current
from services.marketdata.usecases import official_prices
from services.marketdata.usecases.corporate_actions import apply_due
from services.marketdata.usecases.update_indicators import Memory, update
from services.marketdata.usecases.update_prices import poll
from shared.contracts.markets import MARKETS
from shared.jobs.declaration import Jobs
from shared.jobs.maintenance import prune, remove
from shared.jobs.run_context import Counts, RunContext

jobs = Jobs("marketdata")

POLLED_INTERVAL = "1m"
POLLED_LENGTH = timedelta(minutes=1)
#: Sessions are corrected for this time back, and written for this time ahead.
SESSIONS_BACK = timedelta(days=7)
SESSIONS_AHEAD = timedelta(days=366)


@cache
def configured_provider() -> StatefulProvider:
    return make_provider(current().provider, seed=current().seed)


@jobs.job(
    "update_market_data",
    schedule="1m",
    priority="high",
    time_limit="50s",
    description="Fetch current prices from the provider, store them with their bars and publish them.",
)
def update_market_data(run: RunContext) -> Counts:
    provider = configured_provider()
    with run.context.unit_of_work() as uow:
        partitions.ensure_partitions(uow.connection, uow.now)
        if not provider.official:
            official_prices.record_closes(uow)
    return {"prices_written": poll(run.context, provider, interval=POLLED_INTERVAL, length=POLLED_LENGTH)}


@jobs.job(
    "apply_corporate_actions",
    schedule="1m",
    priority="high",
    time_limit="1m",
    description="Apply splits and dividends that are due, also where no new price comes.",
)
def apply_corporate_actions(run: RunContext) -> Counts:
    with run.context.unit_of_work() as uow:
        return {"actions_applied": apply_due(uow)}


@jobs.job(
    "update_sessions",
    schedule="1d",
    time_limit="5m",
    description="Write the sessions of every market for a year ahead, and correct what has changed in their calendars.",
)
def update_sessions(run: RunContext) -> Counts:
    first, last = (run.now - SESSIONS_BACK).date(), (run.now + SESSIONS_AHEAD).date()
    markets = [market for market in MARKETS.values() if not market.always_open]
    sessions = compute_sessions(markets, first, last)
    run.progress(len(markets), len(markets))
    codes = [market.code for market in markets]
    with run.context.unit_of_work() as uow:
        written, removed = replace_sessions(uow.connection, codes, first, last, sessions)
    return {"sessions_written": written, "sessions_removed": removed}


@cache
def remembered_series() -> Memory:
    """The bars that this process keeps in memory for its indicators."""
    return Memory()


@jobs.job(
    "update_indicators",
    schedule="1m",
    time_limit="10m",
    description="Compute the indicators of the bars that have closed, and again those of bars that were changed.",
)
def update_indicators(run: RunContext) -> Counts:
    keep = current().keep_indicator_bars
    return update(run.context, remembered_series(), keep_bars=keep, progress=run.progress)


@jobs.job(
    "maintain_market_data",
    schedule="0 4 * * *",
    priority="low",
    time_limit="1h",
    alert_runtime="30m",
    description="Remove old bars, but not daily and recorded ones, and old rows of the bus and of the job engine.",
)
def maintain_market_data(run: RunContext) -> Counts:
    keep, keep_demo = timedelta(days=current().keep_bars_days), timedelta(days=current().keep_demo_bars_days)
    with run.context.unit_of_work() as uow:
        partitions.ensure_partitions(uow.connection, uow.now)
        months = partitions.old_months(uow.connection, uow.now - keep)
        months += [m for m in partitions.old_demo_months(uow.connection, uow.now - keep_demo) if m not in months]
    kept = [partitions.thin_out(run.context, month, run.progress) for month in months]
    with run.context.engine.connect() as connection:
        old = [partitions.strays(keep), *partitions.old_demo_bars(connection, run.context.clock(), keep_demo)]
    strays = remove(run.context, old, run.progress)
    thinned = {"months_thinned": len(kept) - kept.count(None), "bars_kept": sum(filter(None, kept))}
    return {**thinned, **strays, **prune(run)}
