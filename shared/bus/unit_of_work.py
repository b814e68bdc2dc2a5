"""One unit of work: the inbox row, the effect and the messages about it commit together or not at all."""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import SQLAlchemyError

from shared.bus import outbox
from shared.bus.amqp.topology import internal_exchange
from shared.bus.envelope import Outgoing, after, encode
from shared.clock import Clock, utc_now
from shared.contracts.base import Message
from shared.storage.driver import COMMIT, Call, Rows, fetch, together

#: Called with the rows of each statement that a message's bookkeeping sends; raises where the handler must not run.
Check = Callable[[list[Rows]], None]


@dataclass
class UnitOfWork:
    """One transaction: a connection, the time, what is written at its end, and the messages about it.

    A statement is a ``Call``. ``run`` sends calls now, so whatever runs later sees them. ``at_commit`` keeps calls for
    the round trip of the commit; nothing in this transaction sees them.
    """

    connection: Connection
    schema: str
    now: datetime
    outgoing: list[Outgoing] = field(default_factory=list)
    _bookkeeping: tuple[Sequence[Call], Check] | None = field(default=None, init=False)
    _at_commit: list[Call] = field(default_factory=list, init=False)

    def handle_message(self, calls: Sequence[Call], check: Check) -> None:
        """Let ``begin`` send what the bus has to know of the message; ``check`` sees the answers, and may raise."""
        self._bookkeeping = calls, check

    def begin(self, *calls: Call) -> list[Rows]:
        """Begin with the message's bookkeeping, and run ``calls`` in the same round trip; the rows of each of them.

        Raises AlreadyHandled or OutOfTurn where the message must not be handled now; what ``calls`` did is rolled back.
        """
        if self._bookkeeping is None:
            return self.run(*calls)
        (first, check), self._bookkeeping = self._bookkeeping, None
        answers = together(self.connection, *first, *calls)
        check(answers[: len(first)])
        return answers[len(first) :]

    def run(self, *calls: Call) -> list[Rows]:
        """Run the statements in one round trip, in their order; the rows of each, as named tuples."""
        return together(self.connection, *calls) if calls else []

    def at_commit(self, *calls: Call) -> None:
        """Run the statements with the commit, in their order and in its round trip."""
        self._at_commit += calls

    def commit(self) -> None:
        """Write what waits for the commit and the outbox, and commit, in one round trip where anything is written."""
        self.begin()
        calls = [*self._at_commit, *outbox.adding(self.connection, self.schema, self.outgoing, self.now)]
        if calls:
            together(self.connection, *calls, COMMIT)

    def publish(
        self,
        message: Message,
        *,
        message_id: UUID | None = None,
        previous: UUID | None = None,
        trace: str | None = None,
    ) -> UUID:
        """Send the message once this transaction has committed; returns the message's id.

        What is sent again goes under its old id, and after the ``previous`` that it had. ``trace`` is the traceparent
        of another journey than that of the message which is handled now.
        """
        sent = encode(message, message_id=message_id, trace=trace)
        self.outgoing.append(sent if previous is None else after(sent, previous))
        return sent.message_id

    def chain(self) -> UUID | None:
        """Give what was published so far its place in the order of its key; the message before the last one."""
        self.outgoing = list(outbox.chained(self.connection, self.schema, self.outgoing, self.now))
        return self.outgoing[-1].previous

    def lock(self, message_id: str) -> None:
        """Wait until no other transaction holds the lock of this message's id, and hold it to the end of this one."""
        self.run(locking(message_id))

    def release(self, message_id: str) -> None:
        """Send on what waits for this message, which the transaction settles; the lock of its id is held."""
        self.send_on(fetch(self.connection, _RELEASE.format(schema=self.schema), {"message_id": message_id}))

    def send_on(self, waiting: Sequence[tuple[UUID, UUID, str, bytes]]) -> None:
        """Send parked messages to their queues; of each its id, the message that it waited for, queue and body."""
        self.outgoing += [
            Outgoing(message_id, internal_exchange(self.schema), queue, str(previous), bytes(body))
            for message_id, previous, queue, body in waiting
        ]


def locking(message_id: str) -> Call:
    """The statement of ``lock``."""
    return _LOCK, {"message_id": message_id}


_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended(lower(%(message_id)s), 0))"
_RELEASE = """
DELETE FROM {schema}.parked WHERE previous = CAST(%(message_id)s AS uuid)
RETURNING message_id, previous, queue, body
"""


@dataclass
class ServiceContext:
    """A service's database, schema and clock: it opens transactions and wakes the relay after a commit."""

    service: str
    engine: Engine
    clock: Clock = utc_now
    committed: threading.Event = field(default_factory=threading.Event)

    def answers(self) -> bool:
        """Whether the database answers now."""
        try:
            with self.engine.connect() as connection:
                connection.execute(text("SELECT 1"))
        except SQLAlchemyError:
            return False
        return True

    @contextmanager
    def unit_of_work(self) -> Iterator[UnitOfWork]:
        """A transaction that commits at the end of the block, or rolls back where it raises."""
        with self.engine.begin() as connection:
            uow = UnitOfWork(connection, self.service, self.clock())
            yield uow
            uow.commit()
        if uow.outgoing:
            self.committed.set()
