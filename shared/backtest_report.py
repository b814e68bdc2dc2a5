"""The report page of a backtest: one HTML page with charts as SVG, which needs nothing from elsewhere."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from html import escape
from typing import Any

WIDTH, HEIGHT, LEFT, MARGIN = 900, 240, 80, 24
#: Round trips in the table.
MOST_TRIPS = 1000
_PERCENT = {"total_return", "annual_return", "volatility", "max_drawdown", "exposure", "win_rate"}
_STYLE = """
body{font:14px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:940px;padding:0 1rem;color:#1b1f24}
h1{font-size:1.5rem}h2{font-size:1.1rem;margin-top:2rem}svg{width:100%;height:auto}
table{border-collapse:collapse;width:100%}td,th{padding:.2rem .5rem;text-align:right;border-bottom:1px solid #d8dee4}
td:first-child,th:first-child{text-align:left}.figures{columns:2}.bad{color:#a40e26}
@media print{body{margin:0}h2{break-after:avoid}tr{break-inside:avoid}}
"""


def page(outcome: Mapping[str, Any], title: str) -> str:
    """The page of an outcome, which has figures, equity and round trips as a backtest saves them."""
    points = [(datetime.fromisoformat(each["at"]), float(each["equity"])) for each in outcome["equity"]]
    high, falls = 0.0, []
    for at, value in points:
        high = max(high, value)
        falls.append((at, 100 * (value / high - 1) if high > 0 else 0.0))
    name = escape(title)
    parts = [
        "<!doctype html>",
        f'<html lang="en"><head><meta charset="utf-8"><title>{name}</title><style>{_STYLE}</style></head>',
        f"<body><h1>{name}</h1>",
        f"<h2>Equity</h2>{chart(points, 'Equity', '#0969da')}",
        f"<h2>Drawdown</h2>{chart(falls, 'Drawdown in percent', '#a40e26')}",
        f"<h2>Figures</h2>{_figures(outcome['figures'])}",
        f"<h2>Round trips</h2>{_round_trips(outcome)}",
        "</body></html>",
    ]
    return "\n".join(parts)


def chart(points: Sequence[tuple[datetime, float]], label: str, colour: str) -> str:
    """A line over time with its lowest and highest value, and the first and the last day."""
    if len(points) < 2:
        return "<p>There are too few values for a chart.</p>"
    begin, end = points[0][0], points[-1][0]
    values = [value for _, value in points]
    low, high = min(values), max(values)
    span, time = (high - low) or 1.0, (end - begin).total_seconds() or 1.0
    bottom, right = HEIGHT - MARGIN, WIDTH - 10
    placed = [
        f"{LEFT + (right - LEFT) * ((at - begin).total_seconds() / time):.1f},"
        f"{bottom - (bottom - MARGIN) * (value - low) / span:.1f}"
        for at, value in points
    ]
    texts = [
        (LEFT - 6, MARGIN + 4, "end", f"{high:,.2f}"),
        (LEFT - 6, bottom + 4, "end", f"{low:,.2f}"),
        (LEFT, HEIGHT - 4, "start", f"{begin:%Y-%m-%d}"),
        (right, HEIGHT - 4, "end", f"{end:%Y-%m-%d}"),
    ]
    written = "".join(f'<text x="{x}" y="{y}" text-anchor="{side}">{text}</text>' for x, y, side, text in texts)
    return (
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(label)}" font-size="11">'
        f'<path d="M{LEFT} {MARGIN}H{right}M{LEFT} {bottom}H{right}" stroke="#d8dee4"/>'
        f'<polyline fill="none" stroke="{colour}" stroke-width="1.5" points="{" ".join(placed)}"/>{written}</svg>'
    )


def _figures(figures: Mapping[str, Any]) -> str:
    trades = {f"trades: {name}": value for name, value in figures.get("trades", {}).items()}
    rows = {name: value for name, value in figures.items() if name != "trades"} | trades
    lines = [
        f"<tr><td>{escape(name.replace('_', ' '))}</td><td>{escape(_shown(name, value))}</td></tr>"
        for name, value in rows.items()
    ]
    return f"<table>{''.join(lines)}</table>"


def _round_trips(outcome: Mapping[str, Any]) -> str:
    trips = outcome["round_trips"]
    if not trips:
        return "<p>The strategy closed no position.</p>"
    names = ("symbol", "side", "qty", "entry_bar", "exit_bar", "entry_price", "exit_price", "profit")
    head = "".join(f"<th>{name.replace('_', ' ')}</th>" for name in names)
    lines = []
    for trip in trips[:MOST_TRIPS]:
        loss = ' class="bad"' if str(trip["profit"]).startswith("-") else ""
        cells = "".join(f"<td>{escape(_cell(name, trip[name]))}</td>" for name in names)
        lines.append(f"<tr{loss}>{cells}</tr>")
    more = outcome["round_trips_total"] - len(lines)
    rest = f"<p>{more} more are in the JSON.</p>" if more > 0 else ""
    return f"<table><tr>{head}</tr>{''.join(lines)}</table>{rest}"


def _cell(name: str, value: Any) -> str:
    return "" if value is None else str(value)[:16].replace("T00:00", "") if name.endswith("_bar") else str(value)


def _shown(name: str, value: Any) -> str:
    if value is None:
        return "-"
    if name.removeprefix("trades: ") in _PERCENT:
        return f"{100 * value:.2f} %"
    return f"{value:,.4f}" if isinstance(value, float) else str(value)
