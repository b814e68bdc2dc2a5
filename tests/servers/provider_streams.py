"""Websockets in the places of Yahoo's and Alpaca's streams. A test says which frames come, and when they stop."""

import base64
import json
import queue
import threading
import time
from typing import Any

import msgpack  # type: ignore[import-untyped]
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve
from yfinance.pricing_pb2 import PricingData  # type: ignore[import-untyped]

from tests.servers.provider_alpaca import KEY, SECRET


class StreamServer:
    """A websocket server. ``received`` holds the messages of its clients, ``connected`` counts them."""

    def __init__(self) -> None:
        self.received: list[Any] = []
        self.connected = 0
        self._open: list[ServerConnection] = []
        self._changed = threading.Condition()
        self._server = serve(self._serve, "127.0.0.1", 0, ping_interval=None)
        self.url = f"ws://127.0.0.1:{self._server.socket.getsockname()[1]}/"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def wait_for(self, condition: Any, seconds: float = 10) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, seconds), (self.received, self.connected)

    def send(self, frame: bytes | str) -> None:
        for connection in self._open:
            connection.send(frame)

    def cut(self) -> None:
        """Cut all connections without a word."""
        for connection in self._open:
            connection.socket.close()
        self._open.clear()

    def close(self) -> None:
        self._server.shutdown()
        for connection in list(self._open):
            connection.close()
        self._thread.join()

    def greet(self, connection: ServerConnection) -> bool:
        """Say hello. False to end the connection."""
        return connection.request is not None

    def read(self, message: Any) -> Any:
        return json.loads(message)

    def _serve(self, connection: ServerConnection) -> None:
        try:
            if not self.greet(connection):
                return
            with self._changed:
                self._open.append(connection)
                self.connected += 1
                self._changed.notify_all()
            for message in connection:
                with self._changed:
                    self.received.append(self.read(message))
                    self._changed.notify_all()
                self.answer(connection, self.received[-1])
        except (ConnectionClosed, OSError):
            return

    def answer(self, connection: ServerConnection, message: Any) -> None:
        pass


class YahooStreamServer(StreamServer):
    """Yahoo's stream: JSON with a message of protocol buffers in it."""

    def tick(self, symbol: str, price: float, milliseconds: int, **other: Any) -> str:
        pricing = PricingData(id=symbol, price=price, time=milliseconds, **other)
        encoded = base64.b64encode(pricing.SerializeToString()).decode()
        return json.dumps({"type": "pricing", "message": encoded})


class AlpacaStreamServer(StreamServer):
    """Alpaca's stream: connected, auth, subscribe, and frames of msgpack. ``refusal`` is an error for each key."""

    def __init__(self) -> None:
        self.refusal: dict[str, Any] | None = None
        self.auths: queue.Queue[Any] = queue.Queue()
        super().__init__()

    def greet(self, connection: ServerConnection) -> bool:
        connection.send(msgpack.packb([{"T": "success", "msg": "connected"}]))
        auth = self.read(connection.recv(timeout=10))
        self.auths.put(auth)
        if self.refusal is not None or (auth.get("key"), auth.get("secret")) != (KEY, SECRET):
            wrong = self.refusal or {"T": "error", "code": 402, "msg": "auth failed"}
            connection.send(msgpack.packb([wrong]))
            return False
        connection.send(msgpack.packb([{"T": "success", "msg": "authenticated"}]))
        return True

    def answer(self, connection: ServerConnection, message: Any) -> None:
        lists = {name: value for name, value in message.items() if name != "action"}
        connection.send(msgpack.packb([{"T": "subscription", **lists}]))

    def read(self, message: Any) -> Any:
        return msgpack.unpackb(message)

    def frames(self, *frames: dict[str, Any]) -> bytes:
        packed: bytes = msgpack.packb(list(frames))
        return packed


def stamp(nanoseconds: int | None = None) -> msgpack.Timestamp:
    """A time of Alpaca's frames. Now, unless another is given."""
    return msgpack.Timestamp.from_unix_nano(nanoseconds if nanoseconds is not None else time.time_ns())


def trade(
    symbol: str, price: float, *, at: Any = None, size: int = 10, number: int = 1, **other: Any
) -> dict[str, Any]:
    return {
        "T": "t", "S": symbol, "i": number, "x": "V", "p": price, "s": size, "c": ["@"], "t": at or stamp(), "z": "B",
        **other,
    }  # fmt: skip


def quote(symbol: str, bid: float, ask: float, *, at: Any = None) -> dict[str, Any]:
    return {
        "T": "q", "S": symbol, "bx": "V", "bp": bid, "bs": 100, "ax": "V", "ap": ask, "as": 200, "c": ["R"],
        "t": at or stamp(), "z": "B",
    }  # fmt: skip
