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


def test_a_backfill_delays_the_slots_of_the_schedule_and_removes_none(orders: ServiceContext, clock: FakeClock) -> None:
    """The scheduled runs go before the backfills that wait, also those of a job of low priority."""
    clock.now = clock.now.replace(microsecond=0)
    order: list[str] = []
    gate, end = Gate(), clock.now

    def record(run: RunContext) -> Counts:
        order.append("backfill" if run.slot and run.slot < end else "schedule")
        return gate(run)

    with job_worker(orders, a_job(record, overlap="queue", priority="low")) as worker:
        with orders.unit_of_work() as uow:
            begin = end - timedelta(seconds=30)
            control.backfill(uow, "sweep", begin, end, load_market=load_market, parameters={}, who="OPERATOR1")
        assert gate.entered.wait(10)
        for _ in range(5):
            clock.move(seconds=1)
            worker.ticker.run()
        gate.opened.set()
        eventually(lambda: [run.state for run in runs(orders)] == ["finished"] * len(runs(orders)))
    assert [run.outcome for run in runs(orders)] == ["succeeded"] * (30 + 5)
    assert order == ["backfill", *["schedule"] * 5, *["backfill"] * 29]


def test_a_slot_that_replaces_the_run_before_it_leaves_other_runs_alone(
    orders: ServiceContext, clock: FakeClock
) -> None:
    """With overlap cancel, only the runs of earlier slots are canceled."""
    gate = Gate()
    with job_worker(orders, a_job(gate, overlap="cancel")) as worker:
        begin = clock.now - timedelta(hours=1)
        with orders.unit_of_work() as uow:
            control.backfill(
                uow,
                "sweep",
                begin,
                begin + timedelta(seconds=5),
                load_market=load_market,
                parameters={},
                who="OPERATOR1",
            )
        assert gate.entered.wait(10)
        triggered = worker.trigger()
        for _ in range(3):
            clock.move(seconds=1)
            worker.ticker.run()
        gate.opened.set()
        eventually(lambda: [run.state for run in runs(orders)] == ["finished"] * len(runs(orders)))
    outcomes = {run.id: (run.trigger, run.outcome) for run in runs(orders)}
    assert outcomes[triggered] == ("manual", "succeeded")
    assert [each for each in outcomes.values() if each[0] == "backfill"] == [("backfill", "succeeded")] * 5
    scheduled = [outcome for kind, outcome in outcomes.values() if kind == "schedule"]
    assert (scheduled.count("succeeded"), set(scheduled)) == (1, {"succeeded", "canceled"})


def test_runs_that_somebody_asks_for_are_bounded(
    orders: ServiceContext, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control, "MAX_ASKED", 3)
    monkeypatch.setattr(control, "MAX_UNFINISHED", 8)
    gate, begin = Gate(), clock.now - timedelta(hours=1)
    asked: dict[str, Any] = {"load_market": load_market, "parameters": {}, "who": "OPERATOR1"}
    with job_worker(orders, a_job(gate, enabled=False)) as worker:
        for _ in range(3):
            worker.trigger()
        with pytest.raises(control.TooManyRuns, match="3 runs of sweep have not ended yet"):
            worker.trigger()
        with pytest.raises(control.TooManyRuns), orders.unit_of_work() as uow:
            control.backfill(uow, "sweep", begin, begin + timedelta(seconds=6), **asked)
        with orders.unit_of_work() as uow:
            assert len(control.backfill(uow, "sweep", begin, begin + timedelta(seconds=5), **asked)) in {4, 5}
        gate.opened.set()
        eventually(lambda: all(run.state == "finished" for run in runs(orders)))
        worker.trigger()


def test_a_backfill_of_the_future_or_of_a_job_without_a_past_is_refused(
    orders: ServiceContext, clock: FakeClock
) -> None:
    asked: dict[str, Any] = {"load_market": load_market, "parameters": {}, "who": "OPERATOR1"}
    jobs = (a_job(lambda _: {}, enabled=False), a_job(lambda _: {}, "live", enabled=False, backfill=False))
    begin, end = clock.now - timedelta(seconds=5), clock.now
    with job_worker(orders, *jobs):
        with pytest.raises(control.NotBackfilled, match="future"), orders.unit_of_work() as uow:
            control.backfill(uow, "sweep", begin, end + timedelta(seconds=2), **asked)
        with pytest.raises(control.NotBackfilled, match="setting backfill is false"), orders.unit_of_work() as uow:
            control.backfill(uow, "live", begin, end, **asked)
    assert runs(orders) == runs(orders, "live") == []


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
