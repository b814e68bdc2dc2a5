"""Local servers in Alpaca's place, each in a process of its own, so that its work is not counted as ours."""

import multiprocessing
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from multiprocessing.connection import Connection
from typing import Any

from pydantic import SecretStr

from services.marketdata.providers.settings import AlpacaSettings
from tests.servers.provider_alpaca import KEY, SECRET, AlpacaServer, snapshot
from tests.servers.provider_http import Asked, Reply
from tests.servers.provider_streams import AlpacaStreamServer, quote, trade

PATH = "/v2/stocks/snapshots"
HEADERS = {"APCA-API-KEY-ID": KEY, "APCA-API-SECRET-KEY": SECRET}
#: The pause between two messages of the stream.
TICK_SECONDS = 0.002


class Snapshots(AlpacaServer):
    """Every symbol has a snapshot, whose trade is of this moment."""

    def reply(self, asked: Asked) -> Reply:
        at = datetime.now(UTC).isoformat()
        symbols = asked.query["symbols"].split(",")
        self.snapshots.update({symbol: snapshot(random.randint(10_000, 10_500) / 100, at) for symbol in symbols})
        return super().reply(asked)

    def count(self) -> int:
        """The number of requests so far."""
        return len(self.asked)


class Ticks(AlpacaStreamServer):
    """Sends quotes, and a trade for every tenth of them, at a steady rate."""

    def play(self, symbols: int, rate: int, seconds: float) -> int:
        """Send frames to one client once it has subscribed all symbols, end its stream, and return their number."""
        self.wait_for(lambda: any(len(message.get("quotes", ())) == symbols for message in self.received))
        begun, sent = time.monotonic(), 0
        while (passed := time.monotonic() - begun) < seconds:
            due = int(passed * rate)
            if due > sent:
                self.send(self.frames(*(_frame(number, symbols) for number in range(sent, due))))
                sent = due
            time.sleep(TICK_SECONDS)
        return sent

    def end(self) -> None:
        """Forget the client."""
        self.received.clear()
        self._open.clear()


def _frame(number: int, symbols: int) -> dict[str, Any]:
    symbol, cents = f"S{number % symbols}", random.randint(10_000, 10_500)
    if number % 10 == 0:
        return trade(symbol, cents / 100, number=number)
    return quote(symbol, (cents - 5) / 100, (cents + 5) / 100)


class Served:
    """A server in another process. ``tell`` calls one of its methods."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.url: str = connection.recv()

    def tell(self, method: str, *given: Any) -> Any:
        self._connection.send((method, given))
        return self._connection.recv()


@contextmanager
def served(kind: type[Snapshots | Ticks]) -> Iterator[Served]:
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=_serve, args=(kind, theirs), daemon=True)
    process.start()
    try:
        yield Served(ours)
    finally:
        ours.send((None, ()))
        process.join(10)


def _serve(kind: type[Snapshots | Ticks], connection: Connection) -> None:
    server = kind()
    connection.send(server.url)
    while (told := connection.recv())[0] is not None:
        method, given = told
        connection.send(getattr(server, method)(*given))
    server.close()


def alpaca_settings(http: Served, stream: Served | None = None, *, requests_per_minute: int = 200) -> AlpacaSettings:
    return AlpacaSettings(
        key=SecretStr(KEY),
        secret=SecretStr(SECRET),
        url=http.url,
        stream_url=stream.url if stream else None,
        requests_per_minute=requests_per_minute,
    )
