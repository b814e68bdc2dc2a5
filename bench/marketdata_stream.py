"""A websocket of 5,000 quotes a second: each from when it was sent to the commit with its event.

The frames are Alpaca's, from a server in a process of its own. The price stream reads them through alpaca-py. Beside it
a bare client takes the same frames, and stores the newest of each symbol of a few milliseconds in two statements.
"""

import threading
import time
from collections.abc import Sequence
from datetime import datetime
from queue import Empty, SimpleQueue
from typing import Any
from unittest.mock import patch

import msgpack  # type: ignore[import-untyped]
from sqlalchemy import Engine
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from bench.marketdata_database import marketdata_database
from bench.marketdata_fetched import context_of, forget_events
from bench.marketdata_prices import store_bare
from bench.marketdata_servers import Served, Snapshots, Ticks, alpaca_settings, served
from bench.report import Goal, NotMeasured, Row, comparison
from services.marketdata import price_stream
from services.marketdata.domain.quote import Quote
from services.marketdata.price_stream import COALESCE_SECONDS, PriceStream
from services.marketdata.providers.alpaca import Alpaca
from services.marketdata.providers.provider import Listed
from services.marketdata.usecases.stream_prices import store_streamed
from shared.clock import utc_now
from shared.contracts.instruments import AssetClass
from tests.servers.provider_alpaca import KEY, SECRET

SYMBOLS = 500
RATE = 5_000
#: Frames of the first part of a run are not counted: connections and statements are prepared then.
WARM_SECONDS = 1.0
#: Frames that have not been stored so long after the last one was sent never will be.
LAST_SECONDS = 20.0
LISTED = [Listed(f"S{number}", "DEMO", AssetClass.US_EQUITY, "USD") for number in range(SYMBOLS)]


def measure(*, runs: int, seconds: float) -> Sequence[Row]:
    """``runs`` streams of so many seconds each, in turn."""
    print(f"stream: {runs} times {seconds:g} s of {RATE:,} quotes a second, {SYMBOLS} symbols", flush=True)
    with marketdata_database(SYMBOLS) as engine, served(Snapshots) as http, served(Ticks) as ticks:
        pairs = []
        for _ in range(runs):
            ours = _percentiles(_ours(engine, http, ticks, seconds))
            forget_events(engine)
            pairs.append((ours, _percentiles(_bare(engine, ticks, seconds))))
    middle = [(ours[0], bare[0]) for ours, bare in pairs]
    slowest = [(ours[1], bare[1]) for ours, bare in pairs]
    name = f"a stream of {RATE:,} quotes/s: sent to committed with the event"
    return [
        comparison(f"{name}, p99, beside bare unnest", "ms", slowest, Goal("ours", "<=", 50)),
        comparison("the same, p50", "ms", middle),
    ]


class _Latencies:
    """The time of each frame from when it was sent to when it was stored, in milliseconds."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.count = 0
        self._warm_at = float("inf")

    def stored(self, sent: Sequence[datetime]) -> None:
        now = utc_now()
        if not self.count:
            self._warm_at = time.monotonic() + WARM_SECONDS
        self.count += len(sent)
        if time.monotonic() > self._warm_at:
            self.times += [(now - each).total_seconds() * 1000 for each in sent]

    def wait_for(self, count: int) -> None:
        ends = time.monotonic() + LAST_SECONDS
        while self.count < count:
            if time.monotonic() > ends:
                raise NotMeasured(f"{self.count:,} of {count:,} frames were stored")
            threading.Event().wait(0.01)


def _percentiles(latencies: _Latencies) -> tuple[float, float]:
    times = sorted(latencies.times)
    return times[len(times) // 2], times[len(times) * 99 // 100]


def _ours(engine: Engine, http: Served, ticks: Served, seconds: float) -> _Latencies:
    context, latencies = context_of(engine), _Latencies()

    def timed(context: Any, provider: Any, quotes: Sequence[Quote], **given: Any) -> int:
        count = store_streamed(context, provider, quotes, **given)
        latencies.stored([quote.quoted_at for quote in quotes])
        return count

    stream = PriceStream(context, Alpaca(alpaca_settings(http, ticks, requests_per_minute=100_000)), lambda: LISTED)
    with patch.object(price_stream, "store_streamed", timed):
        stream.start()
        try:
            latencies.wait_for(ticks.tell("play", SYMBOLS, RATE, seconds))
        finally:
            stream.stop()
            ticks.tell("end")
    return latencies


def _bare(engine: Engine, ticks: Served, seconds: float) -> _Latencies:
    latencies, frames, done = _Latencies(), SimpleQueue[dict[str, Any]](), threading.Event()
    with connect(ticks.url) as socket:
        _subscribe(socket)
        threads = [
            threading.Thread(target=_read, args=(socket, frames), daemon=True),
            threading.Thread(target=_store, args=(engine, frames, latencies, done), daemon=True),
        ]
        for thread in threads:
            thread.start()
        latencies.wait_for(ticks.tell("play", SYMBOLS, RATE, seconds))
    done.set()
    for thread in threads:
        thread.join()
    ticks.tell("end")
    return latencies


def _subscribe(socket: Any) -> None:
    symbols = [each.symbol for each in LISTED]
    socket.recv()
    socket.send(msgpack.packb({"action": "auth", "key": KEY, "secret": SECRET}))
    socket.recv()
    socket.send(msgpack.packb({"action": "subscribe", "trades": symbols, "quotes": symbols}))
    socket.recv()


def _read(socket: Any, frames: "SimpleQueue[dict[str, Any]]") -> None:
    try:
        for message in socket:
            for frame in msgpack.unpackb(message, timestamp=3):
                frames.put(frame)
    except ConnectionClosed:
        return


def _store(engine: Engine, frames: "SimpleQueue[dict[str, Any]]", latencies: _Latencies, done: threading.Event) -> None:
    while not done.is_set():
        taken: list[dict[str, Any]] = []
        ends = time.monotonic() + 0.1
        try:
            while True:
                taken.append(frames.get(timeout=max(0.0, ends - time.monotonic())))
                if len(taken) == 1:
                    ends = time.monotonic() + COALESCE_SECONDS
        except Empty:
            if not taken:
                continue
        with engine.begin() as connection:
            store_bare(connection, _columns(taken))
        latencies.stored([frame["t"] for frame in taken])


def _columns(frames: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    """The newest frame of each symbol."""
    newest = {frame["S"]: frame for frame in frames}
    rows = [
        (symbol, frame.get("bp"), frame.get("ap"), frame.get("bs"), frame.get("as"), frame.get("p") or frame["ap"],
         frame.get("s") or 0, frame["t"])
        for symbol, frame in newest.items()
    ]  # fmt: skip
    symbol, bid, ask, bid_size, ask_size, last, volume, quoted_at = map(list, zip(*rows, strict=True))
    return {
        "symbol": symbol, "bid": bid, "ask": ask, "bid_size": bid_size, "ask_size": ask_size, "last": last,
        "open": last, "high": last, "low": last, "volume": volume, "quoted_at": quoted_at,
    }  # fmt: skip
