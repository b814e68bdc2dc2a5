"""When a job is due: slots, claimed once, the latest one after an outage."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.jobs.schedule import EPOCH, LiveJob, due_slot, slot_at

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
FIVE_SECONDS = timedelta(seconds=5)
HOUR = timedelta(hours=1)
JOB = LiveJob(
    name="process_orders",
    service="orders",
    enabled=True,
    interval=FIVE_SECONDS,
    market_hours_only=False,
    market_open=False,
    last_slot=None,
    unfinished=False,
)

times = st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - made aware
intervals = st.integers(min_value=1, max_value=366 * 86_400).map(lambda seconds: timedelta(seconds=seconds))


@given(times, intervals)
def test_every_moment_lies_in_one_slot(now: datetime, interval: timedelta) -> None:
    """Slots are multiples of the interval since 1970, so every replica computes the same."""
    slot = slot_at(now, interval)
    assert slot <= now < slot + interval
    assert (slot - EPOCH) % interval == timedelta(0)


@pytest.mark.parametrize(("seconds", "slot"), [(0, 0), (4.999999, 0), (5, 5), (9, 5)])
def test_a_slot_begins_with_its_first_moment(seconds: float, slot: int) -> None:
    """At 12:00:05 the next slot has begun, a microsecond before it has not."""
    assert slot_at(NOON + timedelta(seconds=seconds), FIVE_SECONDS) == NOON + timedelta(seconds=slot)


def test_slots_do_not_move_when_clocks_do() -> None:
    """An hourly job has 24 slots on the day that has 25 hours in New York."""
    midnight = datetime(2026, 11, 1, tzinfo=UTC)
    hours = {slot_at(midnight + timedelta(minutes=minutes), HOUR) for minutes in range(24 * 60)}
    assert len(hours) == 24


def test_a_new_job_is_due_at_once() -> None:
    """It has no slot yet, so the one that has begun is due."""
    assert due_slot(JOB, NOON + timedelta(seconds=3)) == NOON


@pytest.mark.parametrize("enabled_at", [0, 1, 4])
def test_a_slot_is_due_once(enabled_at: int) -> None:
    """What has been claimed is not due again, until the next slot begins."""
    claimed = replace(JOB, last_slot=NOON)
    assert due_slot(claimed, NOON + timedelta(seconds=enabled_at)) is None
    assert due_slot(claimed, NOON + FIVE_SECONDS) == NOON + FIVE_SECONDS


def test_after_an_outage_only_the_latest_slot_is_due() -> None:
    """Ten hours without a scheduler are one run, not 7,200."""
    job = replace(JOB, last_slot=NOON)
    back = NOON + timedelta(hours=10, seconds=2)
    slot = due_slot(job, back)
    assert slot == NOON + timedelta(hours=10)
    assert due_slot(replace(job, last_slot=slot), back) is None


@given(st.lists(st.integers(min_value=0, max_value=90), max_size=60), st.integers(min_value=1, max_value=30))
def test_ticks_at_any_times_claim_each_slot_they_see_once(pauses: list[int], seconds: int) -> None:
    """However late or often the scheduler wakes: one claim for each slot in which it woke."""
    job, now, claimed = replace(JOB, interval=timedelta(seconds=seconds)), NOON, []
    seen = set()
    for pause in pauses:
        now += timedelta(seconds=pause)
        seen.add(slot_at(now, job.interval))
        slot = due_slot(job, now)
        if slot is not None:
            claimed.append(slot)
            job = replace(job, last_slot=slot)
    assert claimed == sorted(seen)


def test_a_clock_that_was_set_back_runs_nothing_again() -> None:
    """The slots before the claimed one have had their turn."""
    job = replace(JOB, last_slot=NOON)
    assert due_slot(job, NOON - timedelta(minutes=3)) is None


def test_a_shorter_interval_acts_at_once() -> None:
    """The hourly job ran at twelve; made five-secondly at half past, it is due then."""
    job = replace(JOB, last_slot=NOON)
    half_past = NOON + timedelta(minutes=30)
    assert due_slot(replace(job, interval=HOUR), half_past) is None
    assert due_slot(job, half_past) == half_past


def test_a_longer_interval_waits_for_its_next_slot() -> None:
    """The hour that has begun lies before the last run."""
    job = replace(JOB, interval=HOUR, last_slot=NOON + timedelta(minutes=30))
    assert due_slot(job, NOON + timedelta(minutes=59)) is None
    assert due_slot(job, NOON + HOUR) == NOON + HOUR


def test_a_disabled_job_is_never_due() -> None:
    """Neither before its first run nor after an outage."""
    assert due_slot(replace(JOB, enabled=False), NOON) is None
    assert due_slot(replace(JOB, enabled=False, last_slot=NOON), NOON + HOUR) is None


@pytest.mark.parametrize(
    ("market_hours_only", "market_open", "due"),
    [(True, True, True), (True, False, False), (False, True, True), (False, False, True)],
)
def test_a_closed_market_holds_back_the_jobs_that_need_it(
    *, market_hours_only: bool, market_open: bool, due: bool
) -> None:
    """The others run at all hours."""
    job = replace(JOB, market_hours_only=market_hours_only, market_open=market_open)
    assert (due_slot(job, NOON) is not None) == due


def test_a_job_waits_while_its_previous_run_is_unfinished() -> None:
    """Two runs of one job never overlap; when it has finished, the latest slot is due."""
    running = replace(JOB, last_slot=NOON, unfinished=True)
    late = NOON + timedelta(seconds=12)
    assert due_slot(running, late) is None
    assert due_slot(replace(running, unfinished=False), late) == NOON + timedelta(seconds=10)
