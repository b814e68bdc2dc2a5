"""The processes of a replica watch each other: one that has stopped or hangs ends the replica, to be restarted.

Each worker process watches the scheduler, which dramatiq does not. The scheduler watches the worker processes, its own
loop, and dramatiq's main process, which waits without end for a worker that was stopped. A database or a broker that is
away ends nothing, because a restart would not bring it back.

A replica that a watcher ends has a non-zero exit code, so ``restart: on-failure`` restarts its container. Dramatiq's
code is that of its worker processes, and a file in the run folder tells them to exit with 1 after they have drained.
"""

import multiprocessing
import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread

import structlog

from shared.background import Background
from shared.bus.amqp.broker import ServiceBroker
from shared.bus.amqp.worker_pools import BackgroundPool
from shared.bus.unit_of_work import ServiceContext
from shared.contracts.routing import consumed_by
from shared.jobs.admin.queue_control import QueueControl
from shared.jobs.engine.tick import Tick
from shared.observability.health import is_fresh, read_heartbeat, run_folder, write_heartbeat

log = structlog.get_logger(__name__)

ROUND_SECONDS = 1.0
#: A process without a new heartbeat for so many rounds has stopped.
LOST_ROUNDS = 10
#: The scheduler is forked after the workers are up and imports everything again, which takes long on a busy machine.
START_ROUNDS = 60
#: The scheduler's loop hangs after so many rounds without progress while the database answers. A transaction's waits
#: for a connection and its statements end sooner (``storage.engine``).
HUNG_ROUNDS = 120
#: A database that has not answered for this long is away.
ANSWER_SECONDS = 5.0
#: The file of the run folder that tells that a watcher has ended the replica.
FAILED_FILE = "failed"


class Patience:
    """Counts the rounds of a watcher since it last saw a change.

    Rounds are counted and not seconds, so a pause of the whole replica or a new time of the clock means nothing.
    """

    def __init__(self, rounds: int = LOST_ROUNDS, *, first: int | None = None) -> None:
        self._rounds = rounds
        self._left = rounds if first is None else first
        self._seen: object = 0

    def is_over(self, seen: object) -> bool:
        """Count one round. Before the first change ``seen`` is 0."""
        self._left -= 1
        if seen != self._seen:
            self._seen, self._left = seen, self._rounds
        return self._left < 0

    def restart(self) -> None:
        """Count the next round as a change."""
        self._seen = object()


class DatabaseProbe(Background):
    """Asks the database once a second, on a thread that may hang in it."""

    def __init__(self, context: ServiceContext) -> None:
        super().__init__("database-probe")
        self._context = context
        self._answered_at = -ANSWER_SECONDS

    def run(self) -> None:
        while not self.stopping.wait(ROUND_SECONDS):
            answered = self._context.database_answers()
            self._answered_at = time.monotonic() if answered else -ANSWER_SECONDS

    @property
    def answers(self) -> bool:
        """True where the database has answered within the last ANSWER_SECONDS."""
        return time.monotonic() - self._answered_at < ANSWER_SECONDS


class ReplicaWatch(Background):
    """Writes the health of a worker process once a second, and ends the replica where its scheduler has stopped.

    The scheduler ends at once when the replica is told to end, so nobody waits for it while the worker is ``draining``.
    """

    def __init__(
        self,
        service: str,
        broker: ServiceBroker,
        probe: DatabaseProbe,
        components: Sequence[Background],
        pool: BackgroundPool,
        control: QueueControl,
    ) -> None:
        super().__init__("replica-watch")
        self._queues = consumed_by(service)
        self._broker = broker
        self._probe = probe
        self._components = components
        self._pool = pool
        self._control = control
        self.threads: Sequence[Thread] = ()
        self.draining = Event()
        self._folder = run_folder()
        self._patience = Patience(first=START_ROUNDS)

    def run(self) -> None:
        while not self.stopping.wait(ROUND_SECONDS):
            self.watch_scheduler()
            threads = (*self.threads, *self._pool.workers)
            write_heartbeat(
                self._folder,
                f"worker-{os.getpid()}",
                pid=os.getpid(),
                consumers={q: q in self._broker.attached or q in self._control.paused for q in self._queues},
                threads=all(t.is_alive() for t in threads) and all(each.alive for each in self._components),
                broker=self._broker.publisher.connected.is_set(),
                database=self._probe.answers,
            )

    def watch_scheduler(self) -> None:
        """End the replica where the scheduler writes no heartbeat, so that it is restarted."""
        heartbeat = read_heartbeat(self._folder / "scheduler.json")
        if not self._patience.is_over(heartbeat["at"]) or self.draining.is_set():
            return
        log.critical("the scheduler has stopped: ending this replica so that it is restarted")
        self.stopping.set()
        if "pid" in heartbeat:  # its parent would wait for it
            kill(heartbeat["pid"])
        end_replica(self._folder, main_process())

    @property
    def failed(self) -> bool:
        """True if a watcher of any process has ended the replica."""
        return (self._folder / FAILED_FILE).exists()


class SchedulerWatch(Background):
    """Writes the scheduler's heartbeat once a second, and ends the replica where one of its processes has stopped."""

    def __init__(self, tick: Tick, probe: DatabaseProbe) -> None:
        super().__init__("scheduler-watch")
        self._tick = tick
        self._probe = probe
        self._folder = run_folder()
        self._main = main_process()
        self._loop = Patience(HUNG_ROUNDS)
        self._parent = Patience()
        self._workers: dict[int, Patience] = {}

    def run(self) -> None:
        while not self.stopping.wait(ROUND_SECONDS):
            self.watch_loop()
            self.watch_workers()
            self.watch_main()

    def watch_loop(self) -> None:
        """Write the heartbeat. End the replica where the loop hangs although the database answers."""
        if not self._probe.answers:
            self._loop.restart()
        hangs = self._loop.is_over(self._tick.progress)
        write_heartbeat(self._folder, "scheduler", pid=os.getpid(), loop=not hangs, ticked_at=self._tick.answered_at)
        if hangs:
            log.critical("the scheduler hangs: ending this replica so that it is restarted")
            end_replica(self._folder, self._main)
            kill(os.getpid())

    def watch_workers(self) -> None:
        """Kill a worker process that writes no heartbeat or has a dead thread. Dramatiq then ends the replica."""
        for pid in siblings(self._main):
            beat = read_heartbeat(self._folder / f"worker-{pid}.json")
            patience = self._workers.setdefault(pid, Patience(first=START_ROUNDS))
            if patience.is_over(beat["at"] if beat.get("threads", True) else "dead thread"):
                log.critical("a worker process has stopped: ending this replica so that it is restarted", worker=pid)
                kill(pid)

    def watch_main(self) -> None:
        """Kill the replica where dramatiq's main process has stopped or is gone, because nothing else ends it.

        Without a worker process, main only waits for this one: the signal to end came and was lost.
        """
        workers = siblings(self._main)
        if not self._parent.is_over(None if has_stopped(self._main) or not workers else time.monotonic()):
            return
        log.critical("the main process has stopped: killing this replica so that it is restarted")
        orphans = [pid for pid in self._workers if is_fresh(read_heartbeat(self._folder / f"worker-{pid}.json")["at"])]
        for pid in (*(workers or orphans), self._main, os.getpid()):
            kill(pid)


def end_replica(folder: Path, main: int) -> None:
    """Have the main process end the replica in good order, with a non-zero exit code.

    It is asked once: a second SIGTERM would end a worker in the middle of a message. Without it this process ends.
    """
    try:
        (folder / FAILED_FILE).touch(exist_ok=False)
    except FileExistsError:
        return
    try:
        os.kill(main, signal.SIGTERM)
    except ProcessLookupError:
        kill(os.getpid())


def main_process() -> int:
    """The process that runs dramatiq's command line, of which the processes of the replica are children."""
    parent = multiprocessing.parent_process()
    return os.getppid() if parent is None or parent.pid is None else parent.pid


def siblings(main: int) -> list[int]:
    """The other processes of the replica below dramatiq's main process. Linux lists them.

    None where main is gone. This process has another parent then, whose children are not the replica's.
    """
    if os.getppid() != main:
        return []
    children = Path(f"/proc/{main}/task/{main}/children").read_text().split()
    return [int(pid) for pid in children if int(pid) != os.getpid()]


def has_stopped(pid: int) -> bool:
    """True for a process that was stopped, has ended, or does not exist (proc(5))."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except OSError:
        return True
    return state in "TtZX"


def kill(pid: int) -> None:
    """Kill a process that may have ended meanwhile. A stopped process reacts to no other signal."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
