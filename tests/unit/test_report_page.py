"""The page of a report, from JSON that a test makes."""

from typing import Any

from shared.reports.page import report_page

_FIGURES = (
    "time_weighted_return",
    "money_weighted_return",
    "max_drawdown",
    "volatility",
    "sharpe",
    "sortino",
    "calmar",
    "exposure",
    "realized_pl",
    "unrealized_pl",
    "fees",
    "slippage",
    "win_rate",
    "profit_factor",
    "expectancy",
)


def made(*falls: float, max_drawdown: float = 0.0) -> str:
    """The page of a day whose values within the day fell so far below the highest."""
    at = "2026-11-23T{:02}:00:00+00:00"
    curve = [{"at": at.format(10 + n), "equity": "1000", "drawdown": fall} for n, fall in enumerate(falls)]
    group = {"group": "IBM", "trades": 0, "win_rate": None, "realized_pl": "0", "unrealized_pl": "0", "fees": "0"}
    report: dict[str, Any] = {
        "account_id": "a",
        "number": "PA1",
        "name": "test",
        "period": "daily",
        "first_day": "2026-11-23",
        "last_day": "2026-11-23",
        "market": "DEMO",
        "time_zone": "UTC",
        "currency": "USD",
        "generation": 1,
        "from": at.format(10),
        "to": at.format(20),
        "made_at": at.format(21),
        "finished": True,
        "corrected": False,
        "begin_equity": "1000",
        "end_equity": "1000",
        "net_deposits": "0",
        "profit": "0",
        "figures": dict.fromkeys(_FIGURES) | {"trades": 0, "periods": 1, "max_drawdown": max_drawdown},
        "equity": curve,
        "groups": [group],
        **{name: [] for name in ("monthly_returns", "allocation", "strategies", "deposits", "round_trips", "trades")},
        "trades_total": 0,
    }
    return report_page(report)


def test_a_fall_within_the_day_is_told_beside_that_of_daily_values() -> None:
    assert "The deepest fall within the days was 2.50 %." in made(0.0, -0.025, 0.0)
    assert "deepest fall" not in made(0.0, -0.025, max_drawdown=-0.025)
    assert "deepest fall" not in made()


def test_a_fall_that_rounds_to_nothing_is_no_negative_zero() -> None:
    shown = made(0.0, -1e-6, max_drawdown=-1e-6)
    assert "-0.00 %" not in shown
    assert "deepest fall" not in shown


def test_the_page_fits_narrow_dark_and_printed() -> None:
    """Tables and charts scroll by themselves, and dark colours are not printed."""
    shown = made(0.0, 0.0)
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in shown
    assert shown.count('<div class="wide">') == shown.count("<svg") + shown.count("<table")
    assert "@media screen and (prefers-color-scheme:dark)" in shown
    assert "<th>Symbol</th>" in shown
