"""Slots of intervals, cron expressions and market times, across daylight-saving changes and half days."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.jobs.schedule.calendar import Market, Phase
from shared.jobs.schedule.slots import InvalidSchedule, Timing, parse_schedule
from shared.jobs.settings import JobSettings
from tests.unit.market_days import at, london, new_york, tokyo

DAY = timedelta(days=1)
MARKETS = (new_york(), london(), tokyo(), Market("DEMO", ZoneInfo("UTC"), always_open=True))


def market_hours_only(schedule: str, market: str) -> Timing:
    timing = JobSettings(schedule=schedule, market=market, market_hours_only=True).timing
    assert timing is not None
    return timing


def local(market: Market, timing: Timing | str, begin: str, days: int = 1) -> list[str]:
    """List the slots of some days from midnight, by the market's clock."""
    timing = Timing(timing) if isinstance(timing, str) else timing
    first = at(market, begin + " 00:00")
    last = at(market, f"{(datetime.fromisoformat(begin) + days * DAY).date()} 00:00")
    return [slot.astimezone(market.zone).strftime("%m-%d %H:%M:%S") for slot in timing.slots(market, first, last)]


@pytest.mark.parametrize(
    "text",
    [
        "1s",
        "5s",
        "10m",
        "1h",
        "1d",
        "30 9 * * 1-5",
        "0 0 * * 0",
        "at open",
        "at close",
        "5m after open",
        "1h before close",
    ],
)
def test_a_schedule_is_formatted_as_it_was_written(text: str) -> None:
    assert str(parse_schedule(text)) == text


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("5 parsecs", "'5 parsecs' is not an interval"),
        ("0s", "'0s' is not an interval"),
        ("", "'' is not an interval"),
        ("* * * *", "is not an interval"),
        ("60 * * * *", "not a cron expression"),
        ("0 0 30 2 *", "Bad day-of-month"),
        ("0 0 31 4 *", "Bad day-of-month"),
        ("5x after open", "'5x' is not an interval"),
        ("5m after lunch", "is not an interval"),
        ("before open", "is not an interval"),
        ("off", "'off' is not an interval"),
    ],
)
def test_an_invalid_schedule_is_quoted_and_explained(text: str, why: str) -> None:
    with pytest.raises(InvalidSchedule, match=why.replace("*", r"\*")):
        parse_schedule(text)


def test_a_job_that_is_off_in_every_phase_is_rejected() -> None:
    """The job would be enabled but never run."""
    with pytest.raises(InvalidSchedule, match="every phase is off"):
        Timing("off")
    with pytest.raises(InvalidSchedule, match="every phase is off"):
        Timing("1m", dict.fromkeys(Phase, "off"))


def test_sunday_is_0_and_7() -> None:
    """Both numbers and the name mean the same day."""
    for text in ("0 12 * * 0", "0 12 * * 7", "0 12 * * SUN"):
        assert local(london(), text, "2026-11-23", 14) == ["11-29 12:00:00", "12-06 12:00:00"]


def test_a_daily_time_keeps_to_the_markets_clock_when_it_changes() -> None:
    """A time in the gap is due right after it, and a time that comes twice is due once."""
    assert local(new_york(), "30 2 * * *", "2026-03-07", 3) == ["03-07 02:30:00", "03-08 03:00:00", "03-09 02:30:00"]
    assert local(new_york(), "30 1 * * *", "2026-10-31", 3) == ["10-31 01:30:00", "11-01 01:30:00", "11-02 01:30:00"]
    assert local(london(), "30 1 * * *", "2026-03-28", 3) == ["03-28 01:30:00", "03-29 02:00:00", "03-30 01:30:00"]
    assert local(london(), "30 1 * * *", "2026-10-24", 3) == ["10-24 01:30:00", "10-25 01:30:00", "10-26 01:30:00"]
    assert local(tokyo(), "30 1 * * *", "2026-10-31", 2) == ["10-31 01:30:00", "11-01 01:30:00"]


def test_an_hourly_cron_has_as_many_slots_as_the_day_has_hours() -> None:
    assert len(local(new_york(), "0 * * * *", "2026-03-08")) == len(local(new_york(), "1h", "2026-03-08")) == 23
    assert len(local(new_york(), "0 * * * *", "2026-11-01")) == len(local(new_york(), "1h", "2026-11-01")) == 25


def test_after_the_open_follows_the_market_through_changes_half_days_and_holidays() -> None:
    """Daylight saving ends on 1 November, 26 November is a holiday, and the 27th is a half day."""
    assert local(new_york(), "5m after open", "2026-10-30", 4) == ["10-30 09:35:00", "11-02 09:35:00"]
    assert local(new_york(), "at close", "2026-11-25", 4) == ["11-25 16:00:00", "11-27 13:00:00"]
    assert local(new_york(), "10m before close", "2026-12-24", 5) == ["12-24 12:50:00", "12-28 15:50:00"]
    assert local(new_york(), "1h before open", "2026-12-31", 5) == ["12-31 08:30:00", "01-04 08:30:00"]
    assert local(london(), "at close", "2026-12-30", 3) == ["12-30 16:30:00", "12-31 12:30:00"]


def test_a_midday_break_is_neither_an_open_nor_a_close() -> None:
    assert local(tokyo(), "at open", "2026-11-24") == ["11-24 09:00:00"]
    assert local(tokyo(), "at close", "2026-11-24") == ["11-24 15:30:00"]
    assert local(tokyo(), market_hours_only("1h", "XTKS"), "2026-11-24") == [
        f"11-24 {hour}:00:00" for hour in ("09", "10", "11", "13", "14", "15")
    ]


def test_each_phase_has_a_schedule_of_its_own() -> None:
    """As in the specification: often while the market is open, less after hours, seldom at weekends."""
    timing = Timing(
        "30m", {Phase.PRE_MARKET: "2h", Phase.AFTER_HOURS: "1h", Phase.CLOSED: "off", Phase.WEEKEND: "0 6 * * 6"}
    )
    day = local(new_york(), timing, "2026-11-27")
    assert day[:3] == ["11-27 05:00:00", "11-27 07:00:00", "11-27 09:00:00"]  # even hours in UTC
    assert day[3:10] == [f"11-27 {time}:00" for time in ("09:30", "10:00", "10:30", "11:00", "11:30", "12:00", "12:30")]
    assert day[10:] == [f"11-27 {hour}:00:00" for hour in (13, 14, 15, 16)]
    assert local(new_york(), timing, "2026-11-28", 2) == ["11-28 06:00:00"]
    assert len(local(new_york(), timing, "2026-11-26")) == 48  # a holiday follows the default


def test_the_next_slot_is_found_within_the_horizon_only() -> None:
    market = new_york()
    friday = at(market, "2026-11-27 13:00")
    assert market_hours_only("5s", "XNYS").next_slot(market, friday, 7 * DAY) == at(market, "2026-11-30 09:30")
    assert market_hours_only("5s", "XNYS").next_slot(market, friday, DAY) is None


moments = st.datetimes(datetime(2026, 1, 2), datetime(2027, 1, 5), timezones=st.just(UTC))  # noqa: DTZ001 - made aware
texts = st.sampled_from(
    ["7m", "1h", "1d", "*/20 * * * *", "30 1 * * *", "at open", "10m before close", "15m after close"]
)
timings = st.builds(Timing, texts, st.dictionaries(st.sampled_from(list(Phase)), texts))


@given(st.sampled_from(MARKETS), timings, moments, st.lists(st.integers(1, 3000), min_size=1, max_size=6))
def test_every_slot_is_found_once_and_in_its_phase_however_time_is_divided(
    market: Market, timing: Timing, begin: datetime, minutes: list[int]
) -> None:
    """Short and long windows find the same slots. None is lost or doubled between two windows."""
    cuts = [begin]
    for each in minutes:
        cuts.append(cuts[-1] + timedelta(minutes=each))
    whole = list(timing.slots(market, cuts[0], cuts[-1]))
    assert whole == [slot for one, other in pairwise(cuts) for slot in timing.slots(market, one, other)]
    assert whole == sorted(set(whole))
    for slot in whole:
        schedule = timing.schedules[market.phase_at(slot)]
        assert schedule is not None
        assert slot in list(schedule.between(market, slot, slot + timedelta(microseconds=1)))
