"""Texts about a report: titles, amounts, dates and counts, for its page and its notification.

They are plain text. A page escapes them.
"""

from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from shared.reports.periods import PeriodKind

NAMES = {"daily": "Daily report", "weekly": "Weekly report", "monthly": "Monthly report", "custom": "Report"}
NOTHING = "-"


def title(report: Mapping[str, Any]) -> str:
    """The kind of the report with its days, such as ``Weekly report, 23 to 29 November 2026``."""
    first, last = (date.fromisoformat(str(report[name])) for name in ("first_day", "last_day"))
    if report["period"] == PeriodKind.MONTHLY:
        return f"{NAMES['monthly']}, {last:%B %Y}"
    if report["period"] == PeriodKind.DAILY or first == last:
        return f"{NAMES[report['period']]}, {day(last)}"
    if (first.year, first.month) == (last.year, last.month):
        return f"{NAMES[report['period']]}, {first.day} to {day(last)}"
    return f"{NAMES[report['period']]}, {day(first)} to {day(last)}"


def summary(report: Mapping[str, Any]) -> str:
    """One sentence for a notification: the value of the account, its profit and return, and its trades."""
    account = f"Account {report['name']} ({report['number']})"
    if report["end_equity"] is None:
        return f"{title(report)}. {account} was not valued in this time."
    worth = f"{account} was worth {money(report['end_equity'], report['currency'])}"
    gain = Decimal(report["profit"])
    earned = f"{'a loss' if gain < 0 else 'a profit'} of {money(abs(gain), report['currency'])}"
    back = percent(report["figures"]["time_weighted_return"])
    return f"{title(report)}. {worth}, {earned} ({back}), with {counted(report['trades_total'], 'completed order')}."


def day(value: date) -> str:
    return f"{value.day} {value:%B %Y}"


def moment(value: str | datetime, zone: ZoneInfo) -> str:
    """A time by the zone's clock, to the minute."""
    at = datetime.fromisoformat(value) if isinstance(value, str) else value
    return f"{at.astimezone(zone):%Y-%m-%d %H:%M}"


def money(value: Any, currency: str) -> str:
    return NOTHING if value is None else f"{Decimal(value):,.2f} {currency}"


def quantity(value: Any) -> str:
    """A quantity or price without needless zeros."""
    if value is None:
        return NOTHING
    text = f"{Decimal(value):,f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def percent(value: float | None) -> str:
    return NOTHING if value is None else f"{round(100 * value, 2) + 0.0:,.2f} %"  # no -0.00


def ratio(value: float | None) -> str:
    return NOTHING if value is None else f"{value:,.2f}"


def counted(number: int, noun: str) -> str:
    """A number with its noun, such as ``1 trade`` or ``2 trades``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
