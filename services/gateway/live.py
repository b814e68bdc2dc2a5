"""Live news inside one gateway process: from the bus's thread to the requests that wait for it.

Answers wake the submit or cancel that waits for them; streams are told which of their parts changed.
"""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

#: Events that end the wait of a submit or cancel, by the order they name.
ANSWERS = {"OrderAccepted.v1", "OrderRejected.v1", "OrderCanceled.v1", "CancelRejected.v1"}
#: What an event of an account changes on its page.
CHANGES = {
    "OrderAccepted.v1": {"orders", "account"},
    "OrderRejected.v1": {"orders", "account"},
    "OrderCanceled.v1": {"orders", "account"},
    "OrderExpired.v1": {"orders", "account"},
    "OrderFilled.v1": {"orders", "account", "positions"},
}
VALUED = {"account", "positions"}


@dataclass(eq=False)
class Stream:
    """One reader: which parts changed since it last looked, and the newest price of each symbol."""

    account_id: UUID
    changed: set[str] = field(default_factory=set)
    prices: dict[str, dict[str, Any]] = field(default_factory=dict)
    news: asyncio.Event = field(default_factory=asyncio.Event)

    def note(self, parts: set[str]) -> None:
        self.changed |= parts
        self.news.set()

    def take(self) -> tuple[set[str], list[dict[str, Any]]]:
        changed, prices = self.changed, list(self.prices.values())
        self.changed, self.prices = set(), {}
        self.news.clear()
        return changed, prices


class Live:
    """``on_message`` may be called from any thread; everything else belongs to the event loop."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._streams: set[Stream] = set()
        self._waiting: dict[UUID, list[asyncio.Event]] = {}
        self._lock = threading.Lock()

    def attach(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            self._loop = loop

    def detach(self) -> None:
        with self._lock:
            self._loop = None

    def on_message(self, name: str, body: dict[str, Any]) -> None:
        with self._lock:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._hand_on, name, body)

    def _hand_on(self, name: str, body: dict[str, Any]) -> None:
        if name in ANSWERS:
            for waiting in self._waiting.get(UUID(body["order_id"]), []):
                waiting.set()
        for stream in self._streams:
            _tell(stream, name, body)

    @contextmanager
    def waiting_for(self, order_id: UUID) -> Iterator[asyncio.Event]:
        """An event that is set when orders has answered about this order; enter before the command is sent."""
        event = asyncio.Event()
        self._waiting.setdefault(order_id, []).append(event)
        try:
            yield event
        finally:
            self._waiting[order_id].remove(event)
            if not self._waiting[order_id]:
                del self._waiting[order_id]

    @contextmanager
    def stream(self, account_id: UUID) -> Iterator[Stream]:
        stream = Stream(account_id)
        self._streams.add(stream)
        try:
            yield stream
        finally:
            self._streams.discard(stream)


def _tell(stream: Stream, name: str, body: dict[str, Any]) -> None:
    if name == "PricesUpdated.v1":
        stream.prices |= {price["symbol"]: price for price in body["prices"]}
        stream.news.set()
    elif name == "AccountsValued.v1":
        if any(UUID(value["account_id"]) == stream.account_id for value in body["values"]):
            stream.note(VALUED)
    elif name in CHANGES and UUID(body["account_id"]) == stream.account_id:
        stream.note(CHANGES[name])


async def wait_briefly(event: asyncio.Event, seconds: float) -> bool:
    """Whether the event came within so many seconds."""
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return False
    return True
