"""Intervals as people write them: ``5s``, ``1m``, ``10m``, ``1h``, ``1d``."""

import re
from datetime import timedelta
from functools import lru_cache

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_PATTERN = re.compile(r"([1-9][0-9]{0,5})([smhd])")
LONGEST = timedelta(days=366)


class InvalidInterval(ValueError):
    """The text is not an interval."""


@lru_cache(maxsize=4096)
def parse_interval(text: str) -> timedelta:
    """Read ``"10m"`` as ten minutes. Intervals are whole seconds from ``1s`` to ``366d``.

    Raises InvalidInterval for any other text.
    """
    match = _PATTERN.fullmatch(text)
    if match is None:
        raise InvalidInterval(f"{text!r} is not an interval: write a number and s, m, h or d, such as 10m")
    interval = timedelta(seconds=int(match[1]) * _UNITS[match[2]])
    if interval > LONGEST:
        raise InvalidInterval(f"{text!r} is longer than {LONGEST.days} days")
    return interval


def format_interval(interval: timedelta) -> str:
    """Write the shortest exact text: an hour is ``1h``, ninety seconds are ``90s``."""
    seconds = int(interval.total_seconds())
    unit = next(unit for unit in ("d", "h", "m", "s") if seconds % _UNITS[unit] == 0)
    return f"{seconds // _UNITS[unit]}{unit}"
