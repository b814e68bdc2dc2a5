"""Crashes of a worker while it handles a message: when, and what the database makes of them.

Its session at PostgreSQL is ended by pg_terminate_backend, as that of a killed process is. PostgreSQL rolls back an
open transaction. If the process itself dies, nobody is left to try again: the broker delivers the message anew.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import Any, NamedTuple

import psycopg
import pytest
from dramatiq.broker import MessageProxy
from psycopg.pq import TransactionStatus
from sqlalchemy import Engine

from shared.bus.retries import RetryOrDeadLetter
from shared.bus.unit_of_work import ServiceContext
from shared.storage import driver
from tests.support import eventually


class CrashPoint(StrEnum):
    """``CUT``: the connection is lost between two statements. ``UNTOLD``: committed, but the answer never came.

    ``TWICE``: two replicas handle the message at the same time.
    """

    NONE = "none"
    CUT = "cut between statements"
    BEFORE_COMMIT = "crashed before its commit"
    AFTER_COMMIT = "crashed after its commit, before the acknowledgement"
    UNTOLD = "committed, and not told so"
    TWICE = "handled by two replicas at once"


class Crash(NamedTuple):
    """``after``: so many round trips are made before a connection is cut."""

    point: CrashPoint = CrashPoint.NONE
    after: int = 0


NO_CRASH = Crash()


class ProcessCrashed(Exception):
    """The process is gone: what comes after this in its code never runs, and nobody hears of it."""


@dataclass
class CrashInjector:
    """Lets the crash happen once ``over`` a piece of work, and ``counts`` the crashes that happened.

    ``victim`` is the engine of the process that dies: its next one begins without connections.
    """

    killer: Engine
    victim: Engine
    crash: Crash = NO_CRASH
    crashed: bool = False
    trips: int = 0
    counts: Counter[CrashPoint] = field(default_factory=Counter)

    @contextmanager
    def over(self, crash: Crash) -> Iterator[None]:
        self.crash, self.crashed, self.trips = crash, False, 0
        with pytest.MonkeyPatch.context() as patch:
            self._watch(patch)
            try:
                yield
            finally:
                if self.crashed:
                    self.victim.dispose()
                self.crash, self.crashed = NO_CRASH, False

    def _watch(self, patch: pytest.MonkeyPatch) -> None:
        """Every way to the database: prepared statements in a pipeline, cursors, and a commit of psycopg's."""
        run, execute, commit = driver.run_prepared, psycopg.Cursor.execute, psycopg.Connection.commit

        def run_watched(used: Any, prepared: set[bytes], calls: Sequence[driver.Call]) -> Any:
            commits = any(statement == "COMMIT" for statement, _ in calls)
            self._before(used, commits=commits)
            answered = run(used, prepared, calls)
            self._after(used, commits=commits)
            return answered

        def execute_watched(cursor: Any, *given: Any, **options: Any) -> Any:
            self._before(cursor.connection)
            return execute(cursor, *given, **options)

        def commit_watched(used: Any) -> None:
            commits = used.info.transaction_status == TransactionStatus.INTRANS
            self._before(used, commits=commits)
            commit(used)
            self._after(used, commits=commits)

        patch.setattr(driver, "run_prepared", run_watched)
        patch.setattr(psycopg.Cursor, "execute", execute_watched)
        patch.setattr(psycopg.Connection, "commit", commit_watched)

    def _before(self, used: Any, *, commits: bool = False) -> None:
        self.trips += 1
        if self.crash.point is CrashPoint.CUT and self.trips > self.crash.after:
            self._cut(used)  # what comes now finds out by itself
        elif self.crash.point is CrashPoint.BEFORE_COMMIT and commits:
            self._cut(used)
            self._crash()

    def _after(self, used: Any, *, commits: bool) -> None:
        if not commits or self.crash.point not in {CrashPoint.AFTER_COMMIT, CrashPoint.UNTOLD}:
            return
        untold = self.crash.point is CrashPoint.UNTOLD
        self._cut(used)
        if untold:
            raise psycopg.OperationalError("the connection was lost while the commit's answer was awaited")
        self._crash()

    def _cut(self, used: Any) -> None:
        self.counts[self.crash.point] += 1
        self.crash = NO_CRASH  # from here on all is well
        pid = used.info.backend_pid
        with self.killer.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("SELECT pg_terminate_backend(%s)", (pid,))
            left = partial(connection.exec_driver_sql, "SELECT FROM pg_stat_activity WHERE pid = %s", (pid,))
            eventually(lambda: left().first() is None, what="the session has ended")

    def _crash(self) -> None:
        self.crashed = True
        raise ProcessCrashed


class UnacknowledgedAfterCrash(RetryOrDeadLetter):
    """Leaves a message unacknowledged where the process crashed."""

    def __init__(self, contexts: dict[str, ServiceContext], injector: CrashInjector) -> None:
        super().__init__(contexts)
        self._injector = injector

    def after_process_message(
        self, broker: Any, message: MessageProxy, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        if self._injector.crashed:
            message.fail()
        else:
            super().after_process_message(broker, message, result=result, exception=exception)
