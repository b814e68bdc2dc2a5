"""The pulse of a worker process: says that it and the runs that it holds are alive, and brings their news back.

Once a second one statement writes the heartbeats and progress of all runs and reads who was canceled. A run that is no
longer this worker's is told to end; one over its time limit gets TimeLimitExceeded raised on its thread.
"""

import math
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID, uuid4

from dramatiq.middleware import TimeLimitExceeded, raise_thread_exception
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from shared.background import Background
from shared.bus.unit_of_work import ServiceContext
from shared.jobs.run_context import Signals
from shared.outage import Outage

BEAT_SECONDS = 1.0


@dataclass
class _Held:
    signals: Signals
    thread: int
    deadline: float
    told: bool = False


class Heartbeat(Background):
    """``kind`` is ``worker``, ``scheduler`` or ``gateway``; ``queues`` are those that the process consumes."""

    def __init__(self, context: ServiceContext, *, kind: str = "worker", queues: Sequence[str] = ()) -> None:
        super().__init__(f"pulse of {context.service}")
        self._context = context
        self._kind = kind
        self._queues = list(queues)
        self._turns: dict[UUID, tuple[threading.Lock, int]] = {}
        self._held: dict[tuple[UUID, int], _Held] = {}
        self._lock = threading.Lock()
        self._outage = Outage("the database", service=context.service, part="pulse")
        self._host = socket.gethostname()
        self._started_at = context.clock()
        #: Called when the database has answered a beat.
        self.after_beat: Callable[[], None] = lambda: None
        #: Names this process and no other, also after its pid was given away again.
        self.worker = f"{context.service}:{self._host}:{os.getpid()}:{uuid4().hex[:6]}"

    def run(self) -> None:
        while not self.stopping.wait(BEAT_SECONDS):
            self.beat()

    def stop(self) -> None:
        super().stop()
        self._write(stopped=True)

    def interrupt(self) -> None:
        """The process is to end: runs that look end and begin again elsewhere, the others have until it ends."""
        with self._lock:
            for held in self._held.values():
                held.signals.interrupted.set()

    @contextmanager
    def taking(self, run_id: UUID) -> Iterator[None]:
        """One thread of this process at a time: others that want the run wait until the end of the block."""
        with self._lock:
            turn, waiting = self._turns.get(run_id, (threading.Lock(), 0))
            self._turns[run_id] = turn, waiting + 1
        try:
            with turn:
                yield
        finally:
            with self._lock:
                turn, waiting = self._turns.pop(run_id)
                if waiting > 1:
                    self._turns[run_id] = turn, waiting - 1

    def holds(self, run_id: UUID) -> bool:
        """Whether some try of the run is under way in this process."""
        with self._lock:
            return any(held == run_id for held, _ in self._held)

    def hold(self, run_id: UUID, attempt: int, limit_seconds: float) -> Signals:
        """Beat for the run until it is let go; at its time limit TimeLimitExceeded is raised on this thread."""
        signals = Signals()
        with self._lock:
            deadline = time.monotonic() + limit_seconds
            self._held[run_id, attempt] = _Held(signals, threading.get_ident(), deadline)
        return signals

    @contextmanager
    def limiting(self, run_id: UUID, attempt: int) -> Iterator[None]:
        """The time limit counts to the end of the block; the run stays held."""
        try:
            yield
        finally:
            with self._lock:
                self._held[run_id, attempt].deadline = math.inf

    def let_go(self, run_id: UUID, attempt: int) -> None:
        with self._lock:
            del self._held[run_id, attempt]

    def beat(self) -> None:
        """One beat; the database may be away."""
        self._end_overdue()
        self._write(stopped=False)

    def _end_overdue(self) -> None:
        with self._lock:  # the thread cannot have gone on to another run meanwhile
            for held in self._held.values():
                if time.monotonic() > held.deadline and not held.told:
                    held.told = True
                    raise_thread_exception(held.thread, TimeLimitExceeded)

    def _write(self, *, stopped: bool) -> None:
        with self._lock:
            held = dict(self._held)
        try:
            self._say(held, stopped=stopped)
        except SQLAlchemyError as error:
            self._outage.failed(error)
        else:
            self._outage.passed()
            self.after_beat()

    def _say(self, held: dict[tuple[UUID, int], _Held], *, stopped: bool) -> None:
        now = self._context.clock()
        with self._context.engine.begin() as connection:
            rows = connection.execute(
                _BEAT,
                {
                    "worker": self.worker,
                    "service": self._context.service,
                    "host": self._host,
                    "pid": os.getpid(),
                    "kind": self._kind,
                    "queues": self._queues,
                    "started_at": self._started_at,
                    "stopped_at": now if stopped else None,
                    "now": now,
                    "ids": [run_id for run_id, _ in held],
                    "attempts": [attempt for _, attempt in held],
                    "done": [each.signals.done for each in held.values()],
                    "total": [each.signals.total for each in held.values()],
                },
            ).all()
        mine = {(row.id, row.attempt): row.canceled for row in rows}
        for key, each in held.items():
            if mine.get(key, False):
                each.signals.canceled.set()
            elif key not in mine:
                each.signals.interrupted.set()


_BEAT = text("""
WITH beat AS (
  INSERT INTO jobs.workers AS w (id, service, host, pid, kind, queues, runs, started_at, heartbeat_at, stopped_at)
  VALUES (:worker, :service, :host, :pid, :kind, :queues, cardinality(CAST(:ids AS uuid[])), :started_at, :now,
          :stopped_at)
  ON CONFLICT (id) DO UPDATE SET heartbeat_at = excluded.heartbeat_at, stopped_at = excluded.stopped_at,
                                 runs = excluded.runs
)
UPDATE jobs.job_runs r
SET heartbeat_at = :now, done = COALESCE(held.done, r.done), total = COALESCE(held.total, r.total)
FROM unnest(CAST(:ids AS uuid[]), CAST(:attempts AS integer[]), CAST(:done AS bigint[]), CAST(:total AS bigint[]))
  AS held (id, attempt, done, total)
WHERE r.id = held.id AND r.attempt = held.attempt AND r.state = 'running'
RETURNING r.id, r.attempt, r.cancel_requested_at IS NOT NULL AS canceled
""")
