"""The wall clock of a time zone: the stretches in which it runs on, and the times that it skips or repeats."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

_ZERO = timedelta(0)
_MINUTE = timedelta(minutes=1)
#: No zone changes its clock twice within this time.
_DAY = timedelta(days=1)
LONGEST_DAYS = 64


@dataclass(frozen=True)
class Stretch:
    """A time in UTC in which the clock runs on. It shows ``offset`` more than UTC.

    Before it the clock showed ``before`` more. If that is less, the clock skipped the difference. If it is more, the
    clock shows the difference for the second time. ``end`` does not belong to the stretch.
    """

    begin: datetime
    end: datetime
    offset: timedelta
    before: timedelta

    @property
    def skipped(self) -> tuple[datetime, datetime]:
        """The times that the clock skipped just before the stretch, without a zone."""
        begin = self.begin.replace(tzinfo=None)
        return begin + self.before, begin + max(self.offset, self.before)

    @property
    def shown(self) -> tuple[datetime, datetime]:
        """The times that the clock shows, without a zone."""
        return self.begin.replace(tzinfo=None) + self.offset, self.end.replace(tzinfo=None) + self.offset

    @property
    def first_new(self) -> datetime:
        """The first time on the clock that it did not show before the stretch, without a zone."""
        return self.begin.replace(tzinfo=None) + max(self.offset, self.before)


def stretches(zone: ZoneInfo, begin: datetime, end: datetime) -> Iterator[Stretch]:
    """List the stretches from a day before ``begin`` to ``end``, in order and without a gap.

    Each is at most twice as long as the one before it: the first slot is found without a look at the whole year.
    """
    at, end = begin.astimezone(UTC) - _DAY, end.astimezone(UTC)
    before, days = _offset(zone, at), 1
    while at < end:
        offset = _offset(zone, at)
        following = _end(zone, at, min(at + days * _DAY, end))
        yield Stretch(at, following, offset, before)
        at, before, days = following, offset, min(2 * days, LONGEST_DAYS)


def _end(zone: ZoneInfo, begin: datetime, latest: datetime) -> datetime:
    """Find the first minute whose offset is another than at ``begin``, or ``latest`` if there is none before it."""
    at = begin
    while at < latest:
        following = min(at + _DAY, latest)
        if _offset(zone, following) != _offset(zone, begin):
            return _change(zone, at, following)
        at = following
    return latest


def _change(zone: ZoneInfo, at: datetime, later: datetime) -> datetime:
    """Find the minute at which the offset is first another than at ``at``."""
    offset, steps = _offset(zone, at), int((later - at) / _MINUTE) + 1
    at = at.replace(second=0, microsecond=0)
    least, most = 0, steps + 1
    while most - least > 1:
        middle = (least + most) // 2
        least, most = (middle, most) if _offset(zone, at + middle * _MINUTE) == offset else (least, middle)
    return at + most * _MINUTE


def _offset(zone: ZoneInfo, moment: datetime) -> timedelta:
    return moment.astimezone(zone).utcoffset() or _ZERO
