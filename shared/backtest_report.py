"""The report page of a backtest: one HTML page with charts as SVG, which needs nothing from elsewhere."""

from collections.abc import Mapping
from datetime import datetime
from html import escape
from typing import Any

from shared.charts import RED, line_chart
from shared.pages import html_page, table

#: Round trips in the table.
MOST_TRIPS = 1000
_PERCENT = {"total_return", "annual_return", "volatility", "max_drawdown", "exposure", "time_in_market", "win_rate"}


def page(outcome: Mapping[str, Any], title: str) -> str:
    """The page of an outcome, which has figures, equity and round trips as a backtest saves them."""
    points = [(datetime.fromisoformat(each["at"]), float(each["equity"])) for each in outcome["equity"]]
    high, falls = 0.0, []
    for at, value in points:
        high = max(high, value)
        falls.append((at, 100 * (value / high - 1) if high > 0 else 0.0))
    parts = [
        f"<h1>{escape(title)}</h1>",
        f"<h2>Equity</h2>{line_chart(points, 'Equity')}",
        f"<h2>Drawdown</h2>{line_chart(falls, 'Drawdown in percent', RED)}",
        f"<h2>Figures</h2>{_figures(outcome['figures'])}",
        f"<h2>Round trips</h2>{_round_trips(outcome)}",
    ]
    return html_page(title, parts)


def _figures(figures: Mapping[str, Any]) -> str:
    trades = {f"trades: {name}": value for name, value in figures.get("trades", {}).items()}
    rows = {name: value for name, value in figures.items() if name != "trades"} | trades
    return table((), [(name.replace("_", " "), _shown(name, value)) for name, value in rows.items()])


def _round_trips(outcome: Mapping[str, Any]) -> str:
    trips = outcome["round_trips"]
    if not trips:
        return "<p>The strategy closed no position.</p>"
    names = ("symbol", "side", "qty", "entry_bar", "exit_bar", "entry_price", "exit_price", "profit")
    shown = trips[:MOST_TRIPS]
    rows = [[_cell(name, trip[name]) for name in names] for trip in shown]
    made = table([name.replace("_", " ") for name in names], rows, bad=[_is_loss(trip) for trip in shown])
    more = outcome["round_trips_total"] - len(shown)
    return f"{made}<p>{more} more are in the JSON.</p>" if more > 0 else made


def _is_loss(trip: Mapping[str, Any]) -> bool:
    return str(trip["profit"]).startswith("-")


def _cell(name: str, value: Any) -> str:
    return "" if value is None else str(value)[:16].replace("T00:00", "") if name.endswith("_bar") else str(value)


def _shown(name: str, value: Any) -> str:
    if value is None:
        return "-"
    if name.removeprefix("trades: ") in _PERCENT:
        return f"{100 * value:.2f} %"
    return f"{value:,.4f}" if isinstance(value, float) else str(value)
