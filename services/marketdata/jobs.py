"""Jobs of marketdata."""

from datetime import timedelta
from functools import cache, partial

from services.marketdata import history_jobs
from services.marketdata.calendars import compute_sessions
from services.marketdata.configured import configured_order, configured_provider
from services.marketdata.history_jobs import BackfillParameters, RollUpParameters
from services.marketdata.news.fetch import fetch
from services.marketdata.persistence import coverage, partitions
from services.marketdata.settings import Settings, current, polling
from services.marketdata.usecases import official_prices
from services.marketdata.usecases import update_sessions as sessions
from services.marketdata.usecases.choose_instruments import choose
from services.marketdata.usecases.corporate_actions import apply_due
from services.marketdata.usecases.fetch_actions import fetch_actions
from services.marketdata.usecases.fetch_prices import fetch_prices
from services.marketdata.usecases.name_indicators import follow_named
from services.marketdata.usecases.update_indicators import Memory, update
from services.marketdata.usecases.update_news import update_news as fetch_news
from services.marketdata.usecases.update_prices import poll
from shared.contracts.markets import MARKETS
from shared.indicators.bars import LENGTHS
from shared.jobs.declaration import Jobs
from shared.jobs.maintenance import OldRows, prune, remove
from shared.jobs.run_context import Counts, RunContext

jobs = Jobs("marketdata")

POLLED_INTERVAL = "1m"
POLLED_LENGTH = timedelta(minutes=1)
#: Sessions are corrected for this time back, and written for this time ahead.
SESSIONS_BACK = timedelta(days=7)
SESSIONS_AHEAD = timedelta(days=366)


def old_values(settings: Settings) -> list[OldRows]:
    """The values of indicators that are no longer kept, by the interval of their bars."""
    kept = {interval: settings.keep_indicator_bars * length for interval, length in LENGTHS.items()}
    table = "marketdata.indicator_values"
    return [OldRows(table, f"interval = '{each}' AND start_at < :before", keep) for each, keep in kept.items()]


def old_news(settings: Settings) -> list[OldRows]:
    return [OldRows("marketdata.news", "published_at < :before", timedelta(days=settings.keep_news_days))]


@jobs.job(
    "update_market_data",
    schedule="1m",
    priority="high",
    time_limit="50s",
    description="Fetch current prices from the providers, store them with their bars and publish them.",
)
def update_market_data(run: RunContext) -> Counts:
    provider, order = configured_provider(), configured_order()
    with run.context.unit_of_work() as uow:
        partitions.ensure_partitions(uow.connection, uow.now)
        if provider is None or not provider.official:
            official_prices.record_closes(uow)
    settings, written = current(), 0
    if order:
        written += fetch_prices(
            run.context,
            order,
            interval=POLLED_INTERVAL,
            length=POLLED_LENGTH,
            choose=partial(choose, run.context, polling().intervals()),
            most_jump=settings.max_price_jump,
        )
    if provider is not None:
        written += poll(
            run.context,
            provider,
            interval=POLLED_INTERVAL,
            length=POLLED_LENGTH,
            but_of=settings.own_providers(),
            most_jump=settings.max_price_jump,
        )
    return {"prices_written": written}


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
    "fetch_corporate_actions",
    schedule="30 6,20 * * *",
    time_limit="30m",
    description="Fetch splits and dividends of held and listed shares from the providers, before the markets open.",
)
def fetch_corporate_actions(run: RunContext) -> Counts:
    return fetch_actions(run, configured_order())


@jobs.job(
    "update_sessions",
    schedule="1d",
    time_limit="5m",
    alert_failures=1,
    parameters=sessions.SessionDays,
    description="Write the sessions of every market for a year ahead, and correct what has changed in their calendars.",
)
def update_sessions(run: RunContext) -> Counts:
    """Raises CalendarsFailed after it has written the sessions of the other markets."""
    since = sessions.SessionDays.model_validate(run.parameters).since
    first, last = (run.now - SESSIONS_BACK).date(), (run.now + SESSIONS_AHEAD).date()
    first = min(first, since or first)
    markets = [market for market in MARKETS.values() if not market.always_open]
    found = compute_sessions(markets, first, last)
    run.progress(len(markets) - len(found.failed), len(markets))
    with run.context.unit_of_work() as uow:
        counts = sessions.write(uow, markets, first, last, found, run.id)
    if found.failed:
        raise sessions.CalendarsFailed(found.failed)
    return counts


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
    with run.context.unit_of_work() as uow:
        follow_named(uow)
    return update(run.context, remembered_series(), keep_bars=keep, progress=run.progress)


@jobs.job(
    "update_news",
    schedule="10m",
    priority="low",
    time_limit="9m",
    description="Fetch the news of held and followed instruments from providers and feeds, and store what is new.",
)
def update_news(run: RunContext) -> Counts:
    settings = current()
    keep = timedelta(days=settings.keep_news_days)
    order = configured_order()
    return fetch_news(run.context, order, settings.news_feeds, fetch, keep=keep, progress=run.progress)


@jobs.job(
    "maintain_market_data",
    schedule="0 4 * * *",
    priority="low",
    time_limit="1h",
    alert_runtime="30m",
    description="Remove old bars, but not daily and recorded ones, old indicators and news, and old rows of the bus.",
)
def maintain_market_data(run: RunContext) -> Counts:
    keep, keep_demo = timedelta(days=current().keep_bars_days), timedelta(days=current().keep_demo_bars_days)
    with run.context.unit_of_work() as uow:
        partitions.ensure_partitions(uow.connection, uow.now)
        months = partitions.old_months(uow.connection, uow.now - keep)
        months += [m for m in partitions.old_demo_months(uow.connection, uow.now - keep_demo) if m not in months]
        coverage.uncover(uow.connection, partitions.month_of(uow.now - keep))
    kept = [partitions.thin_out(run.context, month, run.progress) for month in months]
    with run.context.engine.connect() as connection:
        old = [
            *partitions.strays(connection, keep),
            *partitions.old_demo_bars(connection, run.context.clock(), keep_demo),
        ]
    strays = remove(run.context, [*old, *old_values(current()), *old_news(current())], run.progress)
    thinned = {"months_thinned": len(kept) - kept.count(None), "bars_kept": sum(filter(None, kept))}
    return {**thinned, **strays, **prune(run)}


jobs.job(
    "backfill_bars",
    priority="low",
    time_limit="1h",
    alert_runtime="1h",
    backfill=False,
    parameters=BackfillParameters,
    parts=history_jobs.parts_of_backfill,
    description="Fetch the missing bars of symbols from a provider, one part for each symbol.",
)(history_jobs.backfill_bars)
jobs.job(
    "roll_up_bars",
    schedule="5m",
    priority="low",
    time_limit="30m",
    backfill=False,
    parameters=RollUpParameters,
    description="Roll minutes up into bars of 5m, 15m, 1h and 1d, and late minutes again.",
)(history_jobs.roll_up_bars)
