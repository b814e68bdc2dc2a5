"""Poison: messages that no retry can handle. They are dead-lettered at once, with the reason, and block no queue.

Poison
├── Undecodable       the bytes are not an envelope
├── TooLarge          the body exceeds MAX_BODY_BYTES, and only its beginning is kept
├── GivenUp           RabbitMQ dead-lettered it itself: it was delivered too often, or rejected
├── UnknownMessage    no actor of this queue handles this message, or this version of it
├── Misrouted         its routing key, which RabbitMQ checks, is that of another message
└── InvalidBody       the envelope is valid, but its body does not match the contract
"""

from collections.abc import Container
from functools import cache
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid5

import dramatiq
from dramatiq.common import current_millis

from shared.bus.amqp.topology import logical_name
from shared.bus.envelope import MAX_BODY_BYTES, actor_name, stamped
from shared.contracts.routing import QUEUES, bindings_of
from shared.contracts.written import read_json

#: The part of a too large message that is kept, in bytes.
KEPT_BYTES = 64 * 1024
#: The part of a name or an error from outside that is shown, in characters.
SHOWN = 200
#: The part of an error that is logged and kept, in characters.
LONGEST_REASON = 2000
#: No retry waits for longer than half of this.
FARTHEST_ETA_MS = 60_000
MOST_RETRIES = 1_000


class Poison(Exception):
    """``body`` is the message as far as it is kept, ``size`` its full length, ``queue`` the one that it died in."""

    def __init__(self, message: str, body: bytes, size: int | None = None, *, queue: str | None = None) -> None:
        super().__init__(message[:LONGEST_REASON])
        self.body = body
        self.queue = queue
        self.size = len(body) if size is None else size


class Undecodable(Poison):
    pass


class TooLarge(Poison):
    pass


class GivenUp(Poison):
    pass


class UnknownMessage(Poison):
    pass


class Misrouted(Poison):
    pass


class InvalidBody(Poison):
    pass


def poison_actor(queue: str) -> str:
    """The actor that raises the poison that it is given, so that all failures are handled in the same way."""
    return actor_name(queue, "Poison")


def read(
    body: bytes,
    queue: str,
    actors: Container[str],
    *,
    delayed: bool = False,
    message_id: str | None = None,
    sent_under: str | None = None,
) -> "dramatiq.Message[None]":
    """The message in these bytes, stamped with its queue, or a message for the poison actor.

    ``sent_under`` is the routing key of a message from another service, which was allowed to send under it. It decides
    the message that this can be: a sender writes the envelope as it likes. None means that this service sent it itself.
    """
    try:
        message = stamped(_decode(body, foreign=sent_under is not None), queue, delayed=delayed)
    except Poison as poison:
        return _poisoned(poison, queue, _fallback_id(message_id, body), delayed=delayed)
    wire_name = message.actor_name.rpartition("/")[2]
    if message.actor_name not in actors:
        unknown = UnknownMessage(f"{queue} has no actor for {wire_name[:SHOWN]}", body)
        return _poisoned(unknown, queue, message.message_id, delayed=delayed)
    if sent_under is not None and wire_name != names_by_key(queue).get(sent_under):
        misrouted = Misrouted(f"{wire_name} came under the routing key {sent_under[:SHOWN]}", body)
        return _poisoned(misrouted, queue, message.message_id, delayed=delayed)
    return message


def given_up(body: bytes, queue: str, properties: Any) -> "dramatiq.Message[None]":
    """A message that RabbitMQ dead-lettered, as a message for the poison actor of the queue of dead messages."""
    headers = properties.headers or {}
    died_in = logical_name(str(headers.get("x-first-death-queue", queue)))
    why = f"RabbitMQ dead-lettered it from {died_in}: {headers.get('x-first-death-reason', 'unknown reason')}"
    poison = GivenUp(why, body[:MAX_BODY_BYTES], len(body), queue=died_in.removesuffix(".DQ"))
    try:
        message_id = _decode(body).message_id
    except Poison:
        message_id = _fallback_id(properties.message_id, body)
    return _poisoned(poison, queue, message_id, delayed=False)


def _decode(body: bytes, *, foreign: bool = True) -> "dramatiq.Message[None]":
    """The envelope in these bytes, with the options that we know. Raises Poison, whatever the bytes are."""
    if len(body) > MAX_BODY_BYTES:
        limit = f"{len(body)} bytes, more than the limit of {MAX_BODY_BYTES}"
        raise TooLarge(limit, body[:KEPT_BYTES], len(body))
    try:
        message: dramatiq.Message[None] = dramatiq.Message(**read_json(body, real=float))
        UUID(message.message_id)
        options = known_options(message.options, foreign=foreign)
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        why = str(error)[:SHOWN]
        raise Undecodable(f"not an envelope: {why}", body) from error
    if not (isinstance(message.kwargs, dict) and isinstance(message.options, dict) and not message.args):
        raise Undecodable("not an envelope: kwargs and options must be objects, args an empty list", body)
    if not (isinstance(message.actor_name, str) and isinstance(message.queue_name, str)):
        raise Undecodable("not an envelope: actor_name and queue_name must be strings", body)
    return dramatiq.Message(**{**message.asdict(), "args": (), "options": options})


def known_options(options: dict[str, Any], *, foreign: bool) -> dict[str, Any]:
    """The options that we read ourselves, and no others: dramatiq's middleware acts on many.

    ``after`` names the predecessor. Only our own retries have ``retries`` and ``eta``, which is bounded: a message that
    waits for a far time keeps a place of the prefetch. Raises ValueError where one has a wrong value.
    """
    known: dict[str, Any] = {}
    if "traceparent" in options:
        known["traceparent"] = options["traceparent"]  # a wrong one begins a new trace
    if "after" in options:
        known["after"] = str(UUID(options["after"]))
    if foreign:
        return known
    if "retries" in options:
        known["retries"] = min(max(int(options["retries"]), 0), MOST_RETRIES)
    if "eta" in options:
        known["eta"] = min(int(options["eta"]), current_millis() + FARTHEST_ETA_MS)
    return known


@cache
def names_by_key(queue: str) -> dict[str, str]:
    """The wire name of the message that each routing key brings to the queue."""
    bound = zip(bindings_of(queue), QUEUES[queue].messages, strict=True) if queue in QUEUES else ()
    return {binding.routing_key: message.wire_name() for binding, message in bound}


def _fallback_id(message_id: str | None, body: bytes) -> str:
    """The id in the message's AMQP properties, or one that is derived from the bytes."""
    try:
        return str(UUID(message_id or ""))
    except ValueError:
        return str(uuid5(NAMESPACE_OID, body.hex()))


def _poisoned(poison: Poison, queue: str, message_id: str, *, delayed: bool) -> "dramatiq.Message[None]":
    message: dramatiq.Message[None] = dramatiq.Message(queue, "Poison", (), {"poison": poison}, {}, message_id)
    return stamped(message, queue, delayed=delayed)
