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

#: Open streams of an account. A browser opens at most six to one host.
STREAMS_AT_MOST = 32


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
        self._waiting: dict[tuple[UUID | None, UUID], list[asyncio.Future[Answer]]] = {}
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
            account_id = UUID(body["account_id"]) if "account_id" in body else None
            for waiting in self._waiting.get((account_id, UUID(body[ANSWERS[message]])), []):
                if not waiting.done():
                    waiting.set_result(Answer(message, body))
        for stream in self._streams:
            stream.on_message(message, body)

    @contextmanager
    def waiting_for(self, account_id: UUID | None, awaited: UUID) -> Iterator[asyncio.Future[Answer]]:
        """The answer about this order, transfer or reset of the account, or about a halt, which is of no account.

        A client chooses the id of a transfer, so another account may use the same one. Enter it before you send the
        command.
        """
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        key = account_id, awaited
        self._waiting.setdefault(key, []).append(answer)
        try:
            yield answer
        finally:
            self._waiting[key].remove(answer)
            if not self._waiting[key]:
                del self._waiting[key]

    def is_full(self, account_id: UUID) -> bool:
        """Return True if the account has as many open streams as it may have."""
        return sum(stream.account_id == account_id for stream in self._streams) >= STREAMS_AT_MOST

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
