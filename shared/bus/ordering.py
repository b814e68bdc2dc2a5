"""Messages that are handled in order: each names the one before it, and is parked until that one is settled.

A parked message is a row, and its delivery is acknowledged. Whoever settles the one before it, by its effect or by
writing it down as dead, sends the parked one to its queue again, in the same transaction. One whose predecessor never
comes (its queue was wiped) goes ahead in the end, and is counted.

Both sides hold the lock of the predecessor's id until they commit: so either the parked row is there when the
predecessor is settled, or the predecessor is seen to be settled when the row would be written.
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

#: Longer than all tries of a predecessor that fails take together.
PATIENCE = timedelta(seconds=45)


class OutOfTurn(Exception):
    """The message before this one is not settled yet."""


def note_in_turn(uow: UnitOfWork, queue: str, consumer: str, message_id: str, previous: str | None) -> None:
    """As ``inbox.note``; and the first round trip raises OutOfTurn unless the message before this one is settled.

    Others may wait for this one: what has waited so far is sent on by the transaction.
    """
    calls = [
        locking(message_id),
        inbox.noting(uow, consumer, message_id),
        (_WAITING.format(schema=uow.schema), {"message_id": message_id}),
        *([_settling(uow, queue, previous)] if previous else []),
    ]

    def check(answers: list[Rows]) -> None:
        _, noted, waiting, *settled = answers
        inbox.check_new(noted)
        for found in settled:
            check_turn(found)
        if waiting:
            uow.release(message_id)

    uow.handle_message(calls, check)


def check_turn(settled: Rows) -> None:
    if not settled:
        raise OutOfTurn


def park(context: ServiceContext, queue: str, message: "dramatiq.Message[Any]") -> bool:
    """Keep the message until the one before it is settled; False when that has happened meanwhile."""
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
                "now": uow.now,
            },
        )
    PARKED.labels(queue).inc()
    return True


def release_overdue(context: ServiceContext, *, since: datetime) -> None:
    """Send on what has waited for too long; it waits for nothing any more. ``since`` is how long the bus has worked."""
    with context.unit_of_work() as uow:
        if uow.now - since < PATIENCE:
            return
        rows = _take_overdue(uow)
        for row in rows:
            message: dramatiq.Message[None] = dramatiq.Message.decode(row.body)
            options = {name: option for name, option in message.options.items() if name != "after"}
            ahead: dramatiq.Message[None] = dramatiq.Message(**{**message.asdict(), "options": options})
            uow.send_on([(row.message_id, row.previous, row.queue, ahead.encode())])
    for row in rows:
        log.warning("the message before this one never came", queue=row.queue, missing=str(row.previous))
        UNORDERED.labels(row.queue).inc()


def _take_overdue(uow: UnitOfWork) -> Sequence[Any]:
    return uow.connection.execute(text(_OVERDUE.format(schema=uow.schema)), {"before": uow.now - PATIENCE}).all()


def _settling(uow: UnitOfWork, queue: str, message_id: str) -> Call:
    """The statement that finds the message where it was handled, or is a dead letter."""
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
_WAITING = "SELECT message_id FROM {schema}.parked WHERE previous = CAST(%(message_id)s AS uuid) LIMIT 1"
_PARK = """
INSERT INTO {schema}.parked (message_id, previous, queue, body, parked_at)
VALUES (CAST(:message_id AS uuid), CAST(:previous AS uuid), :queue, :body, :now) ON CONFLICT DO NOTHING
"""
_OVERDUE = """
DELETE FROM {schema}.parked WHERE message_id IN (
  SELECT message_id FROM {schema}.parked WHERE parked_at < :before LIMIT 100 FOR UPDATE SKIP LOCKED)
RETURNING message_id, previous, queue, body
"""
