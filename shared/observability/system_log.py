"""The system log: warnings and errors of all services, and the lines of a job's run, as rows of ``jobs.system_log``.

Lines that only repeat the run's own row go to the process's log and are not rows.

Logging only adds a line to a bounded backlog. A thread writes the backlog, many lines with one statement. While the
database is away, the oldest lines are dropped, and a row records later how many they were.
"""

import logging
import os
import threading
from collections import deque
from contextlib import suppress
from logging.handlers import QueueHandler
from queue import Empty, SimpleQueue

from sqlalchemy import Connection, text

from shared.background import Background
from shared.bus.unit_of_work import ServiceContext
from shared.observability.log_record import Line, belongs_to_run, line_of, worker_of
from shared.observability.logs import RUN_LEVEL, is_informative, repeats_run
from shared.outage import Outage
from shared.storage.errors import DATABASE_ERRORS, is_transient

#: Lines are written at the latest this many seconds after they were logged, or once this many wait.
PAUSE_SECONDS, BATCH = 1.0, 500
#: The most lines that wait.
MAX_LINES = 10_000


class Backlog:
    """The lines that wait, oldest first. Its lock is reentrant: a signal handler may log while its thread does."""

    def __init__(self, most: int = MAX_LINES) -> None:
        self._lines: deque[Line] = deque(maxlen=most)
        self._dropped = 0
        self._lock = threading.RLock()
        self._enough: SimpleQueue[None] = SimpleQueue()

    def put_nowait(self, line: Line) -> None:
        """Add a line. The oldest line is dropped where there is no room."""
        with self._lock:
            if len(self._lines) == self._lines.maxlen:
                self._dropped += 1
            self._lines.append(line)
            if len(self._lines) == BATCH:
                self.wake()

    def take(self) -> tuple[list[Line], int]:
        """The next batch, and the number of lines dropped since the last one."""
        with self._lock:
            lines = [self._lines.popleft() for _ in range(min(BATCH, len(self._lines)))]
            dropped, self._dropped = self._dropped, 0
        return lines, dropped

    def wait(self, seconds: float) -> None:
        """Wait until there is a full batch, or the time is over."""
        with suppress(Empty):
            self._enough.get(timeout=seconds)

    def wake(self) -> None:
        """End a ``wait``."""
        self._enough.put(None)


class Collector(QueueHandler):
    """Adds the lines of the system log to the backlog. An error in that is reported on stderr and never raised.

    ``writer`` is the thread that writes. Its own lines are left out, because each would cause another.
    """

    writer: int | None = None

    def __init__(self, backlog: Backlog, service: str) -> None:
        super().__init__(backlog)  # type: ignore[arg-type] # only put_nowait is used
        self._service = service
        self.setLevel(RUN_LEVEL)
        self.addFilter(is_informative)
        self.addFilter(lambda record: record.thread != self.writer)
        self.addFilter(lambda record: not repeats_run(record))
        self.addFilter(lambda record: record.levelno >= logging.WARNING or belongs_to_run(record))

    def prepare(self, record: logging.LogRecord) -> Line:
        """The line, which QueueHandler adds to the backlog."""
        return line_of(record, self._service)


class SystemLog(Background):
    """Collects lines from its start to its stop, and then writes the rest.

    A line belongs to the context's service unless it names another one.
    """

    def __init__(self, context: ServiceContext) -> None:
        super().__init__("system-log")
        self._context = context
        self._backlog = Backlog()
        self._collector = Collector(self._backlog, context.service)
        self._database = Outage("the database", part=f"system-log-{context.service}")
        self._batch: list[Line] = []
        self._dropped = 0

    def start(self) -> None:
        logging.getLogger().addHandler(self._collector)
        super().start()

    def stop(self) -> None:
        logging.getLogger().removeHandler(self._collector)
        self.stopping.set()
        self._backlog.wake()
        super().stop()

    def run(self) -> None:
        self._collector.writer = threading.get_ident()
        while not self.stopping.is_set():
            self._backlog.wait(PAUSE_SECONDS)
            self._write()
        self._write()

    def _write(self) -> None:
        """Write all waiting lines, a batch with each statement. A batch that failed is tried again first.

        A batch that the database refuses for good is dropped, so that it does not hold up the lines after it.
        """
        while True:
            if not self._batch:
                self._batch, dropped = self._backlog.take()
                self._dropped += dropped
            lines = [*self._batch, *([self._loss()] if self._dropped else [])]
            if not lines:
                return
            try:
                with self._context.engine.begin() as connection:
                    insert(connection, lines)
            except DATABASE_ERRORS as error:
                if not is_transient(error):
                    self._dropped += len(self._batch)
                    self._batch = []
                self.stopping.wait(self._database.failed(error))
                return
            self._batch, self._dropped = [], 0
            self._database.passed()

    def _loss(self) -> Line:
        """A line about the dropped ones."""
        return Line(
            at=self._context.clock(),
            service=self._context.service,
            level="WARNING",
            logger=__name__,
            message=f"{self._dropped} lines of the system log were dropped: the database was away, or refused them",
            fields={"dropped": self._dropped},
            worker=worker_of(os.getpid()),
        )


def insert(connection: Connection, lines: list[Line]) -> None:
    """Add the lines in one statement."""
    rows = [line.row() for line in lines]
    connection.execute(_INSERT, {column: [row[column] for row in rows] for column in Line._fields})


_INSERT = text("""
INSERT INTO jobs.system_log (at, service, level, logger, message, fields, worker, error, job, run_id, trace_id)
SELECT * FROM unnest(CAST(:at AS timestamptz[]), CAST(:service AS text[]), CAST(:level AS text[]),
                     CAST(:logger AS text[]), CAST(:message AS text[]), CAST(:fields AS jsonb[]),
                     CAST(:worker AS text[]), CAST(:error AS text[]), CAST(:job AS text[]),
                     CAST(:run_id AS uuid[]), CAST(:trace_id AS text[]))
""")
