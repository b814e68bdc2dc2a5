"""Dead letters: messages that no try could handle, kept as rows until an operator requeues or discards them.

Any service may read them through the owner's view. Only the owner writes its tables, so requeueing and discarding are
commands to the owner. A requeued message keeps its id, by which the inbox recognises it if it was handled after all.
"""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import dramatiq
import structlog
from dramatiq.errors import DecodeError
from sqlalchemy import Connection, text

from shared.bus.actors import Actors
from shared.bus.amqp.topology import internal_exchange
from shared.bus.envelope import Outgoing, actor_name
from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.operations import DiscardDeadLetters, RequeueDeadLetters

log = structlog.get_logger(__name__)


class NoSuchDeadLetter(LookupError):
    """The dead letter does not exist: it was discarded or requeued."""


@dataclass(frozen=True)
class DeadLetter:
    """A row of ``dead_letters``. ``error`` is the traceback. ``body`` is cut where ``size`` is larger."""

    id: int
    queue: str
    message_id: UUID
    actor: str
    reason: str
    error: str
    died_at: datetime
    size: int
    body: bytes

    @property
    def complete(self) -> bool:
        """True where the whole body was kept, so that the message can be requeued."""
        return len(self.body) == self.size


def list_dead_letters(
    connection: Connection,
    service: str,
    *,
    queue: str | None = None,
    reason: str | None = None,
    before: int | None = None,
    limit: int = 100,
) -> list[DeadLetter]:
    """A page of dead letters, newest first. ``before`` is the last id of the previous page."""
    filters = {"queue": queue, "reason": reason, "before": before}
    given = {name: value for name, value in filters.items() if value is not None}
    conditions = " AND ".join(["TRUE", *(_CONDITIONS[name] for name in given)])
    statement = text(_LIST.format(service=service, conditions=conditions))
    return [_letter(row) for row in connection.execute(statement, {**given, "limit": limit})]


def inspect_dead_letter(connection: Connection, service: str, letter: int) -> DeadLetter:
    """The dead letter with this id. Raises NoSuchDeadLetter."""
    row = connection.execute(text(_ONE.format(service=service)), {"id": letter}).first()
    if row is None:
        raise NoSuchDeadLetter(f"{service} has no dead letter {letter}")
    return _letter(row)


def requeue_dead_letters(uow: UnitOfWork, service: str, letters: Iterable[int], *, who: str) -> UUID:
    """Ask the service to requeue these dead letters. The result is the id of the command."""
    return uow.publish(RequeueDeadLetters(to=service, letters=tuple(letters), who=who))


def discard_dead_letters(uow: UnitOfWork, service: str, letters: Iterable[int], *, who: str) -> UUID:
    """Ask the service to discard these dead letters. The result is the id of the command."""
    return uow.publish(DiscardDeadLetters(to=service, letters=tuple(letters), who=who))


def declare_operations(actors: Actors, service: str) -> None:
    """Add the actors that execute these commands in the service."""

    @actors.on(RequeueDeadLetters, queue=f"{service}.operations")
    def requeue(command: RequeueDeadLetters, uow: UnitOfWork) -> None:
        rows = uow.connection.execute(text(_TAKE.format(service=service)), {"ids": list(command.letters)}).all()
        for row in rows:
            body = _without_history(bytes(row.body))
            uow.outgoing.append(Outgoing(row.message_id, internal_exchange(service), row.queue, row.queue, body))
        log.info("dead letters requeued", service=service, letters=[row.id for row in rows], who=command.who)

    @actors.on(DiscardDeadLetters, queue=f"{service}.operations")
    def discard(command: DiscardDeadLetters, uow: UnitOfWork) -> None:
        rows = uow.connection.execute(text(_DISCARD.format(service=service)), {"ids": list(command.letters)}).all()
        consumers = [actor_name(row.queue, _name_in(bytes(row.body))) for row in rows]
        handled = {"consumers": consumers, "message_ids": [row.message_id for row in rows], "now": uow.now}
        uow.run((_HANDLED.format(service=service), handled))  # no other copy has an effect either
        log.info("dead letters discarded", service=service, letters=[row.id for row in rows], who=command.who)


def _without_history(body: bytes) -> bytes:
    """The message without its tries, its delay and its predecessor. An undecodable body stays as it is."""
    try:
        message: dramatiq.Message[None] = dramatiq.Message.decode(body)
        options = {name: value for name, value in message.options.items() if name not in {"retries", "eta", "after"}}
    except (DecodeError, AttributeError):
        return body
    return dataclasses.replace(message, options=options).encode()


def _name_in(body: bytes) -> str:
    """The name of the message in these bytes, Poison where it cannot be read."""
    try:
        return str(dramatiq.Message.decode(body).actor_name)
    except (DecodeError, AttributeError):
        return "Poison"


def _letter(row: Any) -> DeadLetter:
    return DeadLetter(
        row.id, row.queue, row.message_id, row.actor, row.reason, row.error, row.died_at, row.size, bytes(row.body)
    )


_CONDITIONS = {"queue": "queue = :queue", "reason": "reason = :reason", "before": "id < :before"}
_LIST = "SELECT * FROM {service}.dead_letters_v1 WHERE {conditions} ORDER BY id DESC LIMIT :limit"
_ONE = "SELECT * FROM {service}.dead_letters_v1 WHERE id = :id"
_TAKE = """
DELETE FROM {service}.dead_letters WHERE id = ANY(:ids) AND size = length(body)
RETURNING id, queue, message_id, body
"""
_HANDLED = """
INSERT INTO {service}.inbox (consumer, message_id, processed_at)
SELECT consumer, message_id, %(now)s
FROM unnest(%(consumers)b::text[], %(message_ids)b::uuid[]) AS dead (consumer, message_id)
ON CONFLICT DO NOTHING
"""
_DISCARD = "DELETE FROM {service}.dead_letters WHERE id = ANY(:ids) RETURNING id, queue, message_id, body"
