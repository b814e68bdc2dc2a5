"""What operators do to runs and queues while everything works: trigger, cancel, retry, backfill, pause."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from pydantic import BaseModel

from shared.bus.unit_of_work import ServiceContext
from shared.jobs.admin import control
from shared.jobs.admin.queue_control import QueueControl
from shared.jobs.declaration import Job
from shared.jobs.run_context import Counts, RunContext
from shared.jobs.settings import InvalidSetting
from shared.markets import load_market
from tests.component.job_worker import Gate, a_job, job_worker, runs
from tests.conftest import FakeClock
from tests.support import eventually, rows


class Symbols(BaseModel):
    symbols: list[str]


def test_a_trigger_runs_a_disabled_job_with_its_parameters(orders: ServiceContext) -> None:
    """By hand a job runs at any time, and the operator's action is on record with the run's id."""
    given: list[Any] = []

    def note(run: RunContext) -> Counts:
        given.append((run.id, run.parameters))
        return {}

    job = Job("sweep", "orders", "Sweep.", note, {"enabled": False, "schedule": "1s"}, Symbols)
    with job_worker(orders, job) as worker:
        run_id = worker.trigger(symbols=["AAPL"])
        worker.handled()
        with pytest.raises(InvalidSetting) as refused:
            worker.trigger(symbols=["AAPL", 3])
    (run,) = runs(orders)
    assert given == [(run_id, {"symbols": ["AAPL"]})]
    assert (run.id, run.trigger, run.scheduled_for, run.outcome) == (run_id, "manual", None, "succeeded")
    assert refused.value.field == "parameters.symbols.1"
    (action,) = rows(orders.engine, "SELECT * FROM jobs.operator_actions")
    assert (action.who, action.what, action.subject) == ("OPERATOR1", "trigger", "sweep")
    assert (action.before, action.after) == (None, {"run_id": str(run_id), "parameters": {"symbols": ["AAPL"]}})


def test_progress_shows_while_it_runs_and_a_cancel_ends_it(orders: ServiceContext) -> None:
    """Done and total with the next beat; the run ends where it looks."""
    gate = Gate()

    def count_up(run: RunContext) -> Counts:
        run.progress(3, 10)
        return gate(run)

    with job_worker(orders, a_job(count_up, enabled=False)) as worker:
        run_id = worker.trigger()
        assert gate.entered.wait(10)
        worker.heartbeat.beat()
        (running,) = runs(orders)
        assert (running.state, running.done, running.total) == ("running", 3, 10)
        assert worker.cancel(run_id) == "running"
        worker.heartbeat.beat()
        worker.handled()
    (ended,) = runs(orders)
    assert (ended.outcome, ended.done, ended.total, ended.reason) == ("canceled", 3, 10, "canceled while it ran")


def test_a_canceled_run_that_waits_never_begins(orders: ServiceContext, clock: FakeClock) -> None:
    """It waited for the one before it."""
    gate = Gate()
    with job_worker(orders, a_job(gate, enabled=False)) as worker:
        worker.trigger()
        assert gate.entered.wait(10)
        clock.move(seconds=1)
        second = worker.trigger()
        assert worker.cancel(second) == "finished"
        gate.opened.set()
        worker.handled()
        worker.tick()
    assert [(run.outcome, run.attempt) for run in runs(orders)] == [("succeeded", 1), ("canceled", 0)]


def test_a_canceled_run_whose_message_is_on_its_way_never_begins(orders: ServiceContext) -> None:
    """Its queue is paused, so that the message lies there; when it comes, there is nothing to do."""
    ran: list[UUID] = []

    def note(run: RunContext) -> Counts:
        ran.append(run.id)
        return {}

    with job_worker(orders, a_job(note, enabled=False)) as worker:
        consumer = worker.dramatiq.consumers["orders.jobs"]
        consumer.pause()
        assert consumer.paused_event.wait(10)
        run_id = worker.trigger()
        eventually(lambda: worker.broker.queues["orders.jobs"].qsize() == 1)
        assert worker.cancel(run_id) == "finished"
        consumer.resume()
        worker.handled()
    assert [(run.outcome, run.attempt) for run in runs(orders)] == [("canceled", 0)]
    assert ran == []


def test_a_retry_is_a_run_of_its_own_for_the_same_slot(orders: ServiceContext, clock: FakeClock) -> None:
    """It names the run that it repeats; one that has not ended cannot be repeated."""
    slots: list[Any] = []
    gate = Gate()

    def note(run: RunContext) -> Counts:
        slots.append(run.slot)
        return gate(run) if len(slots) == 2 else {}

    with job_worker(orders, a_job(note, schedule="1d")) as worker:
        worker.tick()
        (first,) = runs(orders)
        clock.move(minutes=5)
        with orders.unit_of_work() as uow:
            again = control.retry(uow, first.id, who="OPERATOR1")
        assert gate.entered.wait(10)
        with pytest.raises(control.RunUnfinished), orders.unit_of_work() as uow:
            control.retry(uow, again, who="OPERATOR1")
        gate.opened.set()
        worker.handled()
    _, second = runs(orders)
    assert (second.id, second.trigger, second.parent_run_id, second.outcome) == (again, "retry", first.id, "succeeded")
    assert slots == [first.scheduled_for, first.scheduled_for]


def test_a_backfill_runs_the_slots_of_a_time_in_their_order(orders: ServiceContext, clock: FakeClock) -> None:
    """One after the other, each for its slot, also of a disabled job."""
    slots: list[Any] = []

    def note(run: RunContext) -> Counts:
        slots.append(run.slot)
        return {}

    end = clock.now.replace(minute=0, second=0, microsecond=0)
    with job_worker(orders, a_job(note, schedule="1h", enabled=False)):
        with orders.unit_of_work() as uow:
            ids = control.backfill(
                uow, "sweep", end - timedelta(hours=5), end, load_market=load_market, parameters={}, who="OPERATOR1"
            )
        eventually(lambda: [run.state for run in runs(orders)] == ["finished"] * 5)
    assert slots == [end - timedelta(hours=hours) for hours in (5, 4, 3, 2, 1)]
    assert {run.id for run in runs(orders)} == set(ids)


def test_a_backfill_that_asks_for_too_much_or_nothing_is_refused(orders: ServiceContext, clock: FakeClock) -> None:
    """A thousand slots at a time, and at least one."""
    with job_worker(orders, a_job(lambda _: {}, schedule="1h", enabled=False)):
        for hours, refusal in ((1001, control.TooManySlots), (0, control.NoSlots)):
            begin = clock.now - timedelta(hours=hours)
            with pytest.raises(refusal), orders.unit_of_work() as uow:
                control.backfill(
                    uow, "sweep", begin, clock.now, load_market=load_market, parameters={}, who="OPERATOR1"
                )
    assert runs(orders) == []


def test_a_paused_queue_waits_and_goes_on(orders: ServiceContext) -> None:
    """Its messages stay where they are; the operator's doing is on record."""
    ran: list[UUID] = []

    def note(run: RunContext) -> Counts:
        ran.append(run.id)
        return {}

    with job_worker(orders, a_job(note, enabled=False)) as worker:
        queues = QueueControl(orders, lambda: [worker.dramatiq])
        _set_paused(orders, paused=True)
        queues.poll()
        assert queues.paused == {"orders.jobs"}
        consumer = worker.dramatiq.consumers["orders.jobs"]
        assert consumer.paused_event.wait(10)
        run_id = worker.trigger()
        eventually(lambda: runs(orders)[0].state == "queued" and worker.broker.queues["orders.jobs"].qsize() == 1)
        assert ran == []
        _set_paused(orders, paused=False)
        queues.poll()
        worker.handled()
    assert ran == [run_id]
    noted = "SELECT what, subject, before, after FROM jobs.operator_actions WHERE what <> 'trigger'"
    actions = rows(orders.engine, noted)
    assert [tuple(row) for row in actions] == [
        ("pause", "orders.jobs", {"paused": False}, {"paused": True}),
        ("resume", "orders.jobs", {"paused": True}, {"paused": False}),
    ]


def _set_paused(context: ServiceContext, *, paused: bool) -> None:
    with context.unit_of_work() as uow:
        control.set_queue_paused(uow, "orders.jobs", paused=paused, who="OPERATOR1")
