"""Operators' changes to runs and queues while a worker runs: trigger, cancel, retry, backfill, pause."""

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
    """An operator can run any job at any time, and the action is recorded with the run's id."""
    given: list[Any] = []

    def record(run: RunContext) -> Counts:
        given.append((run.id, run.parameters))
        return {}

    job = Job("sweep", "orders", "Sweep.", record, {"enabled": False, "schedule": "1s"}, Symbols)
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
    """The next heartbeat saves done and total. The run ends at its next check."""
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
    """The run waits for the run before it and is canceled meanwhile."""
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
    """The queue is paused, so the message waits there. When it arrives, the run is over."""
    ran: list[UUID] = []

    def record(run: RunContext) -> Counts:
        ran.append(run.id)
        return {}

    with job_worker(orders, a_job(record, enabled=False)) as worker:
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
    """The retry names the run that it repeats. A run that has not ended cannot be retried."""
    slots: list[Any] = []
    gate = Gate()

    def record(run: RunContext) -> Counts:
        slots.append(run.slot)
        return gate(run) if len(slots) == 2 else {}

    with job_worker(orders, a_job(record, schedule="1d")) as worker:
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
    """The runs come one after the other, each for its slot, even if the job is disabled."""
    slots: list[Any] = []

    def record(run: RunContext) -> Counts:
        slots.append(run.slot)
        return {}

    end = clock.now.replace(minute=0, second=0, microsecond=0)
    with job_worker(orders, a_job(record, schedule="1h", enabled=False)):
        with orders.unit_of_work() as uow:
            ids = control.backfill(
                uow, "sweep", end - timedelta(hours=5), end, load_market=load_market, parameters={}, who="OPERATOR1"
            )
        eventually(lambda: [run.state for run in runs(orders)] == ["finished"] * 5)
    assert slots == [end - timedelta(hours=hours) for hours in (5, 4, 3, 2, 1)]
    assert {run.id for run in runs(orders)} == set(ids)


def test_a_backfill_that_asks_for_too_much_or_nothing_is_refused(orders: ServiceContext, clock: FakeClock) -> None:
    """A backfill has one to a thousand slots."""
    with job_worker(orders, a_job(lambda _: {}, schedule="1h", enabled=False)):
        for hours, refusal in ((1001, control.TooManySlots), (0, control.NoSlots)):
            begin = clock.now - timedelta(hours=hours)
            with pytest.raises(refusal), orders.unit_of_work() as uow:
                control.backfill(
                    uow, "sweep", begin, clock.now, load_market=load_market, parameters={}, who="OPERATOR1"
                )
    assert runs(orders) == []


def test_a_paused_queue_is_resumed_with_its_messages(orders: ServiceContext) -> None:
    """Messages stay in the queue meanwhile, and the operator's actions are recorded."""
    ran: list[UUID] = []

    def record(run: RunContext) -> Counts:
        ran.append(run.id)
        return {}

    with job_worker(orders, a_job(record, enabled=False)) as worker:
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
    actions_taken = "SELECT what, subject, before, after FROM jobs.operator_actions WHERE what <> 'trigger'"
    actions = rows(orders.engine, actions_taken)
    assert [tuple(row) for row in actions] == [
        ("pause", "orders.jobs", {"paused": False}, {"paused": True}),
        ("resume", "orders.jobs", {"paused": True}, {"paused": False}),
    ]


def _set_paused(context: ServiceContext, *, paused: bool) -> None:
    with context.unit_of_work() as uow:
        control.set_queue_paused(uow, "orders.jobs", paused=paused, who="OPERATOR1")
