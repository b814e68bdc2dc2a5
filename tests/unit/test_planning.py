"""The decisions of a tick about a job: slots to run, slots to skip with the reason, and the time of the next plan."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.jobs.schedule.calendar import Market
from shared.jobs.schedule.planning import (
    FULL,
    MISSED,
    MISSED_AT_LEAST,
    MOST_COUNTED,
    NEVER,
    OVERLAPS,
    REPLAN_EVERY,
    SUPERSEDED,
    DueJob,
    Plan,
    plan,
)
from shared.jobs.settings import MAX_WAITING, JobSettings
from tests.unit.market_days import at, london, new_york, tokyo

DEMO = Market("DEMO", ZoneInfo("UTC"), always_open=True)
NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)


def job(
    schedule: str = "1m",
    *,
    considered_until: datetime | None = NOON,
    unfinished: int = 0,
    busy: bool = False,
    **settings: Any,
) -> DueJob:
    return DueJob(
        "sweep",
        "orders",
        JobSettings(schedule=schedule, **settings),
        considered_until=considered_until,
        last_slot=considered_until,
        unfinished=unfinished,
        busy=busy,
    )


def skips(found: Plan) -> list[tuple[datetime, datetime, int, str]]:
    return [(skip.first, skip.last, skip.slots, skip.reason) for skip in found.skips]


def test_a_slot_runs_at_once_and_the_next_one_is_known() -> None:
    """The current minute runs, and the job is planned again at the next one."""
    found = plan(job(), DEMO, NOON + MINUTE)
    assert (found.runs, found.send_first, found.skips) == ((NOON + MINUTE,), True, ())
    assert found.next_slot == found.due_at == NOON + 2 * MINUTE


def test_a_slot_begins_with_its_first_moment() -> None:
    """A microsecond earlier nothing is due."""
    assert plan(job(), DEMO, NOON + MINUTE - timedelta(microseconds=1)).runs == ()


def test_a_new_job_runs_the_interval_that_has_begun() -> None:
    """A new job does not wait for its first interval to end. A time of day that has passed is not made up for."""
    new = replace(job("10m"), considered_until=None, last_slot=None)
    assert plan(new, DEMO, NOON + 3 * MINUTE).runs == (NOON,)
    daily = replace(job("30 9 * * *"), considered_until=None, last_slot=None)
    found = plan(daily, DEMO, NOON)
    assert (found.runs, found.next_slot) == ((), datetime(2026, 11, 24, 9, 30, tzinfo=UTC))


def test_a_changed_job_does_not_run_a_slot_again() -> None:
    """The timing changed within an interval that has run, so the next interval is the first to run."""
    changed = replace(job("1h"), considered_until=None, last_slot=NOON)
    assert plan(changed, DEMO, NOON + 30 * MINUTE).runs == ()
    assert plan(replace(changed, settings=JobSettings(schedule="5s")), DEMO, NOON + 30 * MINUTE).runs == (
        NOON + 30 * MINUTE,
    )


@pytest.mark.parametrize(
    ("misfire", "runs", "missed"),
    [
        ("run_once", [180], (1, 179, 179)),
        ("skip", [180], (1, 179, 179)),
        ("run_all", list(range(120, 181)), (1, 119, 119)),
    ],
)
def test_after_an_outage_of_three_hours(misfire: str, runs: list[int], missed: tuple[int, int, int]) -> None:
    """One slot runs, or all of the last hour in their order. The others are one row of missed slots."""
    found = plan(job(misfire=misfire), DEMO, NOON + 180 * MINUTE)
    assert [(slot - NOON) // MINUTE for slot in found.runs] == runs
    first, last, count = missed
    assert skips(found) == [(NOON + first * MINUTE, NOON + last * MINUTE, count, MISSED)]


def test_with_misfire_skip_a_late_slot_is_skipped() -> None:
    """Ten seconds are within the grace time, eleven are not. With run_once the slot runs."""
    for policy, seconds, runs in (("skip", 10, 1), ("skip", 11, 0), ("run_once", 11, 1)):
        found = plan(job("1h", misfire=policy), DEMO, NOON + HOUR + seconds * SECOND)
        assert (len(found.runs), len(found.skips)) == (runs, 1 - runs)


def test_slots_older_than_a_week_are_counted() -> None:
    """After a year off, all missed hours are one row."""
    found = plan(job("1h"), DEMO, NOON + timedelta(days=365))
    assert skips(found) == [(NOON + HOUR, NOON + timedelta(days=365) - HOUR, 365 * 24 - 1, MISSED)]
    assert found.runs == (NOON + timedelta(days=365),)


@pytest.mark.parametrize(("misfire", "runs"), [("run_once", 1), ("skip", 0), ("run_all", 0)])
def test_a_monthly_slot_runs_after_ten_days_off(misfire: str, runs: int) -> None:
    """With run_once the latest missed slot runs, however old. Each of the others is in the row of missed slots."""
    monthly = job("0 6 1 * *", considered_until=datetime(2026, 9, 15, tzinfo=UTC), misfire=misfire)
    october, november = (datetime(2026, month, 1, 6, tzinfo=UTC) for month in (10, 11))
    found = plan(monthly, DEMO, november + timedelta(days=10))
    assert found.runs == (november,) * runs
    assert skips(found) == [(october, october, 1, MISSED) if runs else (october, november, 2, MISSED)]


def test_a_yearly_slot_runs_after_years_off() -> None:
    """The latest February 29 runs, and the one before is missed."""
    yearly = job("0 0 29 2 *", considered_until=datetime(2020, 1, 1, tzinfo=UTC))
    found = plan(yearly, DEMO, NOON)
    assert found.runs == (datetime(2024, 2, 29, tzinfo=UTC),)
    assert [skip.slots for skip in found.skips] == [1]


def test_old_slots_of_cron_are_counted_up_to_a_limit() -> None:
    """The row says that there are more. Its first and last slots are right all the same."""
    now = NOON + timedelta(days=100)
    found = plan(job("* * * * *", misfire="skip"), DEMO, now + 30 * SECOND)
    week = 7 * 24 * 60 + 1
    assert skips(found) == [(NOON + MINUTE, now, MOST_COUNTED + week - 1, MISSED_AT_LEAST)]


def test_old_slots_after_a_close_run_as_far_as_sessions_are_known() -> None:
    """Ten days on, the market's last close has its report. Before its first session nothing can be counted."""
    market = new_york()
    known = replace(
        market, sessions=tuple(each for each in market.sessions if each.open_at > at(market, "2026-11-20 00:00"))
    )
    report = job("5m after close", considered_until=at(market, "2026-01-05 09:00"), market="XNYS")
    found = plan(report, known, at(market, "2026-12-10 09:00"))
    assert found.runs == (at(market, "2026-12-09 16:05"),)
    ((first, last, _, reason),) = skips(found)
    assert (first, last) == (at(market, "2026-11-20 16:05"), at(market, "2026-12-08 16:05"))
    assert reason == MISSED_AT_LEAST


def test_a_disabled_job_and_one_without_a_schedule_are_never_due() -> None:
    """They are planned again when somebody changes their settings."""
    for settings in (JobSettings(schedule="1m", enabled=False), JobSettings(schedule="off")):
        found = plan(replace(job(), settings=settings), DEMO, NOON + HOUR)
        assert (found.runs, found.skips, found.next_slot, found.due_at) == ((), (), None, NOON + HOUR + NEVER)


def test_a_slot_that_overlaps_is_skipped_waits_or_cancels_the_run() -> None:
    """The job's overlap decides. With misfire run_all no slot is skipped."""
    now = NOON + MINUTE
    left_out = plan(job(unfinished=1), DEMO, now)
    assert (left_out.runs, skips(left_out)) == ((), [(now, now, 1, OVERLAPS)])
    for busy in (job(unfinished=1, overlap="queue"), job(unfinished=1, misfire="run_all")):
        waits = plan(busy, DEMO, now)
        assert (waits.runs, waits.send_first, waits.cancel_unfinished, waits.skips) == ((now,), False, False, ())
    takes_over = plan(job(unfinished=1, overlap="cancel"), DEMO, now)
    assert (takes_over.runs, takes_over.send_first, takes_over.cancel_unfinished) == ((now,), False, True)


@pytest.mark.parametrize("overlap", ["skip", "queue", "cancel"])
def test_a_slot_waits_for_a_run_that_somebody_asked_for(overlap: str) -> None:
    found = plan(job(busy=True, overlap=overlap), DEMO, NOON + MINUTE)
    assert (found.runs, found.send_first, found.cancel_unfinished, found.skips) == ((NOON + MINUTE,), False, False, ())


def test_with_overlap_cancel_only_the_latest_slot_runs() -> None:
    """Earlier slots would be canceled at once."""
    found = plan(job(unfinished=1, overlap="cancel", misfire="run_all"), DEMO, NOON + 3 * MINUTE)
    assert found.runs == (NOON + 3 * MINUTE,)
    assert skips(found) == [(NOON + MINUTE, NOON + 2 * MINUTE, 2, SUPERSEDED)]


def test_the_number_of_waiting_runs_is_limited() -> None:
    """With a thousand runs waiting, the next slot is skipped."""
    found = plan(job(unfinished=MAX_WAITING, overlap="queue"), DEMO, NOON + MINUTE)
    assert skips(found) == [(NOON + MINUTE, NOON + MINUTE, 1, FULL)]


def test_a_job_with_a_far_slot_is_planned_again_soon() -> None:
    """The market's sessions may change meanwhile."""
    found = plan(job("0 0 1 1 *"), DEMO, NOON)
    assert (found.next_slot, found.due_at) == (datetime(2027, 1, 1, tzinfo=UTC), NOON + REPLAN_EVERY)


def test_a_clock_that_is_a_little_behind_runs_nothing_again() -> None:
    """Slots up to the latest one are decided already."""
    assert plan(job(), DEMO, NOON - 5 * SECOND).runs == ()


@pytest.mark.parametrize("back", [11 * SECOND, 3 * MINUTE, HOUR, 720 * HOUR])
def test_after_the_clock_went_back_slots_count_from_now_on(back: timedelta) -> None:
    """The job does not stand still for as long as the jump was. Slots that have a run keep it in the table."""
    found = plan(job(), DEMO, NOON - back)
    assert found.due_at <= NOON - back + REPLAN_EVERY
    assert found.next_slot is not None
    assert found.next_slot <= NOON - back + MINUTE
    assert plan(replace(job(), considered_until=NOON - back), DEMO, found.next_slot).runs == (found.next_slot,)


@pytest.mark.parametrize(
    ("market", "friday", "monday"),
    [
        (new_york(), "2026-03-06 16:00", "2026-03-09 09:30"),  # its clocks go forward on the Sunday between
        (new_york(), "2026-10-30 16:00", "2026-11-02 09:30"),  # and back
        (london(), "2026-03-27 16:30", "2026-03-30 08:00"),
        (london(), "2026-10-23 16:30", "2026-10-26 08:00"),
        (new_york(), "2026-11-25 16:00", "2026-11-27 09:30"),  # over Thanksgiving
        (tokyo(), "2026-12-30 15:30", "2027-01-04 09:00"),  # over the year's end
    ],
    ids=lambda value: value.code if isinstance(value, Market) else value,
)
def test_a_job_for_market_hours_waits_for_the_next_opening(market: Market, friday: str, monday: str) -> None:
    """After a close the next slot is the next open by the market's own clock, and no slot is missed."""
    hourly = job("30m", considered_until=at(market, friday), market_hours_only=True, market=market.code)
    closed = plan(hourly, market, at(market, friday) + HOUR)
    assert (closed.runs, closed.skips, closed.next_slot) == ((), (), at(market, monday))
    opened = plan(hourly, market, at(market, monday))
    assert (opened.runs, opened.skips) == ((at(market, monday),), ())


def test_after_the_close_follows_a_half_day() -> None:
    """The day after Thanksgiving closes at 13:00."""
    after_close = job("5m after close", considered_until=at(new_york(), "2026-11-27 09:00"), market="XNYS")
    found = plan(after_close, new_york(), at(new_york(), "2026-11-27 13:05"))
    assert (found.runs, found.next_slot) == (
        (at(new_york(), "2026-11-27 13:05"),),
        at(new_york(), "2026-11-30 16:05"),
    )


@given(
    st.lists(st.integers(min_value=0, max_value=90), min_size=1, max_size=60),
    st.integers(min_value=1, max_value=30),
    st.sampled_from(["run_once", "skip", "run_all"]),
)
def test_every_slot_is_decided_once_however_irregular_the_ticks(pauses: list[int], every: int, misfire: str) -> None:
    """Each slot is in one run or one skip, and no slot is left out."""
    live, now, decided = job(f"{every}s", misfire=misfire), NOON, []
    for pause in pauses:
        now += pause * SECOND
        found = plan(live, DEMO, now)
        decided += list(found.runs)
        for skip in found.skips:
            decided += [skip.first + n * every * SECOND for n in range(skip.slots)]
            assert skip.last == skip.first + (skip.slots - 1) * every * SECOND
        live = replace(live, considered_until=now, last_slot=max(found.runs, default=live.last_slot))
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    first = epoch + ((NOON - epoch) // (every * SECOND) + 1) * every * SECOND
    assert sorted(decided) == [first + n * every * SECOND for n in range((now - first) // (every * SECOND) + 1)]
