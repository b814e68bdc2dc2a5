"""The judgement of a soak: growth per hour, steady growth, and the bytes of a first month.

Only the second half is judged. In the first half caches fill and tables reach their usual number of dead rows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import NamedTuple

HOURS_OF_MONTH = 30 * 24.0
#: Old rows are removed once a day, so each row stays for up to a day longer than its period.
HOURS_UNTIL_REMOVED = 24.0
#: A smaller rise over the second half is noise. A longer soak shows smaller leaks.
LEAST_SHARE = 0.03
#: A rise that slows down to less than this share of itself is a cache that fills.
LEAST_LASTING = 0.5
FEWEST = 6
#: A table's rise by fewer bytes is a few pages, and by fewer rows too few to tell the size of one.
FEW_BYTES, FEW_ROWS = 64 * 1024, 300
#: The first month of the demo, beside the books.
GOAL_BYTES = 1e9


class Point(NamedTuple):
    """``hours`` since the soak began."""

    hours: float
    value: float


class TooShort(ValueError):
    """The soak has too few samples to be judged."""


@dataclass(frozen=True)
class Growth:
    """The second half of a series: its mean, its last value, its slope, and the rise that the slope makes of it."""

    mean: float
    last: float
    per_hour: float
    rise: float
    steady: bool


def growth(series: Sequence[Point], least: float = 0.0) -> Growth:
    """Judge the second half of a series.

    It grows steadily if the median of each third is above that of the third before, the second such step is at least
    half as high as the first, and the least-squares line rises by more than 3 % of the mean and by at least ``least``.
    Raises TooShort.
    """
    half = series[len(series) // 2 :]
    if len(half) < FEWEST:
        raise TooShort(f"{len(half)} samples in the second half are too few to judge: let it run longer")
    mean, per_hour = fmean(point.value for point in half), slope(half)
    rise = per_hour * (half[-1].hours - half[0].hours)
    third = len(half) // 3
    first, second, last = (
        median(point.value for point in part) for part in (half[:third], half[third:-third], half[-third:])
    )
    lasts = first < second < last and last - second >= LEAST_LASTING * (second - first)
    steady = lasts and rise > LEAST_SHARE * mean and rise >= least
    return Growth(mean, half[-1].value, per_hour, rise, steady)


def slope(series: Sequence[Point]) -> float:
    """Return the slope of the least-squares line, per hour."""
    hours, mean = fmean(point.hours for point in series), fmean(point.value for point in series)
    spread = sum((point.hours - hours) ** 2 for point in series)
    if not spread:
        return 0.0
    return sum((point.hours - hours) * (point.value - mean) for point in series) / spread


def bytes_per_hour(rows: Sequence[Point], sizes: Sequence[Point], least: float) -> float:
    """Return a table's growth in bytes per hour.

    A table grows by whole pages. The growth of one with enough rows is that of their number times their mean size,
    without the ``least`` bytes that the first row needs.
    """
    if rows[-1].value >= FEW_ROWS and rows[-1].value > rows[0].value:
        return growth(rows).per_hour * (sizes[-1].value - least) / rows[-1].value
    found = growth(sizes)
    return found.per_hour if found.rise >= FEW_BYTES else 0.0


def first_month(size: float, per_hour: float, kept_days: float | None) -> float:
    """Return the bytes of a table after a month at this rate. ``kept_days`` is None if its rows stay for ever."""
    hours = HOURS_OF_MONTH
    if kept_days is not None:
        hours = min(hours, 24 * kept_days + HOURS_UNTIL_REMOVED)
    return size + max(0.0, per_hour) * hours


def failures(judged: Mapping[str, tuple[Growth, str]], month: float) -> list[str]:
    """Return a line for each of the judged series that grows steadily, and one if the first month is too large.

    ``judged`` gives each series' growth and the unit of its values.
    """
    lines = [
        f"{name} grows steadily: by {found.per_hour:,.1f} {unit} an hour, from a mean of {found.mean:,.1f} {unit}"
        for name, (found, unit) in judged.items()
        if found.steady
    ]
    if month > GOAL_BYTES:
        lines.append(f"the first month needs {month / 1e9:.2f} GB beside the books, more than {GOAL_BYTES / 1e9:g} GB")
    return lines
