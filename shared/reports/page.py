"""The page of a report: one HTML page with charts as SVG, for the screen and for paper, from the report's JSON."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from html import escape
from typing import Any
from zoneinfo import ZoneInfo

from shared.charts import RED, bar_chart, line_chart, share_chart
from shared.pages import html_page, table
from shared.reports.words import NOTHING, counted, moment, money, percent, quantity, ratio, title

Json = Mapping[str, Any]


def report_page(report: Json) -> str:
    """The page of a report, whose fields are those of its JSON."""
    zone, currency = ZoneInfo(report["time_zone"]), report["currency"]
    heading = title(report)
    parts = [
        f"<h1>{escape(heading)}</h1>",
        f'<p class="quiet">{escape(_about(report, zone))}</p>',
        *(f'<p class="note">{escape(note)}</p>' for note in notes(report, zone)),
        f"<h2>Summary</h2>{_summary(report, currency)}",
        f"<h2>Equity</h2>{_curve(report, zone, 'equity', f'Equity in {currency}')}",
        f"<h2>Drawdown</h2>{_curve(report, zone, 'drawdown', 'Drawdown in percent')}{_within_days(report)}",
        f"<h2>Monthly returns</h2>{_months(report)}",
        f"<h2>Allocation</h2>{_allocation(report, currency)}",
        f'<h2 class="page">Profit of each round trip</h2>{_trips(report, zone, currency)}',
        f"<h2>By symbol</h2>{_groups('Symbol', report['groups'], currency)}",
        f"<h2>By strategy</h2>{_groups('Strategy', report['strategies'], currency)}",
        f"<h2>Completed orders</h2>{_trades(report, zone, currency)}",
        f"<h2>Deposits and withdrawals</h2>{_deposits(report, zone, currency)}",
    ]
    return html_page(f"{heading}: {report['name']}", parts)


def notes(report: Json, zone: ZoneInfo) -> Iterator[str]:
    """The sentences that a reader has to know beside the figures."""
    if not report["finished"]:
        yield f"This period is not over. The figures are those of {moment(report['to'], zone)}."
    if report["corrected"]:
        yield "Entries of this period were booked after its report was made. These figures contain them."
    if report["end_equity"] is None:
        yield "The account was not valued in this time, so it has no return."
    elif report["figures"]["periods"] < 2:
        yield "This time has only one day with a value, so it has no volatility and no ratios."
    if not report["trades_total"]:
        yield "No order was completed in this time."


def _about(report: Json, zone: ZoneInfo) -> str:
    account = f"Account {report['name']} ({report['number']}), amounts in {report['currency']}"
    again = f", account generation {report['generation']}" if report["generation"] > 1 else ""
    times = f"from {moment(report['from'], zone)} to {moment(report['to'], zone)}, {zone.key}, {report['market']}"
    return f"{account}{again}, {times}. Made on {moment(report['made_at'], zone)}."


def _summary(report: Json, currency: str) -> str:
    figures = report["figures"]
    rows = [
        ("Value at the start", money(report["begin_equity"], currency)),
        ("Value at the end", money(report["end_equity"], currency)),
        ("Deposits less withdrawals", money(report["net_deposits"], currency)),
        ("Profit without deposits", money(report["profit"], currency)),
        ("Time-weighted return", percent(figures["time_weighted_return"])),
        ("Money-weighted return of a year", percent(figures["money_weighted_return"])),
        ("Maximum drawdown of daily values", percent(figures["max_drawdown"])),
        ("Volatility of a year", percent(figures["volatility"])),
        ("Sharpe ratio", ratio(figures["sharpe"])),
        ("Sortino ratio", ratio(figures["sortino"])),
        ("Calmar ratio", ratio(figures["calmar"])),
        ("Exposure", percent(figures["exposure"])),
        ("Realized profit", money(figures["realized_pl"], currency)),
        ("Open profit now", money(figures["unrealized_pl"], currency)),
        ("Fees", money(figures["fees"], currency)),
        ("Slippage against the quote", money(figures["slippage"], currency)),
        ("Round trips", f"{figures['trades']:,}"),
        ("Win rate", percent(figures["win_rate"])),
        ("Profit factor", ratio(figures["profit_factor"])),
        ("Mean profit of a round trip", money(_decimal(figures["expectancy"]), currency)),
    ]
    return table((), rows)


def _decimal(value: float | None) -> Decimal | None:
    return None if value is None else Decimal(str(value))


def _curve(report: Json, zone: ZoneInfo, name: str, label: str) -> str:
    is_equity = name == "equity"
    points = [
        (datetime.fromisoformat(each["at"]).astimezone(zone), float(each[name]) * (1 if is_equity else 100))
        for each in report["equity"]
    ]
    return line_chart(points, label) if is_equity else line_chart(points, label, RED)


def _within_days(report: Json) -> str:
    """A sentence about a fall of the curve that the daily values do not show."""
    deepest = min((each["drawdown"] for each in report["equity"]), default=0.0)
    of_days = report["figures"]["max_drawdown"] or 0.0
    if percent(deepest) == percent(min(of_days, 0.0)):
        return ""
    return f"<p>The deepest fall within the days was {percent(-deepest)}. The summary has that of daily values.</p>"


def _months(report: Json) -> str:
    months = report["monthly_returns"]
    if not months:
        return "<p>There is no return yet.</p>"
    chart = bar_chart([(each["month"], 100 * each["return"]) for each in months], "Monthly returns in percent")
    return chart + table(("Month", "Return"), [(each["month"], percent(each["return"])) for each in months])


def _allocation(report: Json, currency: str) -> str:
    rows = report["allocation"]
    if not rows:
        return "<p>The account held nothing.</p>"
    named = [(row["symbol"] or "Cash", row) for row in rows]
    chart = share_chart([(name, row["share"]) for name, row in named if row["share"] is not None], "Allocation")
    lines = [
        (
            name,
            quantity(row["qty"]),
            NOTHING if row["price"] is None else f"{quantity(row['price'])} {row['currency']}",
            money(row["value"], currency),
            percent(row["share"]),
        )
        for name, row in named
    ]
    return chart + table(("Position", "Quantity", "Price", "Value", "Share"), lines)


def _trips(report: Json, zone: ZoneInfo, currency: str) -> str:
    trips = report["round_trips"]
    if not trips:
        return "<p>No position was closed in this time.</p>"
    bars = [(f"{each['symbol']} {moment(each['closed_at'], zone)[5:10]}", float(each["profit"])) for each in trips]
    total = report["figures"]["trades"]
    text = f"{counted(total, 'round trip')}, after fees."
    if total > len(trips):
        text = f"The latest {len(trips)} of {text}"
    return bar_chart(bars, f"Profit of each round trip in {currency}") + f"<p>{text}</p>"


def _groups(head: str, groups: Sequence[Json], currency: str) -> str:
    if not groups:
        return "<p>There was no trading.</p>"
    rows = [
        (
            _group_name(each),
            f"{each['trades']:,}",
            percent(each["win_rate"]),
            money(each["realized_pl"], currency),
            money(each["unrealized_pl"], currency),
            money(each["fees"], currency),
        )
        for each in groups
    ]
    bad = [Decimal(each["realized_pl"]) < 0 for each in groups]
    return table((head, "Round trips", "Win rate", "Realized", "Open now", "Fees"), rows, bad=bad)


def _group_name(group: Json) -> str:
    name = group.get("name") or group["group"]
    return "Without a strategy" if name == "none" else str(name)


def _trades(report: Json, zone: ZoneInfo, currency: str) -> str:
    trades = report["trades"]
    if not trades:
        return "<p>No order was completed in this time.</p>"
    rows = [
        (
            moment(each["completed_at"], zone),
            each["symbol"],
            each["side"],
            quantity(each["qty"]),
            f"{quantity(each['avg_price'])} {each['currency']}",
            money(each["fees"], currency),
            money(each["realized_pl"], currency),
        )
        for each in trades
    ]
    bad = [each["realized_pl"] is not None and Decimal(each["realized_pl"]) < 0 for each in trades]
    made = table(("Completed", "Symbol", "Side", "Quantity", "Mean price", "Fees", "Realized"), rows, bad=bad)
    more = report["trades_total"] - len(trades)
    if not more:
        return made
    return f"{made}<p>{counted(more, 'earlier order')} {'is' if more == 1 else 'are'} in the CSV of trades.</p>"


def _deposits(report: Json, zone: ZoneInfo, currency: str) -> str:
    if not report["deposits"]:
        return "<p>No money came or went.</p>"
    rows = [(moment(each["at"], zone), money(each["amount"], currency)) for each in report["deposits"]]
    first = "<p>The first one is the cash with which the account generation began. It is in the value at the start.</p>"
    began = report["deposits"][0]["at"] == report["from"]
    return table(("Time", "Amount"), rows) + (first if began else "")
