"""A client of the page's stream of server-sent events."""

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from queue import Empty, Queue
from types import TracebackType
from typing import Any, Self

import httpx2

from bench.report import NotMeasured

#: The stream sends a ping every five seconds, so a longer silence means a lost connection.
SILENCE_SECONDS = 15.0


@dataclass(frozen=True)
class StreamEvent:
    """An event. ``arrived_at`` is the time when the client had received all of it."""

    name: str
    data: dict[str, Any]
    arrived_at: datetime

    def first_price_after(self, moment: datetime, symbol: str | None = None) -> datetime | None:
        """Return the earliest time after the moment of a price of the symbol, or of any symbol. None without one."""
        prices: list[dict[str, Any]] = self.data["prices"] if self.name == "prices" else []
        wanted = [price for price in prices if symbol in (None, price["symbol"])]
        times = [datetime.fromisoformat(price["quoted_at"]) for price in wanted]
        return min((time for time in times if time > moment), default=None)


@dataclass(frozen=True)
class StreamEnded:
    """The end of the stream."""

    reason: str


class EventStream:
    """Reads on its own thread, so that an event gets its time when it arrives, even if its consumer is busy."""

    def __init__(self, url: str, headers: dict[str, str]) -> None:
        self._url = url
        self._headers = headers
        self._events: Queue[StreamEvent | StreamEnded] = Queue()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        """Stop the thread. It ends at the next event or at the end of the connection."""
        self._closing.set()
        self._thread.join(SILENCE_SECONDS)

    def first(self, wanted: Callable[[StreamEvent], bool], *, seconds: float) -> StreamEvent:
        """Return the next wanted event, and drop the others. Raises NotMeasured if none arrives in time."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                event = self._events.get(timeout=max(0.0, deadline - time.monotonic()))
            except Empty:
                raise NotMeasured(f"the stream sent no such event within {seconds:g} s") from None
            if isinstance(event, StreamEnded):
                raise NotMeasured(f"the stream ended: {event.reason}")
            if wanted(event):
                return event

    def _read(self) -> None:
        reason = "the server closed it"
        try:
            with httpx2.stream("GET", self._url, headers=self._headers, timeout=SILENCE_SECONDS) as response:
                response.raise_for_status()
                self._read_events(response)
        except httpx2.HTTPError as error:
            reason = f"{type(error).__name__} {error}"
        self._events.put(StreamEnded(reason))

    def _read_events(self, response: httpx2.Response) -> None:
        fields: dict[str, str] = {}
        for line in response.iter_lines():
            if self._closing.is_set():
                return
            if line:
                name, _, value = line.partition(": ")
                fields[name] = value
            elif "event" in fields:
                event = StreamEvent(fields["event"], json.loads(fields["data"]), datetime.now(UTC))
                self._events.put(event)
                fields = {}
