"""Make the finished reports of accounts, each once: for each account generation, kind and period.

Each report has a transaction of its own. A run that dies leaves the reports that it made, and the next one makes the
rest. The second of two runs at a time finds the row of the first.
"""

from collections.abc import Iterator
from datetime import datetime
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, text

from shared.account_market import markets_of_accounts
from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.accounts import CLOSED
from shared.jobs.run_context import Counts, RunContext
from shared.reports.periods import Period, PeriodKind, days_around, period_around, period_before
from shared.reports.report import as_json, make_report
from shared.reports.report_queries import last_entry
from shared.reports.words import summary
from shared.storage.keyset import Record

#: The latest finished periods whose missing reports are made, such as after an outage.
CATCH_UP = {PeriodKind.DAILY: 10, PeriodKind.WEEKLY: 4, PeriodKind.MONTHLY: 3}
BATCH = 500
_NO_ACCOUNT = UUID(int=0)


def make_reports(run: RunContext, kind: PeriodKind) -> Counts:
    """Make the missing reports of the kind, and count them and those that are to be sent."""
    made = wanted = 0
    with run.context.unit_of_work() as uow:
        due = list(_due(uow.connection, kind, uow.now))
    for market, period in due:
        for account_id in _missing(run, market, period):
            run.check()
            with run.context.unit_of_work() as uow:
                is_wanted = _make(uow, run.id, account_id, period)
            made += is_wanted is not None
            wanted += bool(is_wanted)
            run.progress(made)
    return {"reports_made": made, "reports_to_send": wanted}


def _due(connection: Connection, kind: PeriodKind, now: datetime) -> Iterator[tuple[Record, Period]]:
    """The latest periods that are over, the first one first, of each market that accounts have."""
    for market in markets_of_accounts(connection):
        zone = ZoneInfo(market["timezone"])
        today = now.astimezone(zone).date()
        days = days_around(connection, market, today, today)
        period = period_around(kind, today, days, zone)
        periods = [period := period_before(period, days, zone) for _ in range(CATCH_UP[kind])]
        for each in reversed(periods):
            yield market, each


def _missing(run: RunContext, market: Record, period: Period) -> Iterator[UUID]:
    """The accounts of the market whose report of the period is missing, in the order of their ids."""
    after = _NO_ACCOUNT
    given = {"currency": market["currency"], "setting": market["setting"], "end": period.end}
    given |= {"period": period.kind, "day": period.last, "closed": CLOSED, "limit": BATCH}
    while True:
        with run.context.unit_of_work() as uow:
            found = uow.connection.execute(_MISSING, {**given, "after": after}).scalars().all()
        yield from found
        if len(found) < BATCH:
            return
        after = found[-1]


def _make(uow: UnitOfWork, run_id: UUID, account_id: UUID, period: Period) -> bool | None:
    """Make the report. Return True if it is to be sent, and None if another run has made it."""
    known = last_entry(uow.connection, account_id)
    report = make_report(uow.connection, account_id, period, uow.now)
    if report is None:
        return None
    given = {
        "account": account_id,
        "generation": report["generation"],
        "period": period.kind,
        "day": period.last,
        "begin": period.begin,
        "end": period.end,
        "run": run_id,
        "now": uow.now,
        "known": known,
        "summary": summary(report),
        "content": as_json(report),
    }
    is_wanted: bool | None = uow.connection.execute(_INSERT, given).scalar_one_or_none()
    return is_wanted


_MISSING = text("""
SELECT a.id FROM orders.accounts_v1 a
WHERE a.id > :after AND a.status <> :closed AND a.currency = :currency
  AND a.settings ->> 'market' IS NOT DISTINCT FROM CAST(:setting AS text)
  AND COALESCE(a.generation_at, a.created_at) <= :end
  AND NOT EXISTS (
    SELECT FROM valuation.reports r
    WHERE r.account_id = a.id AND r.generation = a.generation AND r.period = :period AND r.day = :day)
ORDER BY a.id LIMIT :limit
""")
_INSERT = text("""
INSERT INTO valuation.reports
  (account_id, generation, period, day, begin_at, end_at, run_id, made_at, last_entry, wanted, summary, content)
SELECT :account, :generation, :period, :day, :begin, :end, :run, :now, :known,
       EXISTS (SELECT FROM valuation.alert_rules WHERE account_id = :account AND rules -> 'reports' ? :period),
       :summary, CAST(:content AS jsonb)
ON CONFLICT DO NOTHING
RETURNING wanted
""")
