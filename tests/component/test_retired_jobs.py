"""Jobs that no replica declares any more: retired, shown, removed, and no reason for an alert."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest

from embedded.system import System
from services.gateway.alerts.evaluator import Evaluator
from shared.bus.retries import TryAgainLater
from shared.bus.unit_of_work import ServiceContext
from shared.contracts.jobs import RunJob
from shared.jobs.admin import control, waiting
from shared.jobs.engine import claims
from shared.jobs.engine.claims import LISTED_FOR
from shared.jobs.engine.executor import Executor
from shared.jobs.engine.heartbeat import Heartbeat
from shared.markets import load_market
from tests.component.alert_rows import evaluate_for, evaluate_until_resolved, open_alerts
from tests.component.documented import DocumentedClient
from tests.component.http_trader import KEY
from tests.component.job_rows import JOB, actions, add_job, add_run, engine_of
from tests.component.job_worker import a_job, job_worker, runs
from tests.conftest import FakeClock
from tests.support import rows

MINUTE = timedelta(minutes=1)


def declared_by(context: ServiceContext, *names: str) -> Heartbeat:
    """Have a scheduler list these jobs."""
    heartbeat = Heartbeat(context, kind="scheduler", jobs=names)
    heartbeat.beat()
    return heartbeat


def retired(context: ServiceContext) -> list[str]:
    found = rows(context.engine, "SELECT name FROM jobs.jobs WHERE retired_at IS NOT NULL ORDER BY name")
    return [row.name for row in found]


def age_heartbeats(context: ServiceContext, by: timedelta) -> None:
    with context.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE jobs.workers SET heartbeat_at = heartbeat_at - %s", (by,))


@pytest.mark.parametrize("ends", ["stops", "crashes"])
def test_a_job_is_retired_when_the_last_replica_that_declares_it_is_gone(orders: ServiceContext, ends: str) -> None:
    """It has no slots then. The other job goes on, and the retired one, too, when a replica declares it again."""
    with job_worker(orders, a_job(lambda _: {}, "old"), a_job(lambda _: {}, "kept")) as worker:
        before, _ = declared_by(orders, "old", "kept"), declared_by(orders, "kept")
        worker.tick()
        assert retired(orders) == []
        if ends == "stops":
            before._write(stopped=True)
        else:
            age_heartbeats(orders, LISTED_FOR + timedelta(seconds=1))
            declared_by(orders, "kept")
        slots = len(runs(orders, "old"))
        _one_second(worker)
        assert retired(orders) == ["old"]
        _one_second(worker)
        assert (len(runs(orders, "kept")), len(runs(orders, "old"))) == (slots + 2, slots)
        declared_by(orders, "old", "kept")
        worker.tick()
        assert retired(orders) == []
        _one_second(worker)
        assert len(runs(orders, "old")) > slots


def _one_second(worker: Any) -> None:
    worker.context.clock.move(seconds=1)
    worker.tick()


@pytest.mark.parametrize("jobs", [[], [None]], ids=["no scheduler", "one of an older version"])
def test_no_job_is_retired_while_nobody_knows(orders: ServiceContext, jobs: Sequence[None]) -> None:
    """A service without a scheduler is down, and one of an older version lists no jobs."""
    with job_worker(orders, a_job(lambda _: {})) as worker:
        for _ in jobs:
            Heartbeat(orders, kind="scheduler").beat()
            declared_by(orders, "other")
        worker.tick()
    assert retired(orders) == []


def test_a_scheduler_of_another_service_retires_nothing(orders: ServiceContext) -> None:
    """Each service judges its own jobs."""
    with job_worker(orders, a_job(lambda _: {})) as worker:
        with orders.engine.begin() as connection:
            connection.exec_driver_sql(
                "INSERT INTO jobs.workers (id, service, host, pid, kind, started_at, heartbeat_at, jobs)"
                " VALUES ('a', 'orders', 'h', 7, 'scheduler', now(), now() + interval '1 hour', '{}')"
            )
        worker.tick()  # it was written before PostgreSQL's clock went back
        assert retired(orders) == []


def test_a_declaration_takes_a_job_up_again(orders: ServiceContext) -> None:
    """A new version declares it before its scheduler beats."""
    with job_worker(orders, a_job(lambda _: {})) as worker:
        declared_by(orders)
        worker.tick()
        assert retired(orders) == [JOB]
        with orders.engine.begin() as connection:
            claims.declare(connection, [a_job(lambda _: {})], orders.clock(), load_market=load_market)
    assert retired(orders) == []


def test_a_retired_job_queues_no_run(orders: ServiceContext) -> None:
    """Nothing would run it. The refusal says what to do. An edit queues none for the slots before it."""
    job = a_job(lambda _: {}, schedule="1m")
    with job_worker(orders, job) as worker:
        worker.trigger()
        worker.handled()
        (run,) = runs(orders)
        declared_by(orders)
        worker.tick()
        begin = orders.clock() - 5 * MINUTE
        given: dict[str, Any] = {"parameters": {}, "who": "OPERATOR1"}
        for attempt in (
            lambda uow: control.trigger(uow, JOB, **given),
            lambda uow: control.retry(uow, run.id, who="OPERATOR1"),
            lambda uow: control.backfill(uow, JOB, begin, orders.clock(), load_market=load_market, **given),
        ):
            with pytest.raises(control.JobRetired, match="DELETE /api/jobs/sweep"), orders.unit_of_work() as uow:
                attempt(uow)
        worker.context.clock.move(hours=1)  # type: ignore[attr-defined]
        with orders.unit_of_work() as uow:
            control.edit(uow, JOB, {"schedule": "2m"}, load_market=load_market, who="OPERATOR1")
        assert [each for each in runs(orders) if each.state != "finished"] == []


def test_a_renamed_job_keeps_no_alert_open(
    gateway: ServiceContext, orders: ServiceContext, evaluator: Evaluator, clock: FakeClock
) -> None:
    """The old name fails, is late, runs too long and missed a slot, until the tick of the new version."""
    with job_worker(orders, a_job(lambda _: {}, "old"), a_job(lambda _: {}, "new")) as worker:
        with orders.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE jobs.jobs SET due_at = %s WHERE name = 'old'", (clock.now - 2 * MINUTE,))
            connection.exec_driver_sql(_TROUBLE, {"now": clock.now})
        evaluator.evaluate()
        kinds = ["job_failing", "run_too_long", "slot_late", "slot_missed"]
        assert [kind for kind, subject in open_alerts(gateway) if subject == "old"] == kinds
        declared_by(orders, "new")
        worker.tick()
        assert retired(orders) == ["old"]
        evaluate_until_resolved(evaluator, clock)
        evaluate_for(evaluator, clock, seconds=15 * 60)
        assert [kind for kind, subject in open_alerts(gateway) if subject == "old"] == []


_TROUBLE = """
INSERT INTO jobs.job_runs (id, job, service, trigger, scheduled_for, last_slot, queued_at, started_at, finished_at,
                           state, outcome, reason, heartbeat_at)
SELECT gen_random_uuid(), 'old', 'orders', 'schedule', CAST(%(now)s AS timestamptz) - ago, %(now)s, %(now)s - ago,
       %(now)s - ago, CASE WHEN outcome IS NOT NULL THEN CAST(%(now)s AS timestamptz) END,
       CASE WHEN outcome IS NULL THEN 'running' ELSE 'finished' END, outcome, reason, now()
FROM (VALUES (interval '4 m', 'failed', 'x'), ('3 m', 'failed', 'x'), ('2 m', 'failed', 'x'),
             ('1 m', 'skipped', 'missed: nobody claimed the slot in time'), ('10 m', NULL, NULL))
  AS run (ago, outcome, reason)
"""


@pytest.fixture
def client(system: System) -> Any:
    with DocumentedClient(system.app(), headers=KEY) as client:
        yield client


def test_a_retired_job_is_shown_and_removed(system: System, client: DocumentedClient) -> None:
    """It is refused a run, then removed with its unfinished runs canceled. Its history and the action stay."""
    add_job(system)
    done = add_run(system)
    unfinished: dict[str, Any] = {"outcome": None, "finished_at": None, "started_at": None, "trigger": "manual"}
    running = add_run(system, **unfinished, state="running")
    waiting = add_run(system, **unfinished, state="waiting")
    part = add_run(system, **{**unfinished, "trigger": "part"}, state="queued", part=1, parent_run_id=running)
    for tick in system.ticks():
        tick.run()
    shown = client.get(f"/api/jobs/{JOB}").json()
    assert (shown["retired_at"] is not None, shown["next_slot"], shown["next_slots"]) == (True, None, [])
    status = {each["name"]: each["retired_at"] for each in client.get("/api/jobs/status").json()["jobs"]}
    assert {name for name, retired_at in status.items() if retired_at} == {JOB}
    refused = client.post(f"/api/jobs/{JOB}/trigger")
    assert (refused.status_code, refused.json()["field"]) == (409, "name")
    assert "DELETE /api/jobs/sweep" in refused.json()["detail"]
    assert client.delete(f"/api/jobs/{JOB}").status_code == 204
    assert client.get(f"/api/jobs/{JOB}").status_code == 404
    assert client.delete(f"/api/jobs/{JOB}").status_code == 404
    outcomes = {str(run_id): client.get(f"/api/runs/{run_id}").json()["outcome"] for run_id in (running, waiting, part)}
    assert set(outcomes.values()) == {"canceled"}
    assert client.get(f"/api/runs/{done}").json()["outcome"] == "succeeded"
    assert client.post(f"/api/runs/{done}/retry").status_code == 404
    ((who, what, subject, before, after),) = actions(system)
    assert (who, what, subject, before["service"], after) == ("TESTKEY", "remove", JOB, "orders", {"canceled_runs": 3})


def test_a_job_that_a_live_replica_declares_cannot_be_removed(system: System, client: DocumentedClient) -> None:
    """Even if it was retired before that replica came. The refusal says what to do, and nothing changes."""
    with engine_of(system).begin() as connection:
        connection.exec_driver_sql("UPDATE jobs.jobs SET retired_at = now() WHERE name = 'process_orders'")
    for name in ("process_orders", "update_positions"):
        refused = client.delete(f"/api/jobs/{name}")
        assert (refused.status_code, refused.json()["field"]) == (409, "name")
        assert "deploy a version without it" in refused.json()["detail"]
    assert actions(system) == []


def test_a_message_of_a_removed_job_is_dropped(orders: ServiceContext) -> None:
    """Its run has ended. While a run waits for a replica that knows its job, its message comes again."""
    with job_worker(orders, a_job(lambda _: {}), threads=0) as worker:
        command = RunJob(to="orders", run_id=worker.trigger(), job="unknown here", attempt=0)
        executor = Executor({}, worker.heartbeat)
        with pytest.raises(TryAgainLater, match="has no job unknown here"):
            executor.execute(command, orders)
        worker.cancel(command.run_id)
        executor.execute(command, orders)
        executor.execute(RunJob(to="orders", run_id=uuid4(), job="removed", attempt=0), orders)


def _retired_now(context: ServiceContext, *names: str) -> None:
    """Have the only scheduler list none of these jobs, as a new version without them."""
    kept = [row.name for row in rows(context.engine, "SELECT name FROM jobs.jobs") if row.name not in names]
    with context.engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM jobs.workers")
    declared_by(context, *kept)


@pytest.mark.parametrize("split", [False, True], ids=["whole", "part"])
def test_a_waiting_run_of_a_retired_job_waits_in_quiet(orders: ServiceContext, *, split: bool) -> None:
    """Its message comes once and not every few seconds, no tick sends it, and it runs when a replica declares it."""
    job = replace(a_job(lambda _: {"ran": 1}, schedule="off"), parts=(lambda _: [{"n": 1}]) if split else None)
    with job_worker(orders, job, threads=0) as worker:
        command = RunJob(to="orders", run_id=worker.trigger(), job=JOB, attempt=0)
        if split:
            Executor({JOB: job}, worker.heartbeat).execute(command, orders)
            command = command.model_copy(update={"run_id": runs(orders)[1].id})
        _retired_now(orders, JOB)
        worker.ticker.run()
        Executor({}, worker.heartbeat).execute(command, orders)
        worker.ticker.run()
        with orders.engine.connect() as connection:
            waits = waiting.of_run(connection, command.run_id, orders.clock())
            of_job = waiting.of_job(connection, JOB, orders.clock(), open_markets=[])
        assert {(each.code, each.message[:30]) for each in (waits, of_job) if each} == {
            ("retired", "no replica declares the job si")
        }
        held = runs(orders)[-1]
        assert (held.state, held.attempt, held.reason) == ("waiting", 0, "its job is retired: no replica declares it")
        _retired_now(orders)
        worker.ticker.run()
        assert (runs(orders)[-1].state, retired(orders)) == ("queued", [])
        Executor({JOB: job}, worker.heartbeat).execute(command, orders)
        assert runs(orders)[-1].counts == {"ran": 1}


@pytest.mark.parametrize("after", ["sweep", [{"job": "sweep"}]], ids=["by its name", "joined"])
def test_a_retired_job_follows_no_run(orders: ServiceContext, after: Any) -> None:
    """Its runs would wait for a replica that declares it, more of them with each run before it."""
    with job_worker(orders, a_job(lambda _: {}), a_job(lambda _: {}, "next", schedule="off", after=after)) as worker:
        _retired_now(orders, "next")
        worker.tick()
        assert ([run.outcome for run in runs(orders)], runs(orders, "next")) == (["succeeded"], [])
