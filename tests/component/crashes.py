"""Deaths of a worker while it handles a message: when, and what the database makes of it.

Its session at PostgreSQL is ended by pg_terminate_backend, as that of a killed process is; what was not committed is
rolled back there. Where the process itself dies, nobody is left to try again: the broker delivers the message anew.
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


class Fate(StrEnum):
    """``CUT``: the connection is lost between two statements. ``UNTOLD``: committed, but the answer never came.

    ``TWICE``: two replicas handle the message at the same time.
    """

    NONE = "none"
    CUT = "cut between statements"
    BEFORE_COMMIT = "died before its commit"
    AFTER_COMMIT = "died after its commit, before the acknowledgement"
    UNTOLD = "committed, and not told so"
    TWICE = "handled by two replicas at once"


class Doom(NamedTuple):
    """``after``: so many round trips are made before a connection is cut."""

    fate: Fate = Fate.NONE
    after: int = 0


SAFE = Doom()


class Died(Exception):
    """The process is gone: what comes after this in its code never runs, and nobody hears of it."""


@dataclass
class Reaper:
    """Makes the doom come true once while it is ``over`` a piece of work; ``counts`` those that did.

    ``victim`` is the engine of the process that dies: its next one begins without connections.
    """

    executioner: Engine
    victim: Engine
    doom: Doom = SAFE
    died: bool = False
    trips: int = 0
    counts: Counter[Fate] = field(default_factory=Counter)

    @contextmanager
    def over(self, doom: Doom) -> Iterator[None]:
        self.doom, self.died, self.trips = doom, False, 0
        with pytest.MonkeyPatch.context() as patch:
            self._watch(patch)
            try:
                yield
            finally:
                if self.died:
                    self.victim.dispose()
                self.doom, self.died = SAFE, False

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
        if self.doom.fate is Fate.CUT and self.trips > self.doom.after:
            self._strike(used)  # what comes now finds out by itself
        elif self.doom.fate is Fate.BEFORE_COMMIT and commits:
            self._strike(used)
            self._die()

    def _after(self, used: Any, *, commits: bool) -> None:
        if not commits or self.doom.fate not in {Fate.AFTER_COMMIT, Fate.UNTOLD}:
            return
        untold = self.doom.fate is Fate.UNTOLD
        self._strike(used)
        if untold:
            raise psycopg.OperationalError("the connection was lost while the commit's answer was awaited")
        self._die()

    def _strike(self, used: Any) -> None:
        self.counts[self.doom.fate] += 1
        self.doom = SAFE  # from here on all is well
        pid = used.info.backend_pid
        with self.executioner.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.exec_driver_sql("SELECT pg_terminate_backend(%s)", (pid,))
            left = partial(connection.exec_driver_sql, "SELECT FROM pg_stat_activity WHERE pid = %s", (pid,))
            eventually(lambda: left().first() is None, what="the session has ended")

    def _die(self) -> None:
        self.died = True
        raise Died


class Mortal(RetryOrDeadLetter):
    """Where the process died, the message stays unacknowledged."""

    def __init__(self, contexts: dict[str, ServiceContext], reaper: Reaper) -> None:
        super().__init__(contexts)
        self._reaper = reaper

    def after_process_message(
        self, broker: Any, message: MessageProxy, *, result: Any = None, exception: BaseException | None = None
    ) -> None:
        if self._reaper.died:
            message.fail()
        else:
            super().after_process_message(broker, message, result=result, exception=exception)
