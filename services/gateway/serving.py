"""The HTTP server of the gateway's application, in a container and in the embedded run.

uvicorn bounds neither the time for a request nor the connections, so its protocol is bounded here. At a bound the
connection that has been idle for longest makes room, as in nginx, so clients that send nothing shut nobody out.
"""

import asyncio
import json
import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any

import h11
import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from services.gateway.http.middleware import HEADERS, NO_STORE
from services.gateway.http.missing_streams import PRICE_STREAM
from services.gateway.http.rate_limit import network_of

#: Longer than the pauses of a bot. With uvicorn's default of 5 s the server closes a connection just when a bot that
#: polls every 5 s sends its next request on it. A POST that is lost this way cannot be retried safely. nginx uses the
#: same time.
KEEP_ALIVE_SECONDS = 75
#: A frame of the WebSocket has at most so many bytes, as the body of the same request has.
FRAME_BYTES = 1024 * 1024
#: The time for a client to read the rest of a response whose connection is closed.
LINGER_SECONDS = 5.0
#: uvicorn's warnings about a WebSocket handshake. The application logs it once for each client. uvicorn also takes a
#: handshake that was answered with a 401 for one that was not answered.
_HANDSHAKE_WARNINGS = (
    "Unsupported upgrade request.",
    "No supported WebSocket library detected.",
    "ASGI callable returned without completing handshake.",
)


@dataclass(frozen=True)
class Limits:
    """Times are in seconds, and in all: a client that sends a byte now and then gets no more of it.

    ``per_address`` is generous, because many clients may share a proxy. The application answers 408 to a body before
    ``body_seconds`` end the connection.
    """

    head_seconds: float = 10.0
    body_seconds: float = 25.0
    #: The client reads nothing of the response.
    stalled_seconds: float = 30.0
    #: Below the usual limit of 1024 open files.
    connections: int = 800
    per_address: int = 400


class Connections:
    """The open connections of one server by network, and those without a request, the longest idle first."""

    def __init__(self, limits: Limits, trusted_proxies: Iterable[str] = ()) -> None:
        self.limits = limits
        self.open: Counter[str] = Counter()
        self.idle: dict[BoundedProtocol, str] = {}
        self._proxies = [ip_network(each) for each in trusted_proxies]

    def admit(self, host: str) -> bool:
        """Count a connection, and close an idle one if there is no room. Return False if none is idle."""
        network = network_of(host)
        longest_idle: Iterable[BoundedProtocol] = ()
        if self.open[network] >= self.limits.per_address and not self._is_proxy(host):
            longest_idle = (each for each, its in self.idle.items() if its == network)
        elif self.open.total() >= self.limits.connections:
            longest_idle = iter(self.idle)
        else:
            self.open[network] += 1
            return True
        closed = next(iter(longest_idle), None)
        if closed is None:
            return False
        closed.end()
        self.open[network] += 1
        return True

    def leave(self, host: str) -> None:
        """Uncount a connection."""
        network = network_of(host)
        self.open[network] -= 1
        if self.open[network] <= 0:
            del self.open[network]

    def _is_proxy(self, host: str) -> bool:
        return any(ip_address(host) in each for each in self._proxies)


class BoundedConfig(uvicorn.Config):
    """uvicorn's configuration, and the connections that the protocols of a server share."""

    def __init__(self, app: Starlette, connections: Connections, **options: Any) -> None:
        super().__init__(app, http=BoundedProtocol, **options)
        self.open_connections = connections


class BoundedProtocol(H11Protocol):
    """A connection with limits on the time for each request's head and body, and for the client to read.

    It is in one of four phases: a head is expected or half there, a body is, a request is answered, or it is idle.
    """

    config: BoundedConfig
    _phase = ""
    _counted = False
    _upgraded = False
    _deadline: asyncio.TimerHandle | None = None
    _stalled: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._open = self.config.open_connections
        self._limits = self._open.limits
        self._host = self.client[0] if self.client else ""
        self._counted = self._open.admit(self._host)
        if self._counted:
            self._watch()
        else:
            self._refuse(503, "too many connections; retry in a moment")

    def connection_lost(self, exc: Exception | None) -> None:
        self._forget()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if not self.transport.is_closing():
            super().data_received(data)
            self._watch()

    def _should_upgrade_to_ws(self) -> bool:
        return super()._should_upgrade_to_ws() and self.scope["path"] == PRICE_STREAM

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Hand the connection over, and count it as a WebSocket from now on."""
        self._upgraded = True
        self._forget()
        super().handle_websocket_upgrade(event)

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._watch()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stalled = self.loop.call_later(self._limits.stalled_seconds, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stalled is not None:
            self._stalled.cancel()

    def send_400_response(self, msg: str) -> None:
        self._refuse(400, msg)

    def timeout_keep_alive_handler(self) -> None:
        super().timeout_keep_alive_handler()
        self._linger()

    def end(self) -> None:
        """Close the idle connection. Its room is free at once."""
        self._forget()
        self.timeout_keep_alive_handler()

    def _watch(self) -> None:
        """Begin the deadline of a new phase. Later bytes of the same phase do not move it."""
        if self._upgraded:
            return
        phase = "answer" if self.transport.is_closing() else self._current_phase()
        if phase == self._phase:
            return
        self._phase = phase
        if self._deadline is not None:
            self._deadline.cancel()
        if phase in {"head", "idle"}:
            self._open.idle.setdefault(self, network_of(self._host))
        else:
            self._open.idle.pop(self, None)
        if phase == "head":
            self._deadline = self.loop.call_later(self._limits.head_seconds, self._head_is_late)
        elif phase == "body":
            self._deadline = self.loop.call_later(self._limits.body_seconds, self.transport.abort)

    def _current_phase(self) -> str:
        if self.conn.their_state is h11.SEND_BODY:
            return "body"
        if self.conn.their_state is not h11.IDLE:
            return "answer"
        return "head" if self.cycle is None or self.conn.trailing_data[0] else "idle"

    def _head_is_late(self) -> None:
        if self.conn.trailing_data[0]:
            self._refuse(408, "the request did not arrive in time")
        else:
            self.timeout_keep_alive_handler()

    def _refuse(self, status: int, message: str) -> None:
        """Answer outside the application if nothing was answered yet, and close the connection."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            body = json.dumps({"message": message}).encode()
            fields = {b"content-type": b"application/json", b"content-length": str(len(body)).encode()}
            after = {b"connection": b"close", **({b"retry-after": b"1"} if status == 503 else {})}
            headers = [*fields.items(), *after.items(), *HEADERS.items(), NO_STORE]
            for event in (h11.Response(status_code=status, headers=headers), h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
        self._linger()

    def _linger(self) -> None:
        """End the connection even if the client does not read the rest."""
        self.loop.call_later(LINGER_SECONDS, self.transport.abort)

    def _forget(self) -> None:
        if self._counted:
            self._counted = False
            self._open.leave(self._host)
            self._open.idle.pop(self, None)
        for timer in (self._deadline, self._stalled):
            if timer is not None:
                timer.cancel()


class BoundedWebSocket(WebSocketsSansIOProtocol):
    """A WebSocket that counts among the open connections. Its pings end one whose client is gone."""

    config: BoundedConfig
    _counted = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._host = self.client[0] if self.client else ""
        self._counted = self.config.open_connections.admit(self._host)
        if not self._counted:
            transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._counted:
            self._counted = False
            self.config.open_connections.leave(self._host)
        super().connection_lost(exc)


def http_server(
    app: Starlette,
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    shutdown_seconds: int,
    limits: Limits = Limits(),
    trusted_proxies: Sequence[str] = (),
) -> uvicorn.Server:
    """Make a server that is not started yet. It aborts requests that still run ``shutdown_seconds`` after its stop.

    ``trusted_proxies`` are the addresses or networks whose ``X-Forwarded-For`` and ``X-Forwarded-Proto`` are believed.
    """
    logging.getLogger("uvicorn.error").addFilter(_is_news)
    return uvicorn.Server(
        BoundedConfig(
            app,
            Connections(limits, trusted_proxies),
            host=host,
            port=port,
            log_config=None,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=shutdown_seconds,
            proxy_headers=bool(trusted_proxies),
            forwarded_allow_ips=list(trusted_proxies),
            ws=BoundedWebSocket,
            ws_max_size=FRAME_BYTES,
            ws_per_message_deflate=False,
        )
    )


def _is_news(record: logging.LogRecord) -> bool:
    """Return False for handshakes, and for requests canceled at the stop, whose number uvicorn logs."""
    canceled = record.exc_info is not None and isinstance(record.exc_info[1], asyncio.CancelledError)
    return not canceled and not record.getMessage().startswith(_HANDSHAKE_WARNINGS)
