"""The watch of a worker process over its replica: it ends the replica where the scheduler has stopped."""

import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from shared.observability.health import FRESH_SECONDS, write_heartbeat
from shared.worker import SCHEDULER_START_SECONDS, Components, ReplicaWatch

SCHEDULER = 4711
UNUSED: Any = None


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The signals that the watch sends, none of which arrives."""
    signals: list[tuple[int, int]] = []
    monkeypatch.setattr("shared.worker.os.kill", lambda pid, number: signals.append((pid, number)))
    return signals


@pytest.fixture
def watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ReplicaWatch:
    monkeypatch.setenv("PAPERPROFIT_RUN_DIR", str(tmp_path))
    return ReplicaWatch("orders", UNUSED, UNUSED, (), UNUSED, UNUSED)


def scheduler_heartbeat(folder: Path, *, seconds_ago: float) -> None:
    write_heartbeat(folder, "scheduler", at=time.time() - seconds_ago, pid=SCHEDULER)


def test_a_replica_whose_scheduler_has_stopped_is_ended(
    tmp_path: Path, watch: ReplicaWatch, sent: list[tuple[int, int]]
) -> None:
    """The scheduler is killed, because it may hang, and dramatiq's main process is asked to end."""
    scheduler_heartbeat(tmp_path, seconds_ago=FRESH_SECONDS - 1)
    watch.watch_scheduler()
    assert sent == []
    scheduler_heartbeat(tmp_path, seconds_ago=FRESH_SECONDS + 1)
    watch.watch_scheduler()
    assert sent == [(SCHEDULER, signal.SIGKILL), (os.getppid(), signal.SIGTERM)]
    assert watch.stopping.is_set()


def test_a_scheduler_has_time_for_its_first_heartbeat(
    watch: ReplicaWatch, sent: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It imports everything again. If it never comes, there is no process to kill, but the replica ends."""
    begun = time.time()
    monkeypatch.setattr("shared.observability.health.time.time", lambda: begun + SCHEDULER_START_SECONDS)
    watch.watch_scheduler()
    assert sent == []
    late = begun + SCHEDULER_START_SECONDS + FRESH_SECONDS + 1
    monkeypatch.setattr("shared.observability.health.time.time", lambda: late)
    watch.watch_scheduler()
    assert sent == [(os.getppid(), signal.SIGTERM)]


def test_a_worker_that_drains_does_not_wait_for_the_scheduler(
    tmp_path: Path, watch: ReplicaWatch, sent: list[tuple[int, int]]
) -> None:
    """The scheduler ends at once with its replica. A second SIGTERM would end the worker in the middle of a message."""
    heartbeat: Any = SimpleNamespace(interrupt=lambda: None)
    components = Components((), watch, UNUSED, [], heartbeat)
    components.before_worker_shutdown(UNUSED, UNUSED)
    scheduler_heartbeat(tmp_path, seconds_ago=FRESH_SECONDS + 1)
    watch.watch_scheduler()
    assert sent == []
    assert not watch.stopping.is_set()
