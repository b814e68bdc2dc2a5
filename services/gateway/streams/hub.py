"""The hub of one gateway process. It hands each event of the bus to the requests and streams that wait for it."""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from services.gateway.streams.events import ANSWERS, BY_WIRE_NAME
from services.gateway.streams.stream import Stream
from shared.contracts.base import Message


@dataclass(frozen=True)
class Answer:
    """The event that answered a request, with its body as JSON values."""

    message: type[Message]
    body: dict[str, Any]

    @property
    def refused(self) -> bool:
        """Only the events of a rejection have a ``message`` for the client."""
        return "message" in self.message.model_fields


class Hub:
    """``receive`` may be called from any thread. Everything else runs on the event loop."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._streams: set[Stream] = set()
        self._waiting: dict[UUID, list[asyncio.Future[Answer]]] = {}
        self._lock = threading.Lock()

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        """Deliver events on this loop from now on."""
        with self._lock:
            self._loop = loop

    def detach(self) -> None:
        """Drop events from now on."""
        with self._lock:
            self._loop = None

    def receive(self, wire_name: str, body: dict[str, Any]) -> None:
        """Hand an event from the bus to the loop. An unknown one is ignored: a newer service may publish it."""
        message = BY_WIRE_NAME.get(wire_name)
        with self._lock:
            if message is not None and self._loop is not None:
                self._loop.call_soon_threadsafe(self.on_message, message, body)

    def on_message(self, message: type[Message], body: dict[str, Any]) -> None:
        """Answer the requests that wait for this event, and tell every stream."""
        if message in ANSWERS:
            for waiting in self._waiting.get(UUID(body[ANSWERS[message]]), []):
                if not waiting.done():
                    waiting.set_result(Answer(message, body))
        for stream in self._streams:
            stream.on_message(message, body)

    @contextmanager
    def waiting_for(self, awaited: UUID) -> Iterator[asyncio.Future[Answer]]:
        """The answer about this order, transfer, reset or halt. Enter it before you send the command."""
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(awaited, []).append(answer)
        try:
            yield answer
        finally:
            self._waiting[awaited].remove(answer)
            if not self._waiting[awaited]:
                del self._waiting[awaited]

    @contextmanager
    def stream(self, account_id: UUID) -> Iterator[Stream]:
        """A stream of the account's news, for as long as the context is open."""
        stream = Stream(account_id)
        self._streams.add(stream)
        try:
            yield stream
        finally:
            self._streams.discard(stream)


async def answers_within(seconds: float, waiting: Sequence[asyncio.Future[Answer]]) -> list[Answer | None]:
    """Wait for all answers, for at most so many seconds in all. Return None for each that did not arrive."""
    if waiting:
        await asyncio.wait(waiting, timeout=seconds)
    return [each.result() if each.done() else None for each in waiting]
