"""A unit of work: the inbox row, the effect and the outgoing messages commit together or not at all."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from psycopg.pq import TransactionStatus
from sqlalchemy import Connection, Engine, text

from shared.bus import outbox
from shared.bus.amqp.topology import internal_exchange
from shared.bus.envelope import Outgoing, after, encode
from shared.clock import Clock, utc_now
from shared.contracts.base import Message
from shared.storage.driver import COMMIT, Call, Rows, driver, fetch, together
from shared.storage.errors import DATABASE_ERRORS

#: Receives the rows of each guarding statement, and raises where the message must not be handled now.
Check = Callable[[list[Rows]], None]


@dataclass
class UnitOfWork:
    """One transaction: a connection, the time, and what is written at its end.

    A statement is a ``Call``. ``run`` sends calls now, so later reads of this transaction see their effect.
    ``at_commit`` sends calls in the round trip of the commit, so nothing in this transaction sees their effect.
    """

    connection: Connection
    schema: str
    now: datetime
    outgoing: list[Outgoing] = field(default_factory=list)
    #: Called once the transaction has committed, such as to count what it did. They must not raise.
    after_commit: list[Callable[[], None]] = field(default_factory=list)
    _guard: tuple[Sequence[Call], Check] | None = field(default=None, init=False)
    _at_commit: list[Call] = field(default_factory=list, init=False)

    def guard(self, calls: Sequence[Call], check: Check) -> None:
        """Have ``begin`` run these calls first and pass their rows to ``check``, which may raise."""
        self._guard = calls, check

    def begin(self, *calls: Call) -> list[Rows]:
        """Run the guard and ``calls`` in one round trip, and return the rows of each of ``calls``.

        Raises AlreadyHandled or OutOfTurn where the message must not be handled now. The effect of ``calls`` is rolled
        back with the transaction. A second ``begin`` is a ``run``.
        """
        if self._guard is None:
            return self.run(*calls)
        (guarding, check), self._guard = self._guard, None
        answers = together(self.connection, *guarding, *calls)
        check(answers[: len(guarding)])
        return answers[len(guarding) :]

    def run(self, *calls: Call) -> list[Rows]:
        """Run the calls now, in their order and in one round trip, and return the rows of each as named tuples."""
        return together(self.connection, *calls) if calls else []

    def at_commit(self, *calls: Call) -> None:
        """Run the calls with the commit, in the order in which they were given."""
        self._at_commit += calls

    def commit(self) -> None:
        """Run the calls that were kept, write the outbox and commit, in one round trip.

        If there is nothing to write, the caller's transaction commits. Raises as ``begin`` does where the handler never
        began, and psycopg's InFailedSqlTransaction where the handler swallowed a database error: PostgreSQL would
        answer the commit with a rollback, which psycopg does not report.
        """
        self.begin()
        calls = [*self._at_commit, *outbox.adding(self.connection, self.schema, self.outgoing, self.now)]
        if calls or driver(self.connection).info.transaction_status == TransactionStatus.INERROR:
            together(self.connection, *calls, COMMIT)

    def publish(
        self,
        message: Message,
        *,
        message_id: UUID | None = None,
        previous: UUID | None = None,
        trace: str | None = None,
    ) -> UUID:
        """Send the message once this transaction has committed, and return its id.

        A message that is sent again keeps its ``message_id`` and its ``previous``. ``trace`` is the traceparent to
        continue, by default that of the message being handled. Raises MessageTooLarge.
        """
        sent = encode(message, message_id=message_id, trace=trace)
        self.outgoing.append(sent if previous is None else after(sent, previous))
        return sent.message_id

    def chain(self) -> UUID | None:
        """Link each message published so far to its predecessor under its key, and return that of the last one."""
        self.outgoing = list(outbox.chained(self.connection, self.schema, self.outgoing, self.now))
        return self.outgoing[-1].previous

    @contextmanager
    def part(self) -> Iterator["UnitOfWork"]:
        """A part of this transaction. If the block raises, the part alone is rolled back."""
        with self.connection.begin_nested():
            part = UnitOfWork(self.connection, self.schema, self.now)
            yield part
            part.run(*part._at_commit)
        self.outgoing += part.outgoing
        self.after_commit += part.after_commit

    def lock(self, message_id: str) -> None:
        """Take the lock of this message id, and hold it to the end of the transaction."""
        self.run(locking(message_id))

    def release(self, message_id: str) -> None:
        """Send on the parked messages that wait for this one. The caller holds the lock of its id and settles it."""
        self.send_on(fetch(self.connection, _RELEASE.format(schema=self.schema), {"message_id": message_id}))

    def send_on(self, parked: Sequence[tuple[UUID, UUID, str, bytes]]) -> None:
        """Send parked messages to their queues. Each is (its id, the id that it waited for, its queue, its body)."""
        self.outgoing += [
            Outgoing(message_id, internal_exchange(self.schema), queue, str(previous), bytes(body))
            for message_id, previous, queue, body in parked
        ]


def locking(message_id: str) -> Call:
    """The statement of ``UnitOfWork.lock``."""
    return _LOCK, {"message_id": message_id}


_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended(lower(%(message_id)s), 0))"
_RELEASE = """
DELETE FROM {schema}.parked WHERE previous = CAST(%(message_id)s AS uuid)
RETURNING message_id, previous, queue, body
"""


@dataclass
class ServiceContext:
    """A service's database, schema and clock. Sets ``committed`` after a commit with messages, for the relay."""

    service: str
    engine: Engine
    clock: Clock = utc_now
    committed: threading.Event = field(default_factory=threading.Event)

    def database_answers(self) -> bool:
        """True where the database answers a query now."""
        try:
            with self.engine.connect() as connection:
                connection.execute(text("SELECT 1"))
        except DATABASE_ERRORS:
            return False
        return True

    @contextmanager
    def unit_of_work(self) -> Iterator[UnitOfWork]:
        """A transaction that commits at the end of the block, or rolls back where the block raises."""
        with self.engine.begin() as connection:
            uow = UnitOfWork(connection, self.service, self.clock())
            yield uow
            uow.commit()
        for call in uow.after_commit:
            call()
        if uow.outgoing:
            self.committed.set()
