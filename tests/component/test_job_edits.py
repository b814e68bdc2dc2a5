"""Changes of a job while everything runs: a slot that came before the change is neither lost nor run twice."""

from typing import Any

import pytest

from shared.bus.unit_of_work import ServiceContext
from shared.jobs.admin import control
from shared.jobs.schedule.planning import MISSED
from shared.markets import load_market
from tests.component.schedule_rows import (
    JOB,
    SECOND,
    a_job,
    add_session,
    claimed,
    declare,
    finish_runs,
    run_ids,
    skipped,
    slot_at,
    tick,
)
from tests.component.watching import outbox
from tests.conftest import FakeClock
from tests.support import rows, value


def test_a_toggle_acts_at_the_next_tick_and_is_recorded(orders: ServiceContext, clock: FakeClock) -> None:
    """A slot of the disabled job passes, and the next one runs. A new declaration keeps the operator's setting."""
    declare(orders, JOB)
    for enabled, runs in ((False, 0), (True, 1)):
        with orders.unit_of_work() as uow:
            control.set_enabled(uow, JOB.name, enabled=enabled, load_market=load_market, who="OPERATOR1")
        declare(orders, JOB)
        tick(orders)
        assert len(claimed(orders)) == runs
        clock.move(seconds=1)
    recorded = rows(orders.engine, "SELECT who, what, subject, before, after FROM jobs.operator_actions ORDER BY id")
    assert [tuple(row) for row in recorded] == [
        ("OPERATOR1", "toggle", JOB.name, {"enabled": True}, {"enabled": False}),
        ("OPERATOR1", "toggle", JOB.name, {"enabled": False}, {"enabled": True}),
    ]


@pytest.mark.parametrize(
    "change",
    [{"schedule": "30 12 * * *"}, {"schedule": "2h"}, {"enabled": False}, {"market_hours_only": True}],
    ids=str,
)
def test_an_edit_between_a_slot_and_its_tick_does_not_lose_the_slot(
    orders: ServiceContext, clock: FakeClock, change: dict[str, Any]
) -> None:
    """The slot runs by the settings before the edit. A second edit runs nothing more, and no slot runs twice."""
    clock.now = slot_at(clock.now, 2 * 3600 * SECOND) + 1800 * SECOND
    declare(orders, a_job(schedule="1h"))
    tick(orders)
    finish_runs(orders)
    clock.move(minutes=30, milliseconds=500)
    slot = slot_at(clock.now, 3600 * SECOND)
    for edit in (change, {"time_zone": "Asia/Tokyo"}):
        with orders.unit_of_work() as uow:
            control.edit(uow, JOB.name, edit, load_market=load_market, who="OPERATOR1")
        assert claimed(orders) == [slot - 3600 * SECOND, slot]
        clock.move(milliseconds=100)
    tick(orders)
    assert claimed(orders) == [slot - 3600 * SECOND, slot]
    assert value(orders.engine, "SELECT state FROM jobs.job_runs WHERE scheduled_for = :s", s=slot) == "queued"


def test_slots_between_two_edits_are_decided_by_the_first(orders: ServiceContext, clock: FakeClock) -> None:
    """No tick came between them."""
    clock.now = slot_at(clock.now, 3600 * SECOND) + SECOND
    declare(orders, a_job(schedule="1d"))
    tick(orders)
    finish_runs(orders)
    before = claimed(orders)
    for schedule in ("1m", "1d"):
        with orders.unit_of_work() as uow:
            control.edit(uow, JOB.name, {"schedule": schedule}, load_market=load_market, who="OPERATOR1")
        clock.move(seconds=60)
    assert claimed(orders) == [*before, slot_at(clock.now, 3600 * SECOND) + 60 * SECOND]


def test_a_deployment_between_a_slot_and_its_tick_does_not_lose_the_slot(
    orders: ServiceContext, clock: FakeClock
) -> None:
    """The new declaration has another timing. A job whose timing stays is left to its tick."""
    clock.now = slot_at(clock.now, 3600 * SECOND) + 1800 * SECOND
    declare(orders, a_job(schedule="1h"), a_job("beside", schedule="1h"))
    tick(orders)
    finish_runs(orders)
    clock.move(hours=3)
    slot = slot_at(clock.now, 3600 * SECOND)
    for _ in range(2):  # by two replicas
        declare(orders, a_job(schedule="2h", misfire="skip"), a_job("beside", schedule="1h", misfire="skip"))
    assert claimed(orders) == [slot - 3 * 3600 * SECOND, slot]
    assert skipped(orders) == [(slot - 2 * 3600 * SECOND, slot - 3600 * SECOND, 2, MISSED)]
    assert claimed(orders, "beside") == [slot - 3 * 3600 * SECOND]


def test_an_edited_job_for_market_hours_does_not_lose_its_slot(
    orders: ServiceContext, urls: dict[str, str], clock: FakeClock
) -> None:
    """Its market's sessions are read for it."""
    opens = slot_at(clock.now, SECOND) + 60 * SECOND
    add_session(urls, opens, opens + 60 * SECOND)
    declare(orders, a_job(schedule="at open", market="XNYS"))
    tick(orders)
    clock.now = opens + SECOND
    with orders.unit_of_work() as uow:
        control.edit(uow, JOB.name, {"schedule": "at close"}, load_market=load_market, who="OPERATOR1")
    assert claimed(orders) == [opens]


def test_an_unknown_job_can_be_neither_toggled_nor_triggered(orders: ServiceContext) -> None:
    """The error names the job, and nothing is written."""
    with pytest.raises(control.UnknownJob, match="no_such_job"), orders.unit_of_work() as uow:
        control.set_enabled(uow, "no_such_job", enabled=True, load_market=load_market, who="OPERATOR1")
    with pytest.raises(control.UnknownJob, match="no_such_job"), orders.unit_of_work() as uow:
        control.trigger(uow, "no_such_job", parameters={}, who="OPERATOR1")
    assert value(orders.engine, "SELECT count(*) FROM jobs.operator_actions") == 0
    assert (run_ids(orders), outbox(orders)) == ([], [])
