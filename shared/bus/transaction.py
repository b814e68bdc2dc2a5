"""One unit of work: the inbox row, the effect and the messages about it commit together or not at all."""

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import SQLAlchemyError

from shared.bus import outbox
from shared.bus.envelope import Outgoing, after, encode
from shared.bus.metrics import STALE
from shared.clock import Clock, utc_now
from shared.contracts.base import Message


@dataclass
class Transaction:
    """What a handler works with: a connection, the time, and a way to say what happened."""

    connection: Connection
    schema: str
    now: datetime
    outgoing: list[Outgoing] = field(default_factory=list)

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

    def first_time(self, consumer: str, message_id: str, *, locked: bool = False) -> bool:
        """Note the message in the inbox; False when its effect is already in the database.

        ``locked`` takes the lock of its id beforehand, for messages that others wait for.
        """
        lock = _LOCKED if locked else ""
        result = self.connection.execute(
            text(f"""
            INSERT INTO {self.schema}.inbox (consumer, message_id, processed_at)
            SELECT :consumer, CAST(:message_id AS uuid), :now {lock} ON CONFLICT DO NOTHING
            """),
            {"consumer": consumer, "message_id": message_id, "now": self.now},
        )
        return result.rowcount == 1

    def lock(self, message_id: str) -> None:
        """Wait until no other transaction holds the lock of this message's id, and hold it to the end of this one."""
        self.connection.execute(text(f"SELECT {_LOCK}"), {"message_id": message_id})

    def is_settled(self, consumers: Sequence[str], message_id: str) -> bool:
        """Whether one of the consumers has handled the message, or it is a dead letter."""
        settled: bool = self.connection.execute(
            text(_SETTLED.format(schema=self.schema)), {"consumers": list(consumers), "message_id": message_id}
        ).scalar_one()
        return settled

    def not_older(self, consumer: str, sequences: Mapping[str, int]) -> set[str]:
        """The keys whose update may be applied: nothing later of them was. Others wait for the same keys meanwhile.

        ``sequences`` has each key's position, which rises with its updates. What is older is counted.
        """
        keys = sorted(sequences)
        rows = self.connection.execute(
            text(_NOT_OLDER.format(schema=self.schema)),
            {"consumer": consumer, "keys": keys, "sequences": [sequences[key] for key in keys]},
        )
        fresh = {row.key for row in rows}
        STALE.labels(consumer).inc(len(keys) - len(fresh))
        return fresh


_LOCK = "pg_advisory_xact_lock(hashtextextended(lower(:message_id), 0))"
_LOCKED = f"FROM (SELECT {_LOCK} OFFSET 0) held"
_SETTLED = """
SELECT EXISTS (SELECT FROM {schema}.inbox
               WHERE consumer = ANY(:consumers) AND message_id = CAST(:message_id AS uuid))
    OR EXISTS (SELECT FROM {schema}.dead_letters WHERE message_id = CAST(:message_id AS uuid))
"""
_NOT_OLDER = """
INSERT INTO {schema}.sequences AS s (consumer, key, sequence)
SELECT :consumer, key, sequence
FROM unnest(CAST(:keys AS text[]), CAST(:sequences AS bigint[])) AS given (key, sequence)
ORDER BY key
ON CONFLICT (consumer, key) DO UPDATE SET sequence = excluded.sequence WHERE s.sequence <= excluded.sequence
RETURNING key
"""


@dataclass
class Unit:
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
    def transaction(self) -> Iterator[Transaction]:
        with self.engine.begin() as connection:
            transaction = Transaction(connection, self.service, self.clock())
            yield transaction
            outbox.add(connection, self.service, transaction.outgoing, transaction.now)
        if transaction.outgoing:
            self.committed.set()
