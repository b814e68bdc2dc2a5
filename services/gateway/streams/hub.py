"""Live news inside one gateway process: from the bus's thread to the requests that wait for it.

Answers wake the request that waits for them; streams are told which of their parts changed.
"""

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

#: Events that end a wait, and what in them names that which is waited for.
ANSWERS = {
    "OrderAccepted.v1": "order_id",
    "OrderRejected.v1": "order_id",
    "OrderCanceled.v1": "order_id",
    "CancelRejected.v1": "order_id",
    "OrderReplaced.v1": "new_order_id",
    "ReplaceRejected.v1": "new_order_id",
    "CashMoved.v1": "transfer_id",
    "CashRefused.v1": "transfer_id",
    "AccountReset.v1": "reset_id",
    "TradingHalted.v1": "halt_id",
    "TradingResumed.v1": "halt_id",
}
#: An order that closes a position promises some of its shares.
ORDERED = {"orders", "account", "positions"}
#: What an event of an account changes on its page; of what was refused nothing changes.
CHANGES = {
    "OrderAccepted.v1": ORDERED,
    "OrderRejected.v1": ORDERED,
    "OrderCanceled.v1": ORDERED,
    "OrderExpired.v1": ORDERED,
    "OrderReplaced.v1": ORDERED,
    "OrderFilled.v1": ORDERED,
    "PositionChanged.v1": {"account", "positions"},
    "OrderAdjusted.v1": ORDERED,
    "CashMoved.v1": {"account"},
    "DividendPaid.v1": {"account"},
    "InterestCharged.v1": {"account"},
    "MarginCalled.v1": {"account"},
    "MarginCallEnded.v1": {"account"},
    "AccountReset.v1": ORDERED,
}
VALUED = {"account", "positions"}
#: Events that concern all pages.
HALTS = {"TradingHalted.v1", "TradingResumed.v1"}


@dataclass(frozen=True)
class Answer:
    """The event that ended a wait, by its name and version."""

    name: str
    body: dict[str, Any]

    @property
    def refused(self) -> bool:
        """Only a refusal has a message; its reason is its name."""
        return "message" in self.body


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
        self._waiting: dict[UUID, list[asyncio.Future[Answer]]] = {}
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
            for waiting in self._waiting.get(UUID(body[ANSWERS[name]]), []):
                if not waiting.done():
                    waiting.set_result(Answer(name, body))
        for stream in self._streams:
            _tell(stream, name, body)

    @contextmanager
    def waiting_for(self, awaited: UUID) -> Iterator[asyncio.Future[Answer]]:
        """What is answered about this order, transfer, reset or halt; enter before the command is sent."""
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
    elif name in HALTS:
        stream.note({"halts"})
    elif name == "AccountsValued.v1":
        if any(UUID(value["account_id"]) == stream.account_id for value in body["values"]):
            stream.note(VALUED)
    elif name in CHANGES and UUID(body["account_id"]) == stream.account_id:
        stream.note(CHANGES[name])


async def answers_within(seconds: float, waiting: Sequence[asyncio.Future[Answer]]) -> list[Answer | None]:
    """The answers, each None that did not come within so many seconds for all of them."""
    if waiting:
        await asyncio.wait(waiting, timeout=seconds)
    return [each.result() if each.done() else None for each in waiting]


async def wait_briefly(event: asyncio.Event, seconds: float) -> bool:
    """Whether the event came within so many seconds."""
    try:
        await asyncio.wait_for(event.wait(), seconds)
    except TimeoutError:
        return False
    return True


Hub = Live
