"""The report of an account: its performance in a period, with curves, allocation and trades, as values for JSON.

Every figure is that of ``/api/account/performance`` for the same time. Nothing is computed twice.
"""

import json
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import accumulate
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import Connection

from shared.money import ZERO, plain
from shared.performance import drawdowns, monthly_returns, period_returns
from shared.reports import queries, report_queries
from shared.reports.performance import Asked, Stretch, equity_of, groups_of, open_profits, performance_of, read_stretch
from shared.reports.periods import Period, midnight

#: The months of returns that a report shows, up to its end.
MONTHS = 12
#: Up to the length of a period, its curve has a value for each step. A longer one has a value for each day.
STEPS = (
    (timedelta(hours=4), timedelta(minutes=1)),
    (timedelta(days=4), timedelta(minutes=30)),
    (timedelta(days=10), timedelta(hours=3)),
)
#: Current positions stand for the end of a period that was this long ago at most.
JUST_ENDED = timedelta(minutes=15)
#: The round trips of the chart, the latest.
MOST_TRIPS = 200


def make_report(
    connection: Connection, account_id: UUID, period: Period, now: datetime, generation: int | None = None
) -> dict[str, Any] | None:
    """Return the report's fields, or None for an unknown account."""
    asked = Asked(account_id, period.begin, period.end, generation, None, "symbol")
    account = report_queries.account(connection, account_id)
    stretch = read_stretch(connection, asked, now)
    if account is None or stretch is None:
        return None
    zone = ZoneInfo(stretch.market["timezone"])
    whole = performance_of(connection, stretch)
    profit = None if whole["begin_equity"] is None else _profit(whole)
    trades = report_queries.trades(connection, **stretch.terms)
    more = len(trades) > report_queries.MOST_TRADES
    number = report_queries.number_of_trades(connection, **stretch.terms) if more else len(trades)
    return {
        **whole,
        "period": period.kind,
        "first_day": period.first,
        "last_day": period.last,
        "number": account["number"],
        "name": account["name"],
        "market": stretch.market["code"],
        "time_zone": zone.key,
        "finished": period.end < now,
        "made_at": now,
        "corrected": False,
        "profit": profit,
        "equity": _curve(connection, stretch),
        "monthly_returns": _months(connection, stretch, zone),
        "allocation": _allocation(connection, stretch, now),
        "strategies": _strategies(connection, stretch),
        "deposits": [{"at": flow.at, "amount": flow.amount} for flow in _inside(stretch)],
        "round_trips": _round_trips(stretch),
        "trades": trades[: report_queries.MOST_TRADES],
        "trades_total": number,
    }


def _profit(whole: Mapping[str, Any]) -> Decimal:
    profit: Decimal = whole["end_equity"] - whole["begin_equity"] - whole["net_deposits"]
    return profit


def _inside(stretch: Stretch) -> list[Any]:
    """The deposits of the time. The first one of a generation is the cash that it began with."""
    return [flow for flow in stretch.transfers if stretch.begin <= flow.at <= stretch.end]


def _curve(connection: Connection, stretch: Stretch) -> list[dict[str, Any]]:
    """Equity, growth since the begin and drawdown over the time. A deposit changes the equity only."""
    points = list(stretch.equity)
    length = stretch.end - stretch.begin
    step = next((step for longest, step in STEPS if length <= longest), None)
    if step is not None and len(points) > 1:
        between = report_queries.curve(connection, step, **stretch.terms)
        inner = {row["at"]: row["equity"] for row in between if points[0][0] < row["at"] < points[-1][0]}
        points = sorted({**dict(points), **inner}.items())
    returns = period_returns(points, stretch.flows, stretch.marks)
    growth = list(accumulate(returns, lambda grown, each: grown * (1 + each), initial=1.0))
    falls = [0.0, *drawdowns(returns)]
    return [
        {"at": at, "equity": equity, "growth": growth[number], "drawdown": falls[number]}
        for number, (at, equity) in enumerate(points)
    ]


def _months(connection: Connection, stretch: Stretch, zone: ZoneInfo) -> list[dict[str, Any]]:
    """The return of each month of the year up to the end of the time."""
    transfers = stretch.transfers
    last = stretch.end.astimezone(zone).date()
    year, month = divmod(last.year * 12 + last.month - MONTHS, 12)
    begin = midnight(date(year, month + 1, 1), zone)
    begin = max(transfers[0].at, begin) if transfers else stretch.begin
    terms = {**stretch.terms, "begin": begin}
    points = equity_of(connection, terms, stretch.market, transfers)
    if stretch.equity and (not points or points[-1][0] < stretch.equity[-1][0]):
        points = [*points, stretch.equity[-1]]
    found = monthly_returns(points, transfers, zone, queries.marks(connection, **terms))
    return [{"month": f"{month:%Y-%m}", "return": value} for month, value in found]


def _allocation(connection: Connection, stretch: Stretch, now: datetime) -> list[dict[str, Any]]:
    """The positions at the end of the time and the cash, each with its share of the equity."""
    if not stretch.equity:
        return []
    is_current = stretch.generation == stretch.account["generation"] and stretch.end >= now - JUST_ENDED
    if is_current:
        equity: Decimal = stretch.account["equity"]
        held = report_queries.current_positions(connection, stretch.asked.account_id)
    else:
        equity = stretch.equity[-1][1]
        held = report_queries.positions_at(connection, **stretch.terms)
    currency = stretch.account["currency"]
    cash = equity - sum((row["value"] for row in held), ZERO)
    rows = [*held, {"symbol": None, "qty": None, "price": None, "currency": currency, "value": cash}]
    return [{**row, "share": float(row["value"] / equity) if equity > 0 else None} for row in rows]


def _strategies(connection: Connection, stretch: Stretch) -> list[dict[str, Any]]:
    """The trading of each strategy, with its name where there still is one."""
    terms = stretch.terms
    is_present = stretch.generation == stretch.account["generation"]
    groups = groups_of(
        queries.round_trips(connection, "strategy", **terms),
        {row["group"]: row for row in queries.fills(connection, "strategy", **terms)},
        open_profits(connection, "strategy", stretch.asked.account_id) if is_present else {},
    )
    names = report_queries.strategy_names(connection, [each["group"] for each in groups if each["group"] != "none"])
    return [{**each, "name": names.get(each["group"])} for each in groups]


def _round_trips(stretch: Stretch) -> Sequence[dict[str, Any]]:
    """The latest round trips, the first one first, each with its profit after fees."""
    return [
        {
            "symbol": row["group"],
            "opened_at": row["opened_at"],
            "closed_at": row["closed_at"],
            "profit": row["profit"],
        }
        for row in reversed(stretch.trips[:MOST_TRIPS])
    ]


def as_json(report: Mapping[str, Any]) -> str:
    """The report as JSON text, with the names that clients see."""
    named = {{"begin": "from", "end": "to"}.get(name, name): value for name, value in report.items()}
    return json.dumps(named, default=_plain)


def _plain(value: Any) -> str:
    return plain(value) if isinstance(value, Decimal) else value.isoformat() if isinstance(value, date) else str(value)
