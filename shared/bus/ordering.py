"""Messages that are handled in order. Each names its predecessor, and is parked until that one is settled.

A message is settled once it is handled or is a dead letter. A parked message is a row, and its delivery is
acknowledged. The transaction that settles the predecessor sends the parked message to its queue again. If the
predecessor never comes, because its queue was wiped, the parked message goes ahead after PATIENCE and is counted.

Both sides hold the lock of the predecessor's id until they commit. Therefore either the parked row exists when the
predecessor is settled, or parking sees that the predecessor is settled.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import cache
from typing import Any

import dramatiq
import structlog
from sqlalchemy import text

from shared.bus import inbox
from shared.bus.envelope import actor_name
from shared.bus.metrics import PARKED, UNORDERED
from shared.bus.unit_of_work import ServiceContext, UnitOfWork, locking
from shared.contracts.routing import QUEUES
from shared.storage.driver import Call, Rows, column

log = structlog.get_logger(__name__)

#: Longer than all tries of a failing predecessor take together.
PATIENCE = timedelta(seconds=45)
#: A longer pause between two looks for overdue messages means that this process slept, or that the clock was set.
GAP = timedelta(seconds=15)


class OutOfTurn(Exception):
    """The predecessor of this message is not settled yet."""


def record_in_turn(uow: UnitOfWork, queue: str, consumer: str, message_id: str, previous: str | None) -> None:
    """Do as ``inbox.record``, but ``uow.begin`` also raises OutOfTurn unless the predecessor is settled.

    The transaction sends on the messages that are parked behind this one.
    """
    calls = [
        locking(message_id),
        inbox.recording(uow, consumer, message_id),
        (_SUCCESSOR.format(schema=uow.schema), {"message_id": message_id}),
        *([_settling(uow, queue, previous)] if previous else []),
    ]

    def check(answers: list[Rows]) -> None:
        _, recorded, successors, *settled = answers
        inbox.check_new(recorded)
        for found in settled:
            check_turn(found)
        if successors:
            uow.release(message_id)

    uow.guard(calls, check)


def check_turn(settled: Rows) -> None:
    """Raises OutOfTurn where the predecessor was not found settled."""
    if not settled:
        raise OutOfTurn


def park(context: ServiceContext, queue: str, message: "dramatiq.Message[Any]") -> bool:
    """Keep the message until its predecessor is settled. False where that happened meanwhile."""
    previous = message.options["after"]
    with context.unit_of_work() as uow:
        _, settled = uow.run(locking(previous), _settling(uow, queue, previous))
        if settled:
            return False
        uow.connection.execute(
            text(_PARK.format(schema=context.service)),
            {
                "message_id": message.message_id,
                "previous": previous,
                "queue": queue,
                "body": message.encode(),
            },
        )
    PARKED.labels(queue).inc()
    return True


class OverdueWatch:
    """Sends on, without a predecessor, the messages that were parked for longer than PATIENCE.

    PostgreSQL's clock tells how long. During an outage of the bus no predecessor can come, and neither while this
    process slept or that clock was set. After each of them the messages have their time once more.
    """

    def __init__(self, context: ServiceContext) -> None:
        self._context = context
        self._session: int | None = None
        self._since: datetime | None = None
        self._looked: datetime | None = None

    def look(self, session: int | None) -> None:
        """Release the overdue messages. ``session`` is the bus's, or None while it is away."""
        with self._context.unit_of_work() as uow:
            now: datetime = uow.connection.execute(_CLOCK).scalar_one()
            gap = self._looked is None or not timedelta(0) <= now - self._looked <= GAP
            if self._since is None or gap or session is None or session != self._session:
                self._since = now
            self._session, self._looked = session, now
            rows = _release(uow, now - PATIENCE) if now - self._since >= PATIENCE else []
        for row in rows:
            log.warning("the predecessor of a message never came", queue=row.queue, missing=str(row.previous))
            UNORDERED.labels(row.queue).inc()


def _release(uow: UnitOfWork, before: datetime) -> Sequence[Any]:
    rows = uow.connection.execute(text(_OVERDUE.format(schema=uow.schema)), {"before": before}).all()
    for row in rows:
        message: dramatiq.Message[None] = dramatiq.Message.decode(row.body)
        options = {name: option for name, option in message.options.items() if name != "after"}
        ahead: dramatiq.Message[None] = dramatiq.Message(**{**message.asdict(), "options": options})
        uow.send_on([(row.message_id, row.previous, row.queue, ahead.encode())])
    return rows


def _settling(uow: UnitOfWork, queue: str, message_id: str) -> Call:
    """The statement that returns a row where the message is settled."""
    return _SETTLED.format(schema=uow.schema), {"consumers": _consumers(queue), "message_id": message_id}


@cache
def _consumers(queue: str) -> bytes:
    return column("text", [actor_name(queue, message.wire_name()) for message in QUEUES[queue].messages])


_SETTLED = """
SELECT message_id FROM {schema}.inbox
WHERE consumer = ANY(%(consumers)b::text[]) AND message_id = CAST(%(message_id)s AS uuid)
UNION ALL SELECT message_id FROM {schema}.dead_letters WHERE message_id = CAST(%(message_id)s AS uuid)
LIMIT 1
"""
_SUCCESSOR = "SELECT message_id FROM {schema}.parked WHERE previous = CAST(%(message_id)s AS uuid) LIMIT 1"
_PARK = """
INSERT INTO {schema}.parked (message_id, previous, queue, body, parked_at)
VALUES (CAST(:message_id AS uuid), CAST(:previous AS uuid), :queue, :body, clock_timestamp()) ON CONFLICT DO NOTHING
"""
_CLOCK = text("SELECT clock_timestamp() AS now")
_OVERDUE = """
DELETE FROM {schema}.parked WHERE message_id IN (
  SELECT message_id FROM {schema}.parked WHERE parked_at < :before LIMIT 100 FOR UPDATE SKIP LOCKED)
RETURNING message_id, previous, queue, body
"""
