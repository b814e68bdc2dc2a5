"""Dead letters: messages that no try could handle, kept as rows until somebody decides.

Any service may read them through the owner's view. To send one again or to discard it, the owner is asked by a
command, since only it writes its tables. A message that is sent again keeps its id, so that the inbox still knows
whether its effect has happened.
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
from shared.bus.envelope import Outgoing
from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.operations import DiscardDeadLetters, RequeueDeadLetters

log = structlog.get_logger(__name__)


class NoSuchDeadLetter(LookupError):
    """It was discarded, or has been sent again."""


@dataclass(frozen=True)
class DeadLetter:
    """``error`` is the full traceback; ``body`` the message, or its beginning where ``size`` says more."""

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
        """Whether it can be sent again."""
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
    """The newest first; ``before`` is the id that the previous page ended with."""
    values = {"queue": queue, "reason": reason, "before": before, "limit": limit}
    return [_letter(row) for row in connection.execute(text(_LIST.format(service=service)), values)]


def inspect_dead_letter(connection: Connection, service: str, letter: int) -> DeadLetter:
    row = connection.execute(text(_ONE.format(service=service)), {"id": letter}).first()
    if row is None:
        raise NoSuchDeadLetter(f"{service} has no dead letter {letter}")
    return _letter(row)


def requeue_dead_letters(uow: UnitOfWork, service: str, letters: Iterable[int], *, who: str) -> UUID:
    """Ask the service to send these again; returns the id of the command."""
    return uow.publish(RequeueDeadLetters(to=service, letters=tuple(letters), who=who))


def discard_dead_letters(uow: UnitOfWork, service: str, letters: Iterable[int], *, who: str) -> UUID:
    """Ask the service to forget these; returns the id of the command."""
    return uow.publish(DiscardDeadLetters(to=service, letters=tuple(letters), who=who))


def declare_operations(actors: Actors, service: str) -> None:
    """Add the actors that obey these commands in the service."""

    @actors.on(RequeueDeadLetters, queue=f"{service}.operations")
    def requeue(command: RequeueDeadLetters, uow: UnitOfWork) -> None:
        rows = uow.connection.execute(text(_TAKE.format(service=service)), {"ids": list(command.letters)}).all()
        uow.outgoing.extend(_again(service, row) for row in rows)
        log.info("dead letters sent again", service=service, letters=[row.id for row in rows], who=command.who)

    @actors.on(DiscardDeadLetters, queue=f"{service}.operations")
    def discard(command: DiscardDeadLetters, uow: UnitOfWork) -> None:
        rows = uow.connection.execute(text(_DISCARD.format(service=service)), {"ids": list(command.letters)}).all()
        log.info("dead letters discarded", service=service, letters=[row.id for row in rows], who=command.who)


def _again(service: str, row: Any) -> Outgoing:
    return Outgoing(row.message_id, internal_exchange(service), row.queue, row.queue, _with_all_tries(bytes(row.body)))


def _with_all_tries(body: bytes) -> bytes:
    """The message as if it came for the first time; what cannot be read goes as it is."""
    try:
        message: dramatiq.Message[None] = dramatiq.Message.decode(body)
        options = {name: value for name, value in message.options.items() if name not in {"retries", "eta", "after"}}
    except (DecodeError, AttributeError):
        return body
    return dataclasses.replace(message, options=options).encode()


def _letter(row: Any) -> DeadLetter:
    return DeadLetter(
        row.id, row.queue, row.message_id, row.actor, row.reason, row.error, row.died_at, row.size, bytes(row.body)
    )


_LIST = """
SELECT * FROM {service}.dead_letters_v1
WHERE (CAST(:queue AS text) IS NULL OR queue = :queue) AND (CAST(:reason AS text) IS NULL OR reason = :reason)
  AND (CAST(:before AS bigint) IS NULL OR id < :before)
ORDER BY id DESC LIMIT :limit
"""
_ONE = "SELECT * FROM {service}.dead_letters_v1 WHERE id = :id"
_TAKE = """
DELETE FROM {service}.dead_letters WHERE id = ANY(:ids) AND size = length(body)
RETURNING id, queue, message_id, body
"""
_DISCARD = "DELETE FROM {service}.dead_letters WHERE id = ANY(:ids) RETURNING id"
