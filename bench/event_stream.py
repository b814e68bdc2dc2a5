"""The page's live stream, as a client reads it."""

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

#: The stream pings every five seconds, so a longer silence means that it broke.
SILENCE_SECONDS = 15.0


@dataclass(frozen=True)
class StreamEvent:
    """``arrived_at`` is when the client had all of it."""

    name: str
    data: dict[str, Any]
    arrived_at: datetime

    def first_price_after(self, moment: datetime, symbol: str | None = None) -> datetime | None:
        """The earliest time, later than the moment, of a price of the symbol, or of any; None without one."""
        prices: list[dict[str, Any]] = self.data["prices"] if self.name == "prices" else []
        wanted = [price for price in prices if symbol in (None, price["symbol"])]
        times = [datetime.fromisoformat(price["quoted_at"]) for price in wanted]
        return min((time for time in times if time > moment), default=None)


@dataclass(frozen=True)
class StreamEnded:
    reason: str


class EventStream:
    """Reads on a thread of its own, so that an event is stamped when it comes, whatever its reader does."""

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
        """The thread sees it at the next event or at the connection's end, whichever is first."""
        self._closing.set()
        self._thread.join(SILENCE_SECONDS)

    def first(self, wanted: Callable[[StreamEvent], bool], *, seconds: float) -> StreamEvent:
        """The next event that is wanted; the others are dropped. Raises NotMeasured when none comes in time."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                event = self._events.get(timeout=max(0.0, deadline - time.monotonic()))
            except Empty:
                raise NotMeasured(f"the stream did not bring what was waited for within {seconds:g} s") from None
            if isinstance(event, StreamEnded):
                raise NotMeasured(f"the stream ended: {event.reason}")
            if wanted(event):
                return event

    def _read(self) -> None:
        reason = "the server closed it"
        try:
            with httpx2.stream("GET", self._url, headers=self._headers, timeout=SILENCE_SECONDS) as response:
                response.raise_for_status()
                self._take_in(response)
        except httpx2.HTTPError as error:
            reason = f"{type(error).__name__} {error}"
        self._events.put(StreamEnded(reason))

    def _take_in(self, response: httpx2.Response) -> None:
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
