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
from shared.storage.driver import Call, Rows, Writes, fetch, together

#: Called with the rows of each statement that a transaction begins with.
Check = Callable[[list[Rows]], None]


@dataclass
class UnitOfWork:
    """What a handler works with: a connection, the time, and a way to say what happened.

    What stands in ``writes`` is sent with its end, in one round trip.
    """

    _connection: Connection
    schema: str
    now: datetime
    outgoing: list[Outgoing] = field(default_factory=list)
    writes: Writes = field(init=False)
    _first: tuple[Sequence[Call], Check] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self.writes = Writes(self._connection)

    @property
    def connection(self) -> Connection:
        """For SQLAlchemy and the driver; what comes first has been sent."""
        self.together()
        return self._connection

    def begin_with(self, calls: Sequence[Call], check: Check) -> None:
        """Send these before anything else, in the same round trip; ``check`` sees what they answer, and may raise."""
        self._first = calls, check

    def together(self, *calls: Call) -> list[Rows]:
        """Run the statements in one round trip, as ``driver.together``, which also takes what comes first."""
        if self._first is None:
            return together(self._connection, *calls) if calls else []
        (first, check), self._first = self._first, None
        answers = together(self._connection, *first, *calls)
        check(answers[: len(first)])
        return answers[len(first) :]

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
        self.together(locking(message_id))

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
        with self.engine.begin() as connection:
            unit_of_work = UnitOfWork(connection, self.service, self.clock())
            yield unit_of_work
            unit_of_work.together()
            outbox.add(unit_of_work.writes, self.service, unit_of_work.outgoing, unit_of_work.now)
            unit_of_work.writes.send(commit=True)
        if unit_of_work.outgoing:
            self.committed.set()
