"""The look-ahead check: a decision must be the same whether or not the bars after it exist.

The strategy runs again on bars that end at each of several moments. A decision that the whole run made differently, or
did not make, depends on bars that it could not know.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, NamedTuple

from services.strategy.backtest.run import run
from services.strategy.backtest.series import Series
from services.strategy.backtest.setup import Decided, Setup
from services.strategy.strategies.decision import Decision

#: The moments at which bars are truncated, and the changes that a report lists.
MOST_CUTS, MOST_LISTED = 10, 100
Progress = Callable[[int, int], None]


def _unheard(_done: int, _total: int) -> None:
    """Progress that nobody asked for."""


class Change(NamedTuple):
    """A decision of the whole run, and of the run on bars that end at ``cut``. One of them may be missing."""

    cut: datetime
    at: datetime
    symbol: str
    whole: Decision | None
    truncated: Decision | None


def changes(
    setup: Setup, series: Sequence[Series], cuts: Sequence[datetime], progress: Progress = _unheard
) -> list[Change]:
    """Each decision that changes once, by time and symbol. ``progress`` gets the runs done and their number."""
    found: dict[tuple[datetime, str], Change] = {}
    whole = _by_place(run(setup, series).decided)
    for number, cut in enumerate(sorted(cuts)):

        def report(_done: int, _total: int, number: int = number) -> None:
            progress(number, len(cuts))

        short = _by_place(run(setup, [truncated(each, cut) for each in series], report).decided)
        for place in sorted({*short, *(place for place in whole if place[0] <= cut)}):
            before, after = whole.get(place), short.get(place)
            if before != after and place not in found:
                found[place] = Change(cut, *place, _first(before), _first(after))
    return [found[place] for place in sorted(found)]


def check(setup: Setup, series: Sequence[Series], progress: Progress = _unheard) -> dict[str, Any]:
    """The report as JSON takes it: the moments of truncation, and the decisions that change."""
    cuts = moments_to_cut(setup, series)
    found = changes(setup, series, cuts, progress)
    progress(len(cuts), len(cuts))
    return {
        "cuts": [cut.isoformat() for cut in cuts],
        "changed": len(found),
        "decisions": [
            {
                "at": each.at.isoformat(),
                "symbol": each.symbol,
                "with_later_bars": _row(each.whole),
                "without_later_bars": _row(each.truncated),
            }
            for each in found[:MOST_LISTED]
        ],
    }


def moments_to_cut(setup: Setup, series: Sequence[Series]) -> list[datetime]:
    """Moments at which the strategy acted, evenly spread. Without such, evenly spread ends of bars."""
    acted = sorted({each.at for each in run(setup, series).decided})
    candidates = acted or sorted({bar.start + each.interval for each in series for bar in each.bars})
    step = max(1, -(-len(candidates) // MOST_CUTS))
    return candidates[::step]


def truncated(series: Series, cut: datetime) -> Series:
    """The series without bars that end after the cut."""
    return replace(series, bars=[bar for bar in series.bars if bar.start + series.interval <= cut])


def _by_place(decided: Sequence[Decided]) -> dict[tuple[datetime, str], list[Decision]]:
    found: dict[tuple[datetime, str], list[Decision]] = {}
    for each in decided:
        found.setdefault((each.at, each.decision.symbol), []).append(each.decision)
    return found


def _first(decisions: list[Decision] | None) -> Decision | None:
    return decisions[0] if decisions else None


def _row(decision: Decision | None) -> dict[str, str] | None:
    return None if decision is None else {"action": str(decision.action), "reason": decision.reason}
