"""The report of a benchmark: a row per figure, printed as a table and written to ``bench/out/NAME.json``.

A reference runs in turn with ours (A B A B …) in the same run, and the ratio is taken pair by pair: absolute
figures move from run to run on a shared machine, the ratio much less.
"""

import json
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Literal, NamedTuple

OUT = Path(__file__).parent / "out"
HEADINGS = ("name", "unit", "ours (min to max)", "reference (min to max)", "ratio (min to max)", "goal", "")


class NotMeasured(Exception):
    """A figure could not be taken; the message says what happened instead."""


class Spread(NamedTuple):
    """A figure over several runs."""

    median: float
    min: float
    max: float


@dataclass(frozen=True)
class Goal:
    """``Goal("ratio", ">=", 0.55)``: the median ratio must reach it; ``"max"`` asks it of our worst run."""

    figure: Literal["ratio", "ours", "max"]
    sign: Literal["<", "<=", ">="]
    limit: float

    def __str__(self) -> str:
        return f"{self.figure} {self.sign} {self.limit:g}"

    def is_met(self, ours: Spread, ratio: Spread | None) -> bool:
        if self.figure == "ratio" and ratio is None:
            raise ValueError(f"the goal {self} needs a reference")
        spread = ratio if self.figure == "ratio" and ratio else ours
        value = spread.max if self.figure == "max" else spread.median
        if self.sign == ">=":
            return value >= self.limit
        return value < self.limit or (self.sign == "<=" and value == self.limit)


@dataclass(frozen=True)
class Row:
    """One figure; ``reference`` and ``ratio`` are null where nothing comparable exists."""

    name: str
    unit: str
    ours: Spread
    reference: Spread | None
    ratio: Spread | None
    goal: str
    met: bool


def spread(values: Iterable[float]) -> Spread:
    known = sorted(values)
    if not known:
        raise NotMeasured("there is no value to report")
    return Spread(median(known), known[0], known[-1])


def figure(name: str, unit: str, ours: Iterable[float], goal: Goal | None = None) -> Row:
    """A row without a reference."""
    return _row(name, unit, spread(ours), None, None, goal)


def comparison(name: str, unit: str, pairs: Sequence[tuple[float, float]], goal: Goal | None = None) -> Row:
    """A row from pairs of (ours, reference), as ``interleaved`` returns them."""
    ours, reference = zip(*pairs, strict=True)
    ratio = spread(our / other for our, other in pairs)
    return _row(name, unit, spread(ours), spread(reference), ratio, goal)


def _row(name: str, unit: str, ours: Spread, reference: Spread | None, ratio: Spread | None, goal: Goal | None) -> Row:
    """A figure without a goal is reported only, and so never missed."""
    met = goal is None or goal.is_met(ours, ratio)
    return Row(name, unit, ours, reference, ratio, "none" if goal is None else str(goal), met)


def interleaved(ours: Callable[[], float], reference: Callable[[], float], runs: int) -> list[tuple[float, float]]:
    """Run both in turn, ours first; the pairs of what they return."""
    return [(ours(), reference()) for _ in range(runs)]


def run_benchmark(name: str, measurements: Iterable[Callable[[], Sequence[Row]]]) -> int:
    """Take every measurement, print and write its rows, and return the exit code.

    A missed goal is shown and is no failure (0); a figure that could not be taken is one (1), and does not
    keep the others from being reported.
    """
    rows: list[Row] = []
    failures: list[str] = []
    for measure in measurements:
        try:
            rows += measure()
        except NotMeasured as error:
            failures.append(str(error))
    _publish(name, rows)
    for failure in failures:
        print(f"not measured: {failure}", file=sys.stderr)
    return 1 if failures else 0


def _publish(name: str, rows: Sequence[Row]) -> None:
    OUT.mkdir(exist_ok=True)
    path = OUT / f"{name}.json"
    path.write_text(json.dumps([asdict(row) for row in rows], indent=2) + "\n")
    print(f"\n{table(rows)}\n\nwritten to {path}", flush=True)


def table(rows: Iterable[Row]) -> str:
    cells = [HEADINGS, *(_cells(row) for row in rows)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(HEADINGS))]
    return "\n".join(_line(line, widths) for line in cells)


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    return "  ".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True)).rstrip()


def _cells(row: Row) -> tuple[str, ...]:
    verdict = "" if row.goal == "none" else "met" if row.met else "MISSED"
    return (row.name, row.unit, _text(row.ours), _text(row.reference), _text(row.ratio), row.goal, verdict)


def _text(known: Spread | None) -> str:
    if known is None:
        return "-"
    if known.min == known.max:
        return _number(known.median)
    return f"{_number(known.median)} ({_number(known.min)} to {_number(known.max)})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
