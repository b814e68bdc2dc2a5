"""The frames of a published message in AMQP 0-9-1: method, header and body in one byte string.

pika builds three frame objects for each message, which takes longer than RabbitMQ takes to store the message.
Source: https://www.rabbitmq.com/resources/specs/amqp0-9-1.pdf, sections 2.3.5 and 4.2.
"""

import struct
from functools import lru_cache

from shared.bus.envelope import Outgoing

_METHOD, _HEADER, _BODY = 1, 2, 3
_BASIC, _PUBLISH = 60, 40
_END = b"\xce"
#: Content type, delivery mode, priority, message id and timestamp are present, in this order.
_FLAGS = 1 << 15 | 1 << 12 | 1 << 11 | 1 << 7 | 1 << 6
_CONTENT_TYPE = b"\x10application/json"  # its length first
_PERSISTENT = 2
#: Delivery mode, priority, length of the message id, message id, timestamp.
_PROPERTIES = struct.Struct(">BBB36sQ")
_FRAME = struct.Struct(">BHI")
_HEADER_START = struct.Struct(">HHQH")
#: Bytes of a frame around its payload.
_AROUND = 8


def published(message: Outgoing, channel: int, frame_max: int, now: int) -> bytes:
    """The bytes that publish this message as a persistent one. ``now``, in seconds since 1970, is its timestamp."""
    body, message_id = message.body, str(message.message_id).encode()
    properties = _PROPERTIES.pack(_PERSISTENT, message.priority, len(message_id), message_id, now)
    header = _HEADER_START.pack(_BASIC, 0, len(body), _FLAGS) + _CONTENT_TYPE + properties
    most = frame_max - _AROUND
    bodies = [_frame(_BODY, channel, body[at : at + most]) for at in range(0, len(body), most)]
    method = _method(message.exchange, message.routing_key, message.mandatory, channel)
    return b"".join((method, _frame(_HEADER, channel, header), *bodies))


@lru_cache(maxsize=256)
def _method(exchange: str, routing_key: str, mandatory: bool, channel: int) -> bytes:
    names = _short(exchange.encode()) + _short(routing_key.encode())
    return _frame(_METHOD, channel, struct.pack(">HHH", _BASIC, _PUBLISH, 0) + names + bytes((mandatory,)))


def _frame(kind: int, channel: int, payload: bytes) -> bytes:
    return _FRAME.pack(kind, channel, len(payload)) + payload + _END


def _short(text: bytes) -> bytes:
    """A short string: its length in one byte, then at most 255 bytes."""
    return bytes((len(text),)) + text
