"""The heartbeat of a worker process: it reports the process and its runs as alive, and passes on cancellations.

Once a second one statement writes the heartbeats and progress of all runs and reads which were canceled. Heartbeats are
times of PostgreSQL's clock, which all processes share. A run that no longer belongs to this worker is told to end. A
run over its time limit gets TimeLimitExceeded raised on its thread.
"""

import math
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from dramatiq.middleware import TimeLimitExceeded, raise_thread_exception
from sqlalchemy import text

from shared.background import Background
from shared.bus.unit_of_work import ServiceContext
from shared.jobs.run_context import Signals
from shared.outage import Outage
from shared.storage.errors import DATABASE_ERRORS

BEAT_SECONDS = 1.0
#: A run that swallows the exception of its time limit gets it again this often.
AGAIN_SECONDS = 5.0
#: A pause between two beats that is longer by this much means that the process stood still, as under a closed lid.
STILL_SECONDS = 2.0


@dataclass
class _Held:
    signals: Signals
    thread: int
    deadline: float


class Heartbeat(Background):
    """``kind`` is ``worker``, ``scheduler`` or ``gateway``. ``queues`` are those that the process consumes.

    ``jobs`` are those that the process declares, if it is a scheduler.
    """

    def __init__(
        self,
        context: ServiceContext,
        *,
        kind: str = "worker",
        queues: Sequence[str] = (),
        jobs: Sequence[str] | None = None,
    ) -> None:
        super().__init__(f"heartbeat of {context.service}")
        self._context = context
        self._kind = kind
        self._queues = list(queues)
        self.jobs = jobs
        self._turns: dict[UUID, tuple[threading.Lock, int]] = {}
        self._held: dict[tuple[UUID, int], _Held] = {}
        self._lock = threading.Lock()
        self._outage = Outage("the database", service=context.service, part="heartbeat")
        self._host = socket.gethostname()
        self._started_at = context.clock()
        self._clock_ahead: timedelta | None = None
        #: Called after each successful heartbeat.
        self.after_beat: Callable[[], None] = lambda: None
        #: Names this process uniquely, even if its pid is reused.
        self.worker = f"{context.service}:{self._host}:{os.getpid()}:{uuid4().hex[:6]}"

    def run(self) -> None:
        """Beat once a second. Time for which the process stood still counts for no time limit."""
        paused_at = time.monotonic()
        while not self.stopping.wait(BEAT_SECONDS):
            late = time.monotonic() - paused_at - BEAT_SECONDS
            if late > STILL_SECONDS:
                self._extend_limits(late)
            self.beat()
            paused_at = time.monotonic()

    def _extend_limits(self, seconds: float) -> None:
        with self._lock:
            for held in self._held.values():
                held.deadline += seconds

    def stop(self) -> None:
        """Stop beating, and record that the process has stopped."""
        super().stop()
        self._write(stopped=True)

    def interrupt(self) -> None:
        """Tell all runs that the process is about to end.

        Runs that check for it end and begin again elsewhere. The others may finish while the process still lives.
        """
        with self._lock:
            for held in self._held.values():
                held.signals.interrupted.set()

    @contextmanager
    def exclusively(self, run_id: UUID) -> Iterator[None]:
        """Let one thread of this process at a time start the run."""
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
        """Tell whether this process holds an attempt of the run."""
        with self._lock:
            return any(held == run_id for held, _ in self._held)

    def hold(self, run_id: UUID, attempt: int, limit_seconds: float) -> Signals:
        """Beat for the run until it is released. At its time limit TimeLimitExceeded is raised on this thread."""
        signals = Signals()
        with self._lock:
            deadline = time.monotonic() + limit_seconds
            self._held[run_id, attempt] = _Held(signals, threading.get_ident(), deadline)
        return signals

    @contextmanager
    def time_limited(self, run_id: UUID, attempt: int) -> Iterator[None]:
        """Limit the time of the block: raises TimeLimitExceeded in it when the limit is up. The run stays held."""
        try:
            yield
        finally:
            try:
                self._end_limit(run_id, attempt)
            except TimeLimitExceeded:  # it came as the block ended, and another would come while its result is saved
                self._end_limit(run_id, attempt)
                raise

    def _end_limit(self, run_id: UUID, attempt: int) -> None:
        with self._lock:
            self._held[run_id, attempt].deadline = math.inf

    def release(self, run_id: UUID, attempt: int) -> None:
        """Stop beating for the run. Raises KeyError if it is not held."""
        with self._lock:
            del self._held[run_id, attempt]

    def beat(self) -> None:
        """Time out overdue runs, and write one heartbeat. The database may be down."""
        with self._lock:  # so the thread cannot have begun another run meanwhile
            for held in self._held.values():
                if (now := time.monotonic()) > held.deadline:
                    held.deadline = now + AGAIN_SECONDS
                    raise_thread_exception(held.thread, TimeLimitExceeded)
        self._write(stopped=False)

    def _write(self, *, stopped: bool) -> None:
        before = self._context.clock()
        with self._lock:
            held = dict(self._held)
        given = {
            "worker": self.worker,
            "service": self._context.service,
            "host": self._host,
            "pid": os.getpid(),
            "kind": self._kind,
            "queues": self._queues,
            "jobs": None if self.jobs is None else sorted(self.jobs),
            "started_at": self._started_at,
            "stopped": stopped,
            "now": before,
            "clock_ahead": self._clock_ahead,
            "ids": [run_id for run_id, _ in held],
            "attempts": [attempt for _, attempt in held],
            "done": [each.signals.done for each in held.values()],
            "total": [each.signals.total for each in held.values()],
        }
        try:
            with self._context.engine.begin() as connection:
                rows = connection.execute(_BEAT, given).all()
        except DATABASE_ERRORS as error:
            self._outage.failed(error)
            return
        self._clock_ahead = _ahead(before, rows[0].database_now, self._context.clock())
        canceled = {(row.id, row.attempt): row.canceled for row in rows}
        for key, each in held.items():
            if canceled.get(key, False):
                each.signals.canceled.set()
            elif key not in canceled:
                each.signals.interrupted.set()
        self._outage.passed()
        self.after_beat()


def _ahead(before: datetime, database_now: datetime, after: datetime) -> timedelta:
    """The least that a clock is ahead of the database's, which was read between two readings of it. Behind is negative.

    The readings lie far apart where a process or the database is slow. They then say little about the clock.
    """
    return max(before - database_now, timedelta(0)) or min(after - database_now, timedelta(0))


_BEAT = text("""
WITH beat AS (
  INSERT INTO jobs.workers AS w (id, service, host, pid, kind, queues, runs, started_at, heartbeat_at, stopped_at,
                                 clock_ahead, jobs)
  VALUES (:worker, :service, :host, :pid, :kind, :queues, cardinality(CAST(:ids AS uuid[])),
          now() - (CAST(:now AS timestamptz) - CAST(:started_at AS timestamptz)), now(),
          CASE WHEN :stopped THEN now() END, CAST(:clock_ahead AS interval), CAST(:jobs AS text[]))
  ON CONFLICT (id) DO UPDATE SET heartbeat_at = excluded.heartbeat_at, stopped_at = excluded.stopped_at,
                                 runs = excluded.runs, clock_ahead = excluded.clock_ahead
), beating AS (
  UPDATE jobs.job_runs r
  SET heartbeat_at = now(), done = COALESCE(held.done, r.done), total = COALESCE(held.total, r.total)
  FROM unnest(CAST(:ids AS uuid[]), CAST(:attempts AS integer[]), CAST(:done AS bigint[]), CAST(:total AS bigint[]))
    AS held (id, attempt, done, total)
  WHERE r.id = held.id AND r.attempt = held.attempt AND r.state = 'running'
  RETURNING r.id, r.attempt, r.cancel_requested_at IS NOT NULL AS canceled
)
SELECT now() AS database_now, b.* FROM (VALUES (1)) one LEFT JOIN beating b ON true
""")
