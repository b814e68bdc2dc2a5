"""Our frames are the bytes that pika would write."""

from typing import Any
from uuid import UUID

import pika
import pika.frame
import pika.spec
import pytest

from shared.bus.amqp.frames import published
from shared.bus.envelope import Outgoing

NOW = 1_795_500_000


def outgoing(body: bytes, *, mandatory: bool = True, priority: int = 0) -> Outgoing:
    return Outgoing(UUID(int=7), "paperprofit.events", "a.b.v1", "key", body, mandatory, priority=priority)


def as_pika_would(message: Outgoing, channel: int, frame_max: int) -> bytes:
    properties = pika.BasicProperties(
        content_type="application/json",
        delivery_mode=2,
        priority=message.priority,
        message_id=str(message.message_id),
        timestamp=NOW,
    )
    method = pika.spec.Basic.Publish(
        exchange=message.exchange, routing_key=message.routing_key, mandatory=message.mandatory
    )
    most = frame_max - 8
    frames: list[Any] = [
        pika.frame.Method(channel, method),
        pika.frame.Header(channel, len(message.body), properties),
        *(pika.frame.Body(channel, message.body[at : at + most]) for at in range(0, len(message.body), most)),
    ]
    return b"".join(frame.marshal() for frame in frames)


@pytest.mark.parametrize("body", [b"", b"{}", b"x" * 4088, b"y" * 4089, b"z" * 100_000], ids=len)
@pytest.mark.parametrize(("mandatory", "priority"), [(True, 0), (False, 3)])
def test_the_bytes_are_those_of_pika(body: bytes, mandatory: bool, priority: int) -> None:
    message = outgoing(body, mandatory=mandatory, priority=priority)
    assert published(message, 1, 4096, NOW) == as_pika_would(message, 1, 4096)
