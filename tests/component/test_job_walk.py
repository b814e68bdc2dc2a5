"""The files that a run passes, from its slot to its end: a reader follows one run through so many files at most."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from shared.bus.unit_of_work import ServiceContext
from shared.storage.migrate import ROOT
from tests.component.job_worker import a_job, job_worker, runs
from tests.conftest import FakeClock
from tests.support import eventually

#: The files in their order. With RabbitMQ, publisher, frames and broker of bus/amqp stand in the place of
#: bus/inprocess.py, and the job's own file is one more.
WALK = (
    "shared/jobs/engine/tick.py",
    "shared/bus/unit_of_work.py",
    "shared/jobs/engine/claims.py",
    "shared/markets.py",
    "shared/jobs/schedule/planning.py",
    "shared/jobs/schedule/slots.py",
    "shared/jobs/settings.py",
    "shared/jobs/engine/dispatch.py",
    "shared/bus/envelope.py",
    "shared/contracts/jobs.py",
    "shared/bus/notify.py",
    "shared/bus/outbox.py",
    "shared/bus/relay.py",
    "shared/bus/inprocess.py",
    "shared/bus/actors.py",
    "shared/jobs/engine/executor.py",
    "shared/jobs/engine/heartbeat.py",
    "shared/jobs/engine/run_store.py",
    "shared/bus/retries.py",
)
#: Every statement and every message passes these, so a run's story does not depend on them: the database's driver and
#: pool, traceparents, metrics, the check for poison, the base classes of messages, the bounds of values, and the
#: relay's look for overdue messages.
PLUMBING = (
    "shared/storage/",
    "shared/bus/tracing.py",
    "shared/bus/metrics.py",
    "shared/bus/poison.py",
    "shared/bus/ordering.py",
)
BASES = (
    "shared/contracts/base.py",
    "shared/contracts/written.py",
    "shared/contracts/operations.py",
    "shared/jobs/run_context.py",
    "shared/outage.py",
)


def test_a_run_passes_the_files_of_its_walk_and_no_others(orders: ServiceContext, clock: FakeClock) -> None:
    """The second run of a job counts, since the first one also reads its settings."""
    with profiled() as calls, job_worker(orders, a_job(lambda _: {"done": 1})) as worker:
        worker.tick()
        clock.move(seconds=1)
        calls.clear()
        worker.tick()
        eventually(lambda: [run.state for run in runs(orders)] == ["finished"] * 2)
        passed = dict.fromkeys(calls)
    walk = [name for name in passed if not name.startswith((*PLUMBING, *BASES))]
    assert set(walk) == set(WALK)
    assert len(WALK) + 3 <= 22  # with RabbitMQ and the job's own file


@contextmanager
def profiled() -> Iterator[list[str]]:
    """Record the production file of each call, on this thread and on those that start in the block."""
    calls: list[str] = []
    packages = tuple(f"{ROOT}/{package}/" for package in ("shared", "services"))

    def record(frame: FrameType, event: str, _arg: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(packages):
            calls.append(frame.f_code.co_filename.removeprefix(f"{ROOT}/"))

    threading.setprofile(record)
    sys.setprofile(record)
    try:
        yield calls
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
