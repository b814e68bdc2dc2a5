"""A local HTTP server in a price provider's place. It speaks the provider's shapes, and misbehaves when told to.

``YahooServer``, ``AlphaVantageServer`` and ``AlpacaServer`` answer what the providers document. The figures in the
answers are made up.
"""

import contextlib
import json
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

HTML = b"<!DOCTYPE html><html><head><title>Sign in</title></head><body><h1>Hotel Wi-Fi</h1></body></html>"
#: A slow answer comes in drops. Its whole takes longer than any client waits, though no drop does.
DROP_SECONDS = 0.2


@dataclass(frozen=True)
class Asked:
    """A request as the server saw it."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]


@dataclass
class Reply:
    """An answer: a JSON body, or text."""

    body: Any
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)

    def encoded(self) -> bytes:
        return self.body.encode() if isinstance(self.body, str) else json.dumps(self.body).encode()


@dataclass
class Misbehavior:
    """A fault of the next ``times`` matching answers. ``kind`` is slow, half, html, empty or status."""

    kind: str
    path: str = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = ""
    times: int = 1_000_000


class ProviderServer(ABC):
    """The server. ``asked`` holds the requests, oldest first. A provider's class has ``reply``."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.misbehaviors: list[Misbehavior] = []
        self.stopping = threading.Event()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"provider": self}))
        self._http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._http.server_port}"
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()

    @abstractmethod
    def reply(self, asked: Asked) -> Reply:
        """The provider's answer when it behaves."""

    def misbehave(self, kind: str, **how: Any) -> None:
        self.misbehaviors.append(Misbehavior(kind, **how))

    def behave(self) -> None:
        self.misbehaviors.clear()

    def paths(self) -> list[str]:
        return [asked.path for asked in self.asked]

    def close(self) -> None:
        self.stopping.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def misbehavior(self, asked: Asked) -> Misbehavior | None:
        for each in self.misbehaviors:
            if asked.path.startswith(each.path) and each.times > 0:
                each.times -= 1
                return each
        return None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    provider: ProviderServer

    def do_GET(self) -> None:
        self.close_connection = True
        if length := int(self.headers.get("Content-Length") or 0):
            self.rfile.read(length)
        url = urlsplit(self.path)
        asked = Asked(self.command, unquote(url.path), dict(parse_qsl(url.query)), dict(self.headers))
        self.provider.asked.append(asked)
        wrong = self.provider.misbehavior(asked)
        reply = self.provider.reply(asked)
        if wrong is not None and wrong.kind == "status":
            reply = Reply(wrong.body, wrong.status, wrong.headers)
        body = reply.encoded()
        if wrong is not None and wrong.kind in _SPOILED:
            body = _SPOILED[wrong.kind](body)
        with contextlib.suppress(OSError):  # a client may have had enough
            self._send(reply, body, wrong)

    do_POST = do_GET  # noqa: N815

    def _send(self, reply: Reply, body: bytes, wrong: Misbehavior | None) -> None:
        kind = "text/html" if body == HTML else "application/json"
        self.send_response(reply.status)
        for name, value in {"Content-Type": kind, "Connection": "close", **reply.headers}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if wrong is not None and wrong.kind == "slow":
            self._drip(body)
        else:
            self.wfile.write(body[: len(body) // 2] if wrong is not None and wrong.kind == "half" else body)

    def _drip(self, body: bytes) -> None:
        for at in range(len(body)):
            self.wfile.write(body[at : at + 1])
            self.wfile.flush()
            if self.provider.stopping.wait(DROP_SECONDS):
                return

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass


_SPOILED: Mapping[str, Callable[[bytes], bytes]] = {"html": lambda _: HTML, "empty": lambda _: b""}


def epoch(seconds_ago: float = 0) -> int:
    """The time so many seconds ago, as a provider writes it."""
    return int(time.time() - seconds_ago)
