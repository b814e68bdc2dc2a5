"""A clock that was ahead is put right: nothing that was due or blocked stands still for as long as it was ahead."""

from dataclasses import replace
from datetime import timedelta

import pytest

from shared.bus.unit_of_work import ServiceContext
from shared.clock import utc_now
from shared.jobs.declaration import Job
from shared.jobs.engine.dispatch import resend
from shared.jobs.engine.heartbeat import Heartbeat
from shared.jobs.run_context import Counts, RunContext
from shared.resilience.breakers import Breaker
from tests.component.job_worker import (
    Gate,
    JobWorker,
    a_job,
    job_worker,
    runs,
    silent,
    started_by_a_worker_that_died,
    watched,
)
from tests.conftest import FakeClock
from tests.support import eventually, rows, value

HOUR = 3600


def goes_back(context: ServiceContext, clock: FakeClock, *, postgresql: bool) -> None:
    """Put the clock of the processes back by an hour, and that of PostgreSQL too if told so."""
    clock.move(seconds=-HOUR)
    if postgresql:
        silent(context, -HOUR)


@pytest.fixture(params=[True, False], ids=["all clocks", "a process alone"])
def postgresql(request: pytest.FixtureRequest) -> bool:
    """Tells whether PostgreSQL's clock goes back, too."""
    return bool(request.param)


class FailsOnce:
    """A body whose first run, or first run of a part, fails in a way that is retried."""

    def __init__(self, part: int | None = None) -> None:
        self._part = part
        self._failures = [OSError("away")]

    def __call__(self, run: RunContext) -> Counts:
        if run.part == self._part and self._failures:
            raise self._failures.pop()
        return {}


def test_a_retry_begins(orders: ServiceContext, clock: FakeClock, *, postgresql: bool) -> None:
    """Its time lies an hour ahead. Before the clock went back it waited for it."""
    with job_worker(orders, a_job(FailsOnce(), enabled=False, retries=1)) as worker:
        worker.trigger()
        worker.handled()
        worker.tick()
        assert runs(orders)[0].state == "waiting"
        goes_back(orders, clock, postgresql=postgresql)
        worker.tick()
    assert [(run.outcome, run.attempt) for run in runs(orders)] == [("succeeded", 2)]


def test_a_retry_that_was_put_off_while_the_clock_was_ahead_begins(orders: ServiceContext, clock: FakeClock) -> None:
    """The clock was right when the run was sent, and jumped ahead while it ran."""

    def fail(_run: RunContext) -> Counts:
        clock.move(seconds=HOUR)
        raise OSError("away")

    with job_worker(orders, a_job(fail, enabled=False, retries=1)) as worker:
        worker.trigger()
        worker.handled()
        goes_back(orders, clock, postgresql=False)
        worker.tick()
    assert [(run.outcome, run.attempt) for run in runs(orders)] == [("failed", 2)]


def test_a_part_that_waits_for_its_retry_begins(orders: ServiceContext, clock: FakeClock, *, postgresql: bool) -> None:
    """The run that it belongs to ends."""
    given = {"schedule": "off", "retries": 1}
    job = Job("sweep", "orders", "Has parts.", FailsOnce(part=2), given, parts=lambda _: [{}, {}, {}])
    with job_worker(orders, job) as worker:
        worker.trigger()
        eventually(lambda: [run.state for run in runs(orders)][1:] == ["finished", "waiting", "finished"])
        worker.handled()
        worker.tick()
        assert runs(orders)[2].state == "waiting"
        goes_back(orders, clock, postgresql=postgresql)
        worker.tick()
        eventually(lambda: [run.outcome for run in runs(orders)] == ["succeeded"] * 4)


def test_a_run_that_needs_a_breaker_begins(orders: ServiceContext, clock: FakeClock) -> None:
    """The breaker opened before, so its pause says nothing. While it is open, runs wait for it."""
    breaker = Breaker(orders, "provider", failures=1, pause=timedelta(minutes=1))
    with pytest.raises(ConnectionError), breaker:
        raise ConnectionError
    needy = Job("sweep", "orders", "Needs it.", lambda _: {}, {"schedule": "off"}, needs=("provider",))
    with job_worker(orders, needy) as worker:
        worker.trigger()
        worker.handled()
        assert runs(orders)[0].state == "waiting"
        clock.move(seconds=-HOUR)
        worker.tick()
        assert runs(orders)[0].outcome == "succeeded"
        worker.trigger()
        worker.handled()
        assert runs(orders)[1].outcome == "succeeded"


def test_jobs_go_on(orders: ServiceContext, clock: FakeClock) -> None:
    """They would stand still for the whole jump, and no slot has two runs."""
    with job_worker(orders, a_job(lambda _: {}, schedule="1s")) as worker:
        for move in (1, 1, -7200, 1, 1, 1):
            clock.move(seconds=move)
            worker.tick()
    slots = [run.scheduled_for for run in runs(orders)]
    assert len(slots) == len(set(slots)) >= 5


def test_a_disabled_job_is_planned_again(orders: ServiceContext, clock: FakeClock) -> None:
    """It would miss the slots until then if it were enabled."""
    with job_worker(orders, a_job(lambda _: {}, enabled=False)) as worker:
        worker.ticker.run()
        clock.move(seconds=-HOUR)
        worker.ticker.run()
    considered_until = value(orders.engine, "SELECT considered_until FROM jobs.jobs WHERE name = 'sweep'")
    assert considered_until == clock()


def test_a_message_that_was_sent_in_the_future_is_sent_again(orders: ServiceContext, clock: FakeClock) -> None:
    """Its queue may have been wiped, and ten minutes would begin only after the jump."""
    with job_worker(orders, a_job(lambda _: {}, enabled=False), threads=0) as worker:
        worker.trigger()
        with orders.unit_of_work() as uow:
            assert resend(uow, "orders") == 0
        clock.move(seconds=-HOUR)
        for again in (1, 0):
            with orders.unit_of_work() as uow:
                assert resend(uow, "orders") == again
    assert runs(orders)[0].sent_at == clock()


def test_a_run_whose_heartbeat_is_from_the_future_is_lost_too(orders: ServiceContext) -> None:
    """PostgreSQL's clock went back an hour after the worker had died."""
    with job_worker(orders, a_job(lambda _: {}, enabled=False, on_lost="fail")) as worker:
        started_by_a_worker_that_died(orders)
        silent(orders, -HOUR)
        watched(worker)
        worker.tick()
    assert [run.outcome for run in runs(orders)] == ["lost"]


def test_a_clock_that_jumps_ahead_loses_and_doubles_nothing(orders: ServiceContext, clock: FakeClock) -> None:
    """The run that is under way goes on."""
    gate = Gate()
    with job_worker(orders, a_job(gate, enabled=False)) as worker:
        worker.trigger()
        assert gate.entered.wait(10)
        clock.move(seconds=HOUR)
        worker.heartbeat.beat()
        _ticks_each_second(worker, clock)
        gate.opened.set()
        worker.handled()
    assert [(run.outcome, run.attempt) for run in runs(orders)] == [("succeeded", 1)]


def _ticks_each_second(worker: JobWorker, clock: FakeClock) -> None:
    for _ in range(12):
        clock.move(seconds=1)
        worker.ticker.run()


def test_a_process_tells_by_how_much_its_clock_is_ahead(orders: ServiceContext, clock: FakeClock) -> None:
    """Each heartbeat compares it with PostgreSQL's clock and tells the result with the next one."""
    with job_worker(orders, a_job(lambda _: {}, enabled=False)) as worker:
        clock.now = utc_now() + timedelta(hours=1)
        worker.heartbeat.beat()
        worker.heartbeat.beat()
        (row,) = rows(orders.engine, "SELECT clock_ahead, now() - heartbeat_at AS age FROM jobs.workers")
    assert timedelta(minutes=59) < row.clock_ahead <= timedelta(hours=1)
    assert row.age < timedelta(minutes=1)


def test_a_clock_is_not_off_because_its_process_or_the_database_is_slow(orders: ServiceContext) -> None:
    """A process on a busy machine reads its clock, and reaches the database 40 seconds later."""
    delays = iter([40, 40, 0, 40, 0])  # at the start, then before and after each heartbeat
    heartbeat = Heartbeat(replace(orders, clock=lambda: utc_now() - timedelta(seconds=next(delays))))
    heartbeat.beat()
    heartbeat.beat()
    (row,) = rows(orders.engine, "SELECT clock_ahead FROM jobs.workers")
    assert row.clock_ahead == timedelta(0)
