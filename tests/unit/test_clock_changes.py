"""Cron in every time zone over its next two clock changes, against an enumeration of the wall clock's minutes."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import islice
from zoneinfo import ZoneInfo, available_timezones

import pytest

from shared.jobs.schedule.calendar import Market
from shared.jobs.schedule.slots import parse_schedule

NOW = datetime(2026, 11, 29, tzinfo=UTC)
DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
EVERY_HOUR = range(24)
#: The hours and minutes that each expression is for.
EXPRESSIONS = {
    "0 * * * *": (EVERY_HOUR, {0}),
    "30 * * * *": (EVERY_HOUR, {30}),
    "*/7 * * * *": (EVERY_HOUR, range(0, 60, 7)),
    "0 */2 * * *": (range(0, 24, 2), {0}),
    "15 1-23/2 * * *": (range(1, 24, 2), {15}),
    "*/7 2 * * *": ({2}, range(0, 60, 7)),
    "30 2 * * *": ({2}, {30}),
    "30 1 * * *": ({1}, {30}),
    "0 0 * * *": ({0}, {0}),
    "59 23 * * *": ({23}, {59}),
}


def offset(zone: ZoneInfo, moment: datetime) -> timedelta:
    return moment.astimezone(zone).utcoffset() or timedelta(0)


@cache
def changes(zone: ZoneInfo) -> tuple[datetime, ...]:
    """The next two minutes at which the offset is another than a minute before, if there are any within two years."""
    hours = (NOW + number * HOUR for number in range(2 * 366 * 24))
    changing = islice((hour for hour in hours if offset(zone, hour) != offset(zone, hour + HOUR)), 2)
    minutes = ((hour, [hour + number * MINUTE for number in range(61)]) for hour in changing)
    return tuple(next(m for m in after if offset(zone, m) != offset(zone, hour)) for hour, after in minutes)


@cache
def zones() -> dict[tuple[object, ...], ZoneInfo]:
    """One zone for each way in which clocks change."""
    found: dict[tuple[object, ...], ZoneInfo] = {}
    for name in sorted(available_timezones()):
        zone = ZoneInfo(name)
        if any(offset(zone, NOW) != offset(zone, NOW + 15 * day * DAY) for day in range(1, 50)) and (
            at := changes(zone)
        ):
            key = tuple((each, offset(zone, each - MINUTE), offset(zone, each)) for each in at)
            found.setdefault(key, zone)
    return found


def due(zone: ZoneInfo, expression: str, change: datetime) -> Iterator[datetime]:
    """Walk through the minutes around a change, and list those that are due."""
    hours, minutes = EXPRESSIONS[expression]

    def matches(shown: datetime) -> bool:
        return shown.hour in hours and shown.minute in minutes

    jump = offset(zone, change) - offset(zone, change - MINUTE)
    follows_the_hours = hours is EVERY_HOUR
    missed = any(matches(change.astimezone(zone) - number * MINUTE) for number in range(1, jump // MINUTE + 1))
    for number in range(-4 * 60, 6 * 60):
        at = change + number * MINUTE
        repeated = change <= at < change - jump
        skipped_one = at == change and missed and not (follows_the_hours and not jump % HOUR)
        if skipped_one or (matches(at.astimezone(zone)) and (follows_the_hours or not repeated)):
            yield at


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_every_zone_keeps_its_slots_over_its_next_two_changes(expression: str) -> None:
    seen = set()
    for zone in zones().values():
        market = Market("any", zone)
        for change in changes(zone):
            begin, end = change - 4 * HOUR, change + 6 * HOUR
            slots = list(parse_schedule(expression).between(market, begin, end))
            assert slots == list(due(zone, expression, change)), (zone.key, change)
            seen.add(offset(zone, change) - offset(zone, change - MINUTE))
            for later in range(0, 600, 25):  # from any moment on, the same slots follow
                now = begin + later * MINUTE + timedelta(seconds=30)
                assert next(parse_schedule(expression).between(market, now, end), None) == next(
                    (slot for slot in slots if slot >= now), None
                ), (zone.key, now)
    assert {timedelta(minutes=shift) for shift in (120, 60, 30, -30, -60, -120)} <= seen
