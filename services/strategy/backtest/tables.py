"""The outcome of a backtest as tables for a terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

#: Rows of a table, of which the middle is left out where there are more.
MOST_ROWS = 40
_PERCENT = {
    "total_return",
    "annual_return",
    "volatility",
    "max_drawdown",
    "exposure",
    "time_in_market",
    "win_rate",
    "return",
}


def text_of(outcome: Mapping[str, Any]) -> str:
    """The figures, the round trips and, where it was asked for, the report of the look-ahead check."""
    strategy = outcome["strategy"]
    parameters = ", ".join(f"{name} {value}" for name, value in strategy["parameters"].items())
    head = [
        f"{strategy['kind']} {f'({parameters})' if parameters and strategy['kind'] != 'rules' else ''}".rstrip(),
        f"{', '.join(outcome['symbols'][:20])}: {outcome['bars']} bars, {outcome['from'][:16]} to {outcome['to'][:16]}",
        "",
    ]
    parts = [*head, *_figures(outcome), "", *_round_trips(outcome)]
    if outcome["refused"]:
        last = outcome["refusals"][-1]
        parts += ["", f"{outcome['refused']} orders were refused, the last on {last['at'][:10]}: {last['message']}"]
    if outcome["failed"]:
        last = outcome["failures"][-1]
        parts += ["", f"{outcome['failed']} decisions failed, the last on {last['at'][:10]}: {last['message']}"]
    if outcome["halted"] is not None:
        halted = outcome["halted"]
        parts += ["", f"The strategy was halted on {halted['at'][:16]}: {halted['reason']}"]
    if "look_ahead" in outcome:
        parts += ["", *_look_ahead(outcome["look_ahead"])]
    return "\n".join(parts)


def _figures(outcome: Mapping[str, Any]) -> list[str]:
    figures = outcome["figures"]
    rows = {name: value for name, value in figures.items() if name != "trades"}
    rows |= {("round_trips" if name == "number" else name): value for name, value in figures["trades"].items()}
    rows["fills"] = outcome["fills_total"]
    return [f"{name.replace('_', ' '):<24}{_shown(name, value):>18}" for name, value in rows.items()]


def _round_trips(outcome: Mapping[str, Any]) -> list[str]:
    names = ("symbol", "side", "qty", "entry_bar", "exit_bar", "entry_price", "exit_price", "profit", "return")
    trips = outcome["round_trips"]
    if not trips:
        return ["No round trips."]
    rows = [[_cell(name, trip[name]) for name in names] for trip in trips]
    left_out = outcome["round_trips_total"] - MOST_ROWS
    if left_out > 0:
        gap = [f"… {left_out} more"] + [""] * (len(names) - 1)
        rows = [*rows[: MOST_ROWS // 2], gap, *rows[-MOST_ROWS // 2 :]]
    return _aligned([[name.replace("_", " ") for name in names], *rows])


def _look_ahead(report: Mapping[str, Any]) -> list[str]:
    if not report["changed"]:
        return [f"Look-ahead check: no decision changed on bars truncated at {len(report['cuts'])} moments."]
    runs = ("with_later_bars", "without_later_bars")
    rows = [
        [each["at"][:16], each["symbol"], *((each[name] or {"action": "none"})["action"] for name in runs)]
        for each in report["decisions"][:MOST_ROWS]
    ]
    return [
        f"Look-ahead check: {report['changed']} decisions depend on later bars.",
        *_aligned([["at", "symbol", "with later bars", "without them"], *rows]),
    ]


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _cell(name: str, value: Any) -> str:
    return str(value)[:16].replace("T00:00", "").replace("T", " ") if name.endswith("_bar") else _shown(name, value)


def _shown(name: str, value: Any) -> str:
    if value is None:
        return "-"
    if name in _PERCENT:
        return f"{100 * value:.2f} %"
    return f"{value:.4f}" if isinstance(value, float) else str(value)
