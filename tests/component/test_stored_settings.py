"""Settings that another version stored, or the configuration file has: the service starts, and says what is wrong."""

from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from psycopg.types.json import Jsonb
from structlog.testing import capture_logs

from shared.bus.actors import Actors
from shared.bus.retries import TryAgainLater
from shared.bus.unit_of_work import ServiceContext
from shared.contracts.jobs import RunJob
from shared.jobs.admin import control, run_queries
from shared.jobs.config import InvalidJobsConfig
from shared.jobs.declaration import Jobs
from shared.jobs.engine.executor import Executor
from shared.jobs.settings import MAX_WAITING, InvalidSetting
from shared.markets import load_market
from shared.service import Service, configure_jobs
from tests.component.job_worker import job_worker
from tests.component.schedule_rows import a_job, claimed, declare, finish_runs, skipped, tick
from tests.conftest import FakeClock
from tests.support import rows


def test_settings_of_a_newer_version_do_not_stop_the_others(orders: ServiceContext) -> None:
    """Unknown settings are ignored. A job whose settings are invalid here is left to newer replicas."""
    declare(orders, a_job("known"), a_job("newer"), a_job("strange"))
    with orders.engine.begin() as connection:
        for name, more in (("newer", '{"colour": "red"}'), ("strange", '{"overlap": "merge"}')):
            override = "UPDATE jobs.jobs SET overrides = CAST(%s AS jsonb) WHERE name = %s"
            connection.exec_driver_sql(override, (more, name))
    with capture_logs() as logs:
        for _ in range(3):
            tick(orders)
    assert [len(claimed(orders, name)) for name in ("known", "newer", "strange")] == [1, 1, 0]
    assert [entry["job"] for entry in logs if "cannot be read" in entry["event"]] == ["strange"]


def test_a_run_whose_settings_cannot_be_read_waits_for_a_newer_replica(orders: ServiceContext) -> None:
    """It neither fails nor becomes a dead letter. Its job is shown without slots, and cannot be backfilled."""
    strange = {"overlap": "merge"}
    with job_worker(orders, a_job(enabled=False), threads=0) as worker:
        run_id = worker.trigger()
        with orders.engine.begin() as connection:
            connection.exec_driver_sql("UPDATE jobs.jobs SET overrides = %s", (Jsonb(strange),))
            assert run_queries.next_slots(connection, strange, orders.clock(), 5, load_market=load_market) == []
        executor = Executor({"sweep": a_job()}, worker.heartbeat)
        with pytest.raises(TryAgainLater, match="cannot read the settings of sweep"):
            executor.execute(RunJob(to="orders", run_id=run_id, job="sweep", attempt=0), orders)
        begin = orders.clock() - timedelta(hours=1)
        given: dict[str, Any] = {"load_market": load_market, "parameters": {}, "who": "OPERATOR1"}
        with pytest.raises(InvalidSetting, match="overlap"), orders.unit_of_work() as uow:
            control.backfill(uow, "sweep", begin, orders.clock(), **given)
    assert rows(orders.engine, "SELECT state, attempt, worker, started_at FROM jobs.job_runs") == [
        ("queued", 0, None, None)
    ]


@pytest.mark.parametrize("stored", [{"misfire_window": "1h"}, {"misfire_window": "30d"}], ids=str)
def test_a_stored_window_that_cannot_be_kept_is_logged_at_each_start(
    orders: ServiceContext, clock: FakeClock, stored: dict[str, str]
) -> None:
    """An older version took it. The latest missed slots run, the earlier ones are one row, and the service starts."""
    declare(orders, a_job(enabled=False))
    with orders.engine.begin() as connection:
        overrides = {"enabled": True, "misfire": "run_all", **stored}
        connection.exec_driver_sql("UPDATE jobs.jobs SET overrides = %s, considered_until = NULL", (Jsonb(overrides),))
    tick(orders)
    finish_runs(orders)
    clock.move(hours=2)
    with capture_logs() as logs:
        declare(orders, a_job(enabled=False), a_job("beside", misfire="run_all", misfire_window="10m"))
    ((event, job, error),) = [(each["event"], each["job"], each["error"]) for each in logs]
    assert (job, "cannot be kept" in event, error.startswith("misfire_window: ")) == ("sweep", True, True)
    tick(orders)
    assert len(claimed(orders)) == 1 + MAX_WAITING
    assert [slots for _, _, slots, _ in skipped(orders)] == [7200 - MAX_WAITING]


def test_a_window_of_the_configuration_that_cannot_be_kept_is_refused_with_its_line(tmp_path: Path) -> None:
    """The schedule may be that of the code."""
    jobs = Jobs("orders")
    jobs.job("sweep", description="A job.", schedule="1s")(lambda _: {})
    path = tmp_path / "jobs.toml"
    path.write_text('[sweep]\nretries = 1\nmisfire = "run_all"\n')
    settings: Any = SimpleNamespace(jobs_config=path)
    with pytest.raises(InvalidJobsConfig, match=r"jobs.toml:1: sweep.misfire_window: 1h has more than 1000 slots"):
        configure_jobs(Service("orders", Actors(), jobs), settings)
