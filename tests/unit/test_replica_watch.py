"""The processes of a replica watch each other, and end it where one of them has stopped."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from shared.observability.health import read_heartbeat, write_heartbeat
from shared.replica_watch import (
    ANSWER_SECONDS,
    HUNG_ROUNDS,
    LOST_ROUNDS,
    START_ROUNDS,
    DatabaseProbe,
    Patience,
    ReplicaWatch,
    SchedulerWatch,
    has_stopped,
    main_process,
    siblings,
)
from shared.worker import Components

SCHEDULER, WORKER, OTHER_WORKER, MAIN = 4711, 4712, 4713, 4710
UNUSED: Any = None


@pytest.fixture
def sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The signals that a watch sends, none of which arrives."""
    signals: list[tuple[int, int]] = []
    monkeypatch.setenv("PAPERPROFIT_RUN_DIR", str(tmp_path))
    monkeypatch.setattr("shared.replica_watch.os.kill", lambda pid, number: signals.append((pid, number)))
    monkeypatch.setattr("shared.replica_watch.main_process", lambda: MAIN)
    monkeypatch.setattr("shared.replica_watch.siblings", lambda _: [WORKER, OTHER_WORKER])
    monkeypatch.setattr("shared.replica_watch.has_stopped", lambda _: False)
    return signals


@pytest.fixture
def watch(sent: list[tuple[int, int]]) -> ReplicaWatch:
    del sent
    return ReplicaWatch("orders", UNUSED, UNUSED, (), UNUSED, UNUSED)


@pytest.fixture
def tick() -> SimpleNamespace:
    return SimpleNamespace(progress=7, answered_at=5.0)


@pytest.fixture
def probe() -> SimpleNamespace:
    return SimpleNamespace(answers=True)


@pytest.fixture
def of_scheduler(sent: list[tuple[int, int]], tick: Any, probe: Any) -> SchedulerWatch:
    del sent
    return SchedulerWatch(tick, probe)


def scheduler_heartbeat(folder: Path) -> None:
    write_heartbeat(folder, "scheduler", pid=SCHEDULER)


def worker_heartbeat(folder: Path, pid: int, *, threads: bool = True) -> None:
    write_heartbeat(folder, f"worker-{pid}", pid=pid, threads=threads)


def test_a_replica_whose_scheduler_has_stopped_is_ended(
    tmp_path: Path, watch: ReplicaWatch, sent: list[tuple[int, int]]
) -> None:
    """The scheduler is killed, because it may have been stopped, and dramatiq's main process is asked to end."""
    scheduler_heartbeat(tmp_path)
    for _ in range(LOST_ROUNDS + 1):
        watch.watch_scheduler()
    assert sent == []
    watch.watch_scheduler()
    assert sent == [(SCHEDULER, signal.SIGKILL), (MAIN, signal.SIGTERM)]
    assert watch.stopping.is_set()


def test_a_replica_is_asked_to_end_once(tmp_path: Path, watch: ReplicaWatch, sent: list[tuple[int, int]]) -> None:
    """All its worker processes miss the scheduler. A second SIGTERM would end one in the middle of a message."""
    scheduler_heartbeat(tmp_path)
    for each in (watch, ReplicaWatch("orders", UNUSED, UNUSED, (), UNUSED, UNUSED)):
        for _ in range(LOST_ROUNDS + 2):
            each.watch_scheduler()
    assert sent.count((MAIN, signal.SIGTERM)) == 1


@pytest.fixture
def stopped() -> list[str]:
    """The parts of a worker process that were stopped, in their order."""
    return []


@pytest.fixture
def end_worker(watch: ReplicaWatch, stopped: list[str], monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """End a worker process with this watch, as dramatiq does after a SIGTERM."""
    broker: Any = SimpleNamespace(close=lambda: stopped.append("broker"))
    part: Any = SimpleNamespace(stop=lambda: stopped.append("part"))
    pool: Any = SimpleNamespace(runs=lambda _: False)
    monkeypatch.setattr(watch, "stop", lambda: stopped.append("watch"))
    components = Components((part,), watch, pool, [], UNUSED)
    return lambda: components.after_worker_shutdown(broker, UNUSED)


def test_a_worker_that_an_operator_ends_returns(end_worker: Callable[[], None], stopped: list[str]) -> None:
    """Dramatiq closes the broker then, and exits with 0."""
    end_worker()
    assert stopped == ["watch", "part"]


def test_a_worker_of_a_replica_that_a_watcher_ended_exits_with_1(
    watch: ReplicaWatch, end_worker: Callable[[], None], stopped: list[str]
) -> None:
    """Dramatiq's exit code is that of its workers."""
    for _ in range(START_ROUNDS + 1):
        watch.watch_scheduler()
    with pytest.raises(SystemExit, match="1"):
        end_worker()
    assert stopped == ["watch", "part", "broker"]


def test_a_scheduler_that_beats_is_never_missed(
    tmp_path: Path, watch: ReplicaWatch, sent: list[tuple[int, int]]
) -> None:
    """Each new heartbeat gives it the whole time again, whatever the clock says."""
    for number in range(5):
        write_heartbeat(tmp_path, "scheduler", pid=SCHEDULER, at=number + 1)
        for _ in range(LOST_ROUNDS):
            watch.watch_scheduler()
    assert sent == []


def test_a_scheduler_has_time_for_its_first_heartbeat(watch: ReplicaWatch, sent: list[tuple[int, int]]) -> None:
    """It imports everything again. If it never comes, there is no process to kill, but the replica ends."""
    for _ in range(START_ROUNDS):
        watch.watch_scheduler()
    assert sent == []
    watch.watch_scheduler()
    assert sent == [(MAIN, signal.SIGTERM)]


def test_a_worker_that_drains_does_not_wait_for_the_scheduler(
    tmp_path: Path, watch: ReplicaWatch, sent: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The scheduler ends at once with its replica. A second SIGTERM would end the worker in the middle of a message."""
    monkeypatch.setattr("shared.worker.Timer", lambda *_: SimpleNamespace(start=lambda: None))
    heartbeat: Any = SimpleNamespace(interrupt=lambda: None)
    components = Components((), watch, UNUSED, [], heartbeat)
    components.before_worker_shutdown(UNUSED, UNUSED)
    scheduler_heartbeat(tmp_path)
    for _ in range(2 * LOST_ROUNDS):
        watch.watch_scheduler()
    assert sent == []
    assert not watch.stopping.is_set()


@pytest.mark.parametrize("threads", [True, False])
def test_a_worker_process_that_has_stopped_is_killed(
    tmp_path: Path, of_scheduler: SchedulerWatch, sent: list[tuple[int, int]], *, threads: bool
) -> None:
    """Dramatiq ends the others when one dies. A process with a dead thread counts as stopped though it beats."""
    worker_heartbeat(tmp_path, WORKER, threads=threads)
    for _ in range(LOST_ROUNDS + 1):
        worker_heartbeat(tmp_path, OTHER_WORKER)
        of_scheduler.watch_workers()
    assert sent == []
    of_scheduler.watch_workers()
    assert sent == [(WORKER, signal.SIGKILL)]


def test_a_worker_process_that_never_beats_is_killed(
    tmp_path: Path, of_scheduler: SchedulerWatch, sent: list[tuple[int, int]]
) -> None:
    """Dramatiq starts the scheduler even where a worker process hangs while it starts."""
    for number in range(START_ROUNDS + 1):
        write_heartbeat(tmp_path, f"worker-{OTHER_WORKER}", at=number + 1, threads=True)
        assert sent == []
        of_scheduler.watch_workers()
    assert sent == [(WORKER, signal.SIGKILL)]


def test_a_loop_that_hangs_ends_the_replica(
    tmp_path: Path, of_scheduler: SchedulerWatch, sent: list[tuple[int, int]]
) -> None:
    """The database answers, but the loop makes no progress. Until then the scheduler's heartbeat is good."""
    for _ in range(HUNG_ROUNDS + 1):
        of_scheduler.watch_loop()
        assert read_heartbeat(tmp_path / "scheduler.json")["loop"]
    of_scheduler.watch_loop()
    assert sent == [(MAIN, signal.SIGTERM), (os.getpid(), signal.SIGKILL)]
    assert not read_heartbeat(tmp_path / "scheduler.json")["loop"]


def test_a_loop_that_waits_for_the_database_does_not_hang(
    tmp_path: Path, of_scheduler: SchedulerWatch, sent: list[tuple[int, int]], probe: SimpleNamespace
) -> None:
    """However long it is away. When it is back, the loop has its whole time again."""
    probe.answers = False
    for _ in range(3 * HUNG_ROUNDS):
        of_scheduler.watch_loop()
    probe.answers = True
    for _ in range(HUNG_ROUNDS):
        of_scheduler.watch_loop()
    assert sent == []
    heartbeat = read_heartbeat(tmp_path / "scheduler.json")
    assert (heartbeat["loop"], heartbeat["ticked_at"]) == (True, 5.0)


def test_a_main_process_that_has_stopped_ends_the_replica(
    of_scheduler: SchedulerWatch, sent: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would neither read what the others log nor pass on SIGTERM."""
    of_scheduler.watch_main()
    monkeypatch.setattr("shared.replica_watch.has_stopped", lambda pid: pid == MAIN)
    for _ in range(LOST_ROUNDS + 1):
        of_scheduler.watch_main()
    assert sent == []
    of_scheduler.watch_main()
    assert sent == [(pid, signal.SIGKILL) for pid in (WORKER, OTHER_WORKER, MAIN, os.getpid())]


def test_a_scheduler_without_any_worker_ends_the_replica(
    of_scheduler: SchedulerWatch, sent: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dramatiq's main process waits for it, and it for nothing: it was told to end and did not."""
    of_scheduler.watch_main()
    monkeypatch.setattr("shared.replica_watch.siblings", lambda _: [])
    for _ in range(LOST_ROUNDS + 1):
        of_scheduler.watch_main()
    assert sent == []
    of_scheduler.watch_main()
    assert sent == [(pid, signal.SIGKILL) for pid in (MAIN, os.getpid())]


def test_workers_whose_main_process_is_gone_are_killed(
    tmp_path: Path, of_scheduler: SchedulerWatch, sent: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that has ended by itself beats no more, and its number may be another process's."""
    for _ in range(2):
        worker_heartbeat(tmp_path, WORKER)
        of_scheduler.watch_workers()
        of_scheduler.watch_main()
    monkeypatch.setattr("shared.replica_watch.siblings", lambda _: [])
    for _ in range(LOST_ROUNDS + 2):
        of_scheduler.watch_main()
    assert sent == [(pid, signal.SIGKILL) for pid in (WORKER, MAIN, os.getpid())]


@pytest.fixture
def child() -> Iterator["subprocess.Popen[bytes]"]:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as process:
        yield process
        process.kill()


def test_a_stopped_process_is_seen(child: "subprocess.Popen[bytes]") -> None:
    """Also one that has ended, whether its parent knows or not."""
    assert not has_stopped(child.pid)
    child.send_signal(signal.SIGSTOP)
    os.waitpid(child.pid, os.WUNTRACED)
    assert has_stopped(child.pid)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert has_stopped(child.pid)
    child.wait()
    assert has_stopped(child.pid)


def test_the_processes_of_a_replica_find_each_other(
    child: "subprocess.Popen[bytes]", monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are the children of one process, and that process."""
    assert main_process() == os.getppid()
    assert os.getpid() not in siblings(main_process())
    monkeypatch.setattr("shared.replica_watch.os.getppid", os.getpid)
    assert child.pid in siblings(os.getpid())


def test_the_children_of_another_parent_are_not_the_replicas() -> None:
    """A process whose parent has died becomes a child of init, which has many others."""
    assert siblings(os.getppid() + 1) == []


def test_patience_begins_anew_with_each_change() -> None:
    """Two rounds without a change are allowed."""
    patience = Patience(2)
    assert [patience.is_over(seen) for seen in (1, 1, 1, 2, 2, 2, 2)] == [False] * 6 + [True]


@pytest.mark.parametrize(("seconds", "answers"), [(0, True), (ANSWER_SECONDS + 1, False)])
def test_a_database_that_hangs_does_not_answer(
    monkeypatch: pytest.MonkeyPatch, seconds: float, *, answers: bool
) -> None:
    """The last good answer is too old. Nobody waits for the next one."""
    context: Any = SimpleNamespace(database_answers=lambda: True)
    probe = DatabaseProbe(context)
    stopping = iter([False, True])
    monkeypatch.setattr(probe.stopping, "wait", lambda _: next(stopping))
    probe.run()
    now = time.monotonic()
    monkeypatch.setattr("shared.replica_watch.time.monotonic", lambda: now + seconds)
    assert probe.answers is answers


def test_a_database_that_was_never_asked_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even on a machine that has just booted."""
    monkeypatch.setattr("shared.replica_watch.time.monotonic", lambda: 0.0)
    assert not DatabaseProbe(UNUSED).answers
