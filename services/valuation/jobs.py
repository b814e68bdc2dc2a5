"""Jobs of valuation."""

from datetime import timedelta

from services.valuation import summaries, thinning
from services.valuation.account_alerts import judge_accounts
from services.valuation.account_risk import measure_accounts
from services.valuation.domain.trading_day import trading_day
from services.valuation.reports import make_reports
from services.valuation.values import publish_values, values_of_all
from shared.jobs.declaration import Jobs
from shared.jobs.maintenance import OldRows, prune, remove
from shared.jobs.run_context import Counts, RunContext
from shared.markets import load_markets
from shared.observability.progress import valued
from shared.reports.periods import PeriodKind

jobs = Jobs("valuation")

ONE_DAY = timedelta(days=1)
#: Longer than any market stays closed.
LONGEST_CLOSURE = timedelta(days=30)
#: Accounts keep their history, thinned by its age. The highest equity ever, which limits what they may lose, is in
#: each summary.
OWN = (
    OldRows("valuation.position_values", "at < :before", timedelta(days=90)),
    OldRows("valuation.alerts", "recovered_at < :before", timedelta(days=365)),
    OldRows("valuation.reports", "period = 'daily' AND made_at < :before", timedelta(days=90)),
    OldRows("valuation.reports", "period = 'weekly' AND made_at < :before", timedelta(days=730)),
    OldRows("valuation.reports", "period = 'monthly' AND made_at < :before", timedelta(days=3650)),
    *thinning.SUMMARIES,
)


@jobs.job(
    "update_positions",
    schedule="10m",
    description="Value every position and account at current prices, and keep an account summary.",
)
def update_positions(run: RunContext) -> Counts:
    with run.context.unit_of_work() as uow:
        accounts, positions = summaries.snapshot(uow.connection, run.id, uow.now)
        publish_values(uow, values_of_all(uow.connection))
        uow.at_commit(valued(uow.now, uow.now))
        judge_accounts(uow)
        measure_accounts(uow)
    return {"accounts_valued": accounts, "positions_valued": positions}


@jobs.job(
    "snapshot_accounts",
    schedule="1m",
    market_hours_only=True,
    description="Keep a summary of each account every minute of an open market, and judge its alerts and limits.",
)
def snapshot_accounts(run: RunContext) -> Counts:
    with run.context.unit_of_work() as uow:
        accounts = summaries.snapshot_accounts(uow.connection, run.id, uow.now)
        alerts, risk = judge_accounts(uow), measure_accounts(uow)
    return {"accounts_valued": accounts, **alerts, **risk}


@jobs.job(
    "summarize_day",
    schedule="5m after close",
    description="Summarize each account's trading day: its value at the close, realized profit, fees and deposits.",
)
def summarize_day(run: RunContext) -> Counts:
    with run.context.unit_of_work() as uow:
        begin, end = (run.slot or uow.now) - LONGEST_CLOSURE, uow.now + ONE_DAY
        market = load_markets(uow.connection, [run.market], begin, end)[run.market]
        day = trading_day(market.closes(begin, end), run.slot, uow.now, market.zone)
        if day.until == uow.now:
            summaries.snapshot(uow.connection, run.id, uow.now)
        summarized = summaries.summarize(uow.connection, run.id, run.market, day)
    return {"accounts_summarized": summarized}


@jobs.job(
    "report_days",
    schedule="10 * * * *",
    priority="low",
    time_limit="1h",
    alert_runtime="30m",
    description="Make the report of each account's day once its market's day is over, and send it where it is wanted.",
)
def report_days(run: RunContext) -> Counts:
    return make_reports(run, PeriodKind.DAILY)


@jobs.job(
    "report_weeks",
    schedule="15 * * * *",
    priority="low",
    time_limit="1h",
    alert_runtime="30m",
    description="Make the report of each account's week once it is over, and send it where it is wanted.",
)
def report_weeks(run: RunContext) -> Counts:
    return make_reports(run, PeriodKind.WEEKLY)


@jobs.job(
    "report_months",
    schedule="20 * * * *",
    priority="low",
    time_limit="1h",
    alert_runtime="30m",
    description="Make the report of each account's month once it is over, and send it where it is wanted.",
)
def report_months(run: RunContext) -> Counts:
    return make_reports(run, PeriodKind.MONTHLY)


@jobs.job(
    "maintain_valuation",
    schedule="20 4 * * *",
    priority="low",
    time_limit="1h",
    alert_runtime="30m",
    description="Remove old values of positions, and old rows of the bus and of the job engine.",
)
def maintain_valuation(run: RunContext) -> Counts:
    return {**remove(run.context, OWN, run.progress), **prune(run)}
