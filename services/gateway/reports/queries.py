"""The report of an account as it was made or as it is now, and the list of its periods."""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from itertools import islice
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, text

from services.gateway.http.errors import Invalid
from services.gateway.performance.asked import check_generation
from services.gateway.reports.schemas import ReportQuery
from shared.account_market import account_market
from shared.reports import report_queries
from shared.reports.periods import (
    INSTANT,
    ONE_DAY,
    REGULAR,
    Period,
    PeriodKind,
    days_around,
    midnight,
    period_around,
    period_before,
)
from shared.reports.report import as_json, make_report
from shared.storage.keyset import Record


def report(connection: Connection, account_id: UUID, query: ReportQuery, now: datetime) -> Any:
    """Return the report's JSON, or None for an unknown account.

    Raises Invalid for a time in which there is no report.
    """
    account = report_queries.account(connection, account_id)
    if account is None:
        return None
    generation = query.generation or account["generation"]
    check_generation(generation, account["generation"])
    market = account_market(connection, account_id)
    begin = report_queries.begin_of(connection, account_id, generation) or account["generation_at"]
    period = _period(connection, query, market, begin, now)
    _check(period, query, begin, now)
    terms = {"account_id": account_id, "generation": generation, "begin": period.begin, "end": period.end}
    kept = None
    if period.kind is not PeriodKind.CUSTOM:
        kept = report_queries.stored(connection, account_id, generation, period.kind, period.last)
    if kept is not None and not report_queries.has_later_entries(connection, kept["last_entry"], **terms):
        return kept["content"]
    made = make_report(connection, account_id, period, now, generation)
    return None if made is None else json.loads(as_json({**made, "corrected": kept is not None}))


def _period(connection: Connection, query: ReportQuery, market: Record, begin: datetime, now: datetime) -> Period:
    zone = ZoneInfo(market["timezone"])
    kind = PeriodKind(query.period)
    if kind is PeriodKind.CUSTOM:
        first = begin if query.begin is None else _begin(query.begin, zone)
        last = now if query.end is None else _end(query.end, zone)
        return Period(kind, first.astimezone(zone).date(), min(last, now).astimezone(zone).date(), first, last)
    named = query.begin or query.end or now
    day = named.astimezone(zone).date() if isinstance(named, datetime) else named
    period = period_around(kind, day, days_around(connection, market, day, day), zone)
    if query.begin is not None and query.end is not None and _end(query.end, zone) > period.end:
        last_day = f"{kind} period of {day} ends on {period.last}"
        raise Invalid(f"to: the {last_day}; use period=custom for another time", field="to")
    return period


def _begin(given: date | datetime, zone: ZoneInfo) -> datetime:
    return given if isinstance(given, datetime) else midnight(given, zone)


def _end(given: date | datetime, zone: ZoneInfo) -> datetime:
    return given if isinstance(given, datetime) else midnight(given + ONE_DAY, zone) - INSTANT


def _check(period: Period, query: ReportQuery, begin: datetime, now: datetime) -> None:
    """Raise Invalid for a time that lies ahead, ends before it begins, or ends before the account generation began."""
    field = "from" if query.begin is not None else "to"
    if period.begin >= period.end:
        raise Invalid("to: must be after from", field="to")
    if period.begin > now:
        raise Invalid(f"{field}: lies in the future; name a day until today", field=field)
    if period.end < begin:
        raise Invalid(f"{field}: the account generation began at {begin.isoformat()}; name a later time", field=field)


def periods(account_id: UUID, now: datetime) -> Any:
    """Return the query for pages of the account's periods, the latest first."""

    def page(
        connection: Connection, filters: Mapping[str, Any], *, after: Sequence[Any] | None, limit: int
    ) -> list[Record]:
        account = report_queries.account(connection, account_id)
        if account is None:
            return []
        kinds = [PeriodKind(filters["period"])] if "period" in filters else list(REGULAR)
        generation = account["generation"]
        begin = report_queries.begin_of(connection, account_id, generation) or account["generation_at"]
        market = account_market(connection, account_id)
        found = [each for kind in kinds for each in islice(_before(connection, market, kind, begin, now, after), limit)]
        found.sort(key=lambda each: (each.last, each.kind), reverse=True)
        shown = found[:limit]
        given = {"account_id": account_id, "generation": generation}
        kept = {"periods": [str(each.kind) for each in shown], "days": [each.last for each in shown]}
        made = {(row.period, row.day): row.made_at for row in connection.execute(_MADE, {**given, **kept})}
        return [_item(each, generation, made.get((each.kind, each.last)), now) for each in shown]

    return page


def _before(
    connection: Connection,
    market: Record,
    kind: PeriodKind,
    begin: datetime,
    now: datetime,
    after: Sequence[Any] | None,
) -> Iterator[Period]:
    """The periods of the kind from the present one back to that of the begin, only those after the cursor."""
    zone = ZoneInfo(market["timezone"])
    first, today = begin.astimezone(zone).date(), now.astimezone(zone).date()
    newest = max(first, min(today, after[0])) if after else today
    days = days_around(connection, market, first, today)
    period = period_around(kind, newest, days, zone)
    while period.end >= begin:
        if after is None or (period.last, period.kind) < (after[0], after[1]):
            yield period
        period = period_before(period, days, zone)


def _item(period: Period, generation: int, made_at: datetime | None, now: datetime) -> Record:
    return {
        "period": period.kind,
        "begin": period.begin,
        "end": period.end,
        "first_day": period.first,
        "day": period.last,
        "generation": generation,
        "finished": period.end < now,
        "made_at": made_at,
    }


_MADE = text("""
SELECT r.period, r.day, r.made_at
FROM unnest(CAST(:periods AS text[]), CAST(:days AS date[])) AS asked (period, day)
JOIN valuation.reports_v1 r ON r.account_id = :account_id AND r.generation = :generation
  AND r.period = asked.period AND r.day = asked.day
""")
