"""How a message looks on the wire: dramatiq's own JSON, so that any dramatiq worker can read it.

``actor_name`` carries the message's name and version (``PricesUpdated.v1``), ``kwargs`` its body. A publisher
does not know the consumer: the queue that receives it names the actor, ``<queue>/PricesUpdated.v1``.
"""

import time
from typing import NamedTuple
from uuid import UUID, uuid4

import dramatiq

from shared.bus.tracing import next_hop
from shared.contracts.base import Message
from shared.contracts.routing import exchange_of, is_awaited

MAX_BODY_BYTES = 4 * 1024 * 1024


class MessageTooLarge(ValueError):
    """The encoded message is larger than the bus carries; send it in parts."""


class Outgoing(NamedTuple):
    """An encoded message and where it goes. A tuple, since a relay makes thousands a second out of rows."""

    message_id: UUID
    exchange: str
    routing_key: str
    key: str
    body: bytes
    #: Whether reaching no queue is an error: so for a command, and for an event that some queue waits for.
    mandatory: bool = True
    #: Whether it is handled after the one of its key that was sent before it.
    in_order: bool = False
    #: Of those that wait in one queue, the higher goes first; 0 to 3, and only where the queue knows priorities.
    priority: int = 0
    #: The message of its key that is handled before it; it stands in the body, too.
    previous: UUID | None = None


def encode(message: Message, *, message_id: UUID | None = None, trace: str | None = None) -> Outgoing:
    """The message ready for the outbox or the wire. One under a given id may be sent again, and so keeps no order.

    It belongs to the trace of what is under way, or to that of the ``trace``, a traceparent.
    """
    in_order = message.in_order and message_id is None
    message_id = message_id or uuid4()
    body = _envelope(message, message_id, next_hop(trace))
    if len(body) > MAX_BODY_BYTES:
        raise MessageTooLarge(f"{message.wire_name()} of {len(body)} bytes; the limit is {MAX_BODY_BYTES}")
    return Outgoing(
        message_id=message_id,
        exchange=exchange_of(type(message)),
        routing_key=message.routing_key,
        key=message.key,
        body=body,
        mandatory=is_awaited(type(message)),
        in_order=in_order,
        priority=message.urgency,
    )


def _envelope(message: Message, message_id: UUID, traceparent: str) -> bytes:
    """What ``dramatiq.Message.encode`` makes of it, without going through Python's objects for every value."""
    head = f'{{"queue_name":"","actor_name":"{message.wire_name()}","args":[],"kwargs":'
    sent_at = int(time.time() * 1000)
    tail = f',"options":{{"traceparent":"{traceparent}"}},"message_id":"{message_id}","message_timestamp":{sent_at}}}'
    return b"".join((head.encode(), message.encoded(), tail.encode()))


def after(message: Outgoing, previous: UUID) -> Outgoing:
    """The message, to be handled only when the one before it has been."""
    envelope: dramatiq.Message[None] = dramatiq.Message.decode(message.body)
    body = envelope.copy(options={"after": str(previous)}).encode()
    return message._replace(body=body, previous=previous)


def actor_name(queue: str, wire_name: str) -> str:
    """The actor of this queue for this message; stamping a stamped name changes nothing."""
    return f"{queue}/{wire_name.rpartition('/')[2]}"


def stamped(message: "dramatiq.Message[None]", queue: str, *, delayed: bool = False) -> "dramatiq.Message[None]":
    """The message as its receiving queue sees it, whatever queue its envelope named before."""
    queue_name = f"{queue}.DQ" if delayed else queue
    return message.copy(queue_name=queue_name, actor_name=actor_name(queue, message.actor_name))
