"""The wire format of a message: dramatiq's own JSON, so that any dramatiq worker can read it.

``actor_name`` carries the message's name and version (``PricesUpdated.v1``), ``kwargs`` its body. A publisher does not
know the consumer, so the receiving queue completes the actor's name: ``<queue>/PricesUpdated.v1``.
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
    """The encoded message exceeds MAX_BODY_BYTES: send it in parts."""


class Outgoing(NamedTuple):
    """An encoded message and its destination. A tuple, because a relay makes thousands of them a second."""

    message_id: UUID
    exchange: str
    routing_key: str
    key: str
    body: bytes
    #: True where reaching no queue is an error: for commands, and for events that some queue is bound to.
    mandatory: bool = True
    #: True where it is handled after the message of its key that was sent before it, and is not linked to it yet.
    in_order: bool = False
    #: From 0 to 3. In a queue with priorities, a higher one goes first.
    priority: int = 0
    #: Its predecessor in the order of its key, which the body names too.
    previous: UUID | None = None


def encode(message: Message, *, message_id: UUID | None = None, trace: str | None = None) -> Outgoing:
    """The message ready for the outbox or the wire. Raises MessageTooLarge.

    A message with a given id may be a repetition, and therefore is not handled in order. It belongs to the trace of the
    traceparent ``trace``, or to the current one.
    """
    in_order = message.in_order and message_id is None
    message_id = message_id or uuid4()
    # the same bytes as dramatiq.Message.encode, without a Python object for each value
    head = f'{{"queue_name":"","actor_name":"{message.wire_name()}","args":[],"kwargs":'
    options, sent_at = f'{{"traceparent":"{next_hop(trace)}"}}', int(time.time() * 1000)
    tail = f',"options":{options},"message_id":"{message_id}","message_timestamp":{sent_at}}}'
    body = b"".join((head.encode(), message.encoded(), tail.encode()))
    if len(body) > MAX_BODY_BYTES:
        raise MessageTooLarge(f"{message.wire_name()} has {len(body)} bytes, more than the limit of {MAX_BODY_BYTES}")
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


def after(message: Outgoing, previous: UUID) -> Outgoing:
    """The message with its predecessor, before which it is not handled."""
    envelope: dramatiq.Message[None] = dramatiq.Message.decode(message.body)
    body = envelope.copy(options={"after": str(previous)}).encode()
    return message._replace(body=body, previous=previous)


def actor_name(queue: str, wire_name: str) -> str:
    """The actor of this queue for this message. Idempotent."""
    return f"{queue}/{wire_name.rpartition('/')[2]}"


def stamped(message: "dramatiq.Message[None]", queue: str, *, delayed: bool = False) -> "dramatiq.Message[None]":
    """The message with the names of its receiving queue and of that queue's actor."""
    queue_name = f"{queue}.DQ" if delayed else queue
    return message.copy(queue_name=queue_name, actor_name=actor_name(queue, message.actor_name))
