"""The relay publishes the rows of a service's outbox, and deletes them once they are confirmed.

Each relay owns shards of the outbox by advisory locks of its session. Each replica runs one, no two send the same
row at a time, and the locks of a dead relay are free at once. Confirms are awaited in windows, not one by one.

Rows of one key arrive in the order of their ids, also when they are sent again. A window belongs to one session of the
publisher, so once a row fails for a lost connection, all rows after it fail too. The relay then sends nothing new
until each row of the window has succeeded or failed, and begins again with the lowest id. A row that no queue takes
holds back the later rows of its key.
"""

import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, Protocol
from uuid import UUID
from zlib import crc32

from sqlalchemy import Connection, text

from shared.background import Background
from shared.bus.amqp.publisher import Finished, PublishFailed, Unroutable
from shared.bus.envelope import Outgoing
from shared.bus.metrics import PUBLISHED
from shared.bus.ordering import OverdueWatch
from shared.bus.outbox import SHARDS
from shared.bus.unit_of_work import ServiceContext
from shared.outage import Outage
from shared.storage.errors import DATABASE_ERRORS

WINDOW = 8000
#: Rows are read and sent in parts of the window, so that RabbitMQ has work while the next rows are read.
PART = WINDOW // 4
#: After an unroutable row, its key pauses this long.
HOLD_SECONDS = 0.5
#: Confirmed rows are deleted at the latest this long after.
SETTLE_SECONDS = 0.05
#: While more rows wait than a window holds, the relay reads only above the last id that it sent. This often it reads
#: from the beginning, because a row may commit after one with a higher id (not within a key that is handled in order).
LOOK_BACK_SECONDS = 0.25
#: How often the relay looks for overdue parked messages.
OVERDUE_SECONDS = 2.0


class Sender(Protocol):
    """Publishes in order within one session, on either bus. ``ready`` is true where it can publish now."""

    session: int

    @property
    def ready(self) -> bool: ...

    def send_many(self, messages: Sequence[Outgoing], session: int, finished: Finished) -> None:
        """Call ``finished`` once for each message, from any thread."""


class Relay(Background):
    """A commit of this process notifies it. It finds the rows of other processes within ``poll`` seconds."""

    def __init__(self, context: ServiceContext, sender: Sender, *, poll: float) -> None:
        super().__init__(f"relay-{context.service}")
        self._context = context
        self._sender = sender
        self._notified: threading.Event = context.committed
        self._poll = poll
        self._database = Outage("the database", part=f"relay-{context.service}")
        self._broker = Outage("RabbitMQ", part=f"relay-{context.service}")
        self._queue = Outage("the queue that a message is for", part=f"relay-{context.service}")
        self._overdue = OverdueWatch(context)
        self._reset()

    def _reset(self) -> None:
        """Begin with nothing in flight, as after a lost connection to the database."""
        self._shards: list[int] = []
        self._sent: dict[UUID, tuple[int, Outgoing]] = {}
        self._done: deque[tuple[Outgoing, PublishFailed | None]] = deque()
        self._held: dict[str, float] = {}
        self._session: int | None = None
        self._look_for_overdue = 0.0
        self._sent_up_to = 0
        self._look_back = 0.0
        self._failed = False
        self._settled = 0.0

    def stop(self) -> None:
        self.stopping.set()
        self._notified.set()
        super().stop()

    def run(self) -> None:
        while not self.stopping.is_set():
            try:
                with self._context.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                    self._relay_on(connection)
            except DATABASE_ERRORS as error:
                self.stopping.wait(self._database.failed(error))

    def _relay_on(self, connection: Connection) -> None:
        self._reset()
        try:
            while not self.stopping.is_set():
                self._notified.clear()
                self._lock_shards(connection)
                self._database.passed()
                if time.monotonic() >= self._look_for_overdue:
                    self._look_for_overdue = time.monotonic() + OVERDUE_SECONDS
                    self._overdue.look(self._sender.session if self._sender.ready else None)
                more = self._send_window(connection)
                if self._is_due():
                    self.stopping.wait(self._settle(connection))
                if not more and not self._is_due():
                    self._notified.wait(min(self._poll, SETTLE_SECONDS) if self._sent else self._poll)
        finally:
            connection.invalidate()  # its advisory locks must not go back to the pool

    def pump(self, connection: Connection) -> bool:
        """Take one turn without waiting, for a caller without threads. False where there was nothing to do."""
        if not (self._notified.is_set() or self._done):
            return False
        self._notified.clear()
        self._lock_shards(connection)
        self._overdue.look(self._sender.session if self._sender.ready else None)
        if self._settle(connection):
            self._notified.set()  # failed rows are sent again at the next turn
        self._send_window(connection)
        return True

    def _lock_shards(self, connection: Connection) -> None:
        if len(self._shards) == SHARDS:
            return
        wanted = [shard for shard in range(SHARDS) if shard not in self._shards]
        namespace = crc32(f"outbox:{self._context.service}".encode()) - 2**31  # a signed 32-bit number
        rows = connection.execute(_LOCK, {"namespace": namespace, "shards": wanted})
        self._shards += [row.shard for row in rows if row.locked]

    def _send_window(self, connection: Connection) -> bool:
        """Send a part of the window. True where there may be more rows."""
        if self._session is None:
            if self._sent:
                return False  # after a failure, first wait for the rest of the window
            self._session = self._sender.session
        if not self._shards or WINDOW - len(self._sent) < PART:
            return False
        rows = self._next(connection)
        if not rows:
            return False
        messages = [Outgoing(*row[1:]) for row in rows]
        self._sent.update({message.message_id: (row[0], message) for row, message in zip(rows, messages, strict=True)})
        self._sender.send_many(messages, self._session, partial(self._finished, self._done))
        return len(rows) == PART

    def _finished(
        self, done: "deque[tuple[Outgoing, PublishFailed | None]]", message: Outgoing, error: PublishFailed | None
    ) -> None:
        done.append((message, error))
        self._failed = self._failed or error is not None
        if (self._failed or len(done) >= PART) and not self._notified.is_set():
            self._notified.set()

    def _is_due(self) -> bool:
        """True where rows are to be settled: a part of the window at once, fewer after SETTLE_SECONDS."""
        if not self._done:
            return False
        return self._failed or len(self._done) >= PART or time.monotonic() >= self._settled + SETTLE_SECONDS

    def _next(self, connection: Connection) -> Sequence[Any]:
        self._held = {key: until for key, until in self._held.items() if until > time.monotonic()}
        if time.monotonic() >= self._look_back:
            self._sent_up_to, self._look_back = 0, time.monotonic() + LOOK_BACK_SECONDS
        in_flight = () if self._sent_up_to else (id_ for id_, _ in self._sent.values())
        # psycopg's own cursor, because SQLAlchemy's work for a row takes longer than publishing it
        cursor: Any = connection.connection.cursor()
        with cursor:
            cursor.execute(
                _NEXT.format(schema=self._context.service),
                (self._sent_up_to, self._shards, _array(in_flight), list(self._held), PART),
                binary=True,
                prepare=False,  # no one plan fits both many rows in flight and a backlog
            )
            rows: Sequence[Any] = cursor.fetchall()
        self._sent_up_to = rows[-1][0] if len(rows) == PART else 0
        return rows

    def _settle(self, connection: Connection) -> float:
        """Delete the confirmed rows. Failed rows stay, and are sent again before any row after them.

        Returns the seconds to wait before that.
        """
        self._failed, self._settled = False, time.monotonic()
        done = [self._done.popleft() for _ in range(len(self._done))]
        ids = [self._sent.pop(message.message_id)[0] for message, _ in done]
        confirmed = [id_ for id_, (_, error) in zip(ids, done, strict=True) if error is None]
        if confirmed:
            statement = text(f"DELETE FROM {self._context.service}.outbox WHERE id = ANY(CAST(:ids AS bigint[]))")
            connection.execute(statement, {"ids": _array(confirmed)})
            self._broker.passed()
        for routing_key, count in Counter(message.routing_key for message, error in done if error is None).items():
            PUBLISHED.labels(self._context.service, routing_key).inc(count)
        failed = [(message, error) for message, error in done if error is not None]
        if confirmed and not failed and not self._held:
            self._queue.passed()
        pause = 0.0
        for message, error in failed:
            if isinstance(error, Unroutable):
                self._queue.failed(error)
                self._held[message.key] = time.monotonic() + HOLD_SECONDS
            elif self._session is not None:
                self._session = None
                self._sent_up_to = 0
                pause = self._broker.failed(error)
        return pause


def _array(ids: Iterable[int]) -> str:
    """The literal of an array. psycopg would inspect each of thousands of numbers."""
    return f"{{{','.join(map(str, ids))}}}"


_LOCK = text("""
SELECT shard, pg_try_advisory_lock(:namespace, shard) AS locked FROM unnest(CAST(:shards AS int[])) AS shard
""")
#: The columns after the id are those of Outgoing, in its order.
_NEXT = """
SELECT id, message_id, exchange, routing_key, key, body, mandatory, false, priority FROM {schema}.outbox
WHERE id > %s AND shard = ANY(%s) AND NOT id = ANY(%s::bigint[]) AND NOT key = ANY(%s::text[])
ORDER BY id LIMIT %s
"""
