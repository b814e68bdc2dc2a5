"""Bars as columns, and the sessions that they lie in."""

from dataclasses import dataclass
from datetime import timedelta

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
#: Times in microseconds since 1970 UTC.
Times = NDArray[np.int64]
LENGTHS = {
    "1m": timedelta(minutes=1),
    "5m": timedelta(minutes=5),
    "15m": timedelta(minutes=15),
    "1h": timedelta(hours=1),
    "1d": timedelta(days=1),
}
#: The session of a bar outside of any.
NO_SESSION = -1
_DAY = timedelta(days=1) // timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Bars:
    """Columns of the bars of one series, oldest first. Bars of one session have equal numbers in ``sessions``."""

    starts: Times
    highs: Array
    lows: Array
    closes: Array
    volumes: Array
    sessions: Times

    def __len__(self) -> int:
        return len(self.starts)

    def between(self, begin: int, end: int | None) -> "Bars":
        """Return the bars of a slice, without a copy."""
        part = slice(begin, end)
        return Bars(
            self.starts[part],
            self.highs[part],
            self.lows[part],
            self.closes[part],
            self.volumes[part],
            self.sessions[part],
        )


def sessions_between(starts: Times, opens: Times, closes: Times) -> Times:
    """Return the session that each start lies in, by its open, and NO_SESSION for none. Sessions are in order."""
    if not len(opens):
        return np.full(len(starts), NO_SESSION, dtype=np.int64)
    position = np.searchsorted(opens, starts, side="right") - 1
    inside = (position >= 0) & (starts < closes[position])
    return np.where(inside, opens[position], NO_SESSION)


def days_of(starts: Times) -> Times:
    """Return the day of each start in UTC, by its midnight: the sessions of a market that is always open."""
    return starts - starts % _DAY
