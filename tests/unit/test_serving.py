"""The HTTP server's connections, in both ways to run it: how long each phase may take, and how many there may be."""

import ast
import asyncio
import http.client
import logging
import socket
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket
from uvicorn.protocols.http.h11_impl import H11Protocol
from websockets.exceptions import ConnectionClosedError, InvalidStatus
from websockets.sync.client import connect

from services.gateway.serving import FRAME_BYTES, KEEP_ALIVE_SECONDS, Limits, http_server
from shared.storage.migrate import ROOT
from tests.support import eventually

ENTRY_POINTS = [ROOT / "services" / "gateway" / "__main__.py", ROOT / "embedded" / "http.py"]


class MovedLoop(asyncio.SelectorEventLoop):
    """An event loop whose time a test can move on."""

    moved = 0.0
    server: uvicorn.Server

    def time(self) -> float:
        return super().time() + self.moved


async def here(_request: Request) -> Response:
    return PlainTextResponse("here")


async def echo(request: Request) -> Response:
    """Answer with the body."""
    return Response(await request.body())


async def never(_request: Request) -> Response:
    await asyncio.Event().wait()
    return Response()


async def repeat(websocket: WebSocket) -> None:
    """Send every text back, but to a client without a name refuse the handshake."""
    if "name" not in websocket.query_params:
        await websocket.send_denial_response(Response(status_code=401))
        return
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text)


async def endless(_request: Request) -> Response:
    """More than the sockets hold. Nothing of it is read."""

    async def chunks() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 65536
            await asyncio.sleep(0)

    return StreamingResponse(chunks())


@contextmanager
def served(**limits: Any) -> Iterator[tuple[http.client.HTTPConnection, MovedLoop]]:
    """A client's connection to a real server, and the server's event loop."""
    app = Starlette(
        routes=[
            Route("/", here),
            Route("/", echo, methods=["POST"]),
            Route("/endless", endless),
            Route("/never", never),
            WebSocketRoute("/api/prices/stream", repeat),
        ]
    )
    loop, server = MovedLoop(), http_server(app, shutdown_seconds=1, limits=replace(Limits(), **limits))
    loop.server = server
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=loop.run_until_complete, args=[server.serve([listening])])
        thread.start()
        connection = http.client.HTTPConnection("127.0.0.1", listening.getsockname()[1], timeout=10)
        try:
            eventually(lambda: server.started, what="the server's start")
            yield connection, loop
        finally:
            connection.close()
            server.should_exit = True
            thread.join()
            loop.close()


def ask(connection: http.client.HTTPConnection) -> bytes:
    connection.request("GET", "/")
    return connection.getresponse().read()


def closed(connection: http.client.HTTPConnection) -> bool:
    """Whether the server has closed its end."""
    connection.sock.setblocking(False)
    try:
        return connection.sock.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True
    finally:
        connection.sock.settimeout(10)


def test_a_connection_is_kept_for_75_seconds_after_a_request() -> None:
    """A request a moment before the end is answered on the same connection, and begins the time anew."""
    with served() as (connection, loop):
        assert ask(connection) == b"here"
        first = connection.sock
        for _ in range(2):
            move(loop, 74)
            assert not closed(connection)
            assert ask(connection) == b"here"
            assert connection.sock is first
        move(loop, 76)
        eventually(lambda: closed(connection), what="the end of the connection")


def test_a_websocket_outlives_the_deadlines_of_requests(caplog: pytest.LogCaptureFixture) -> None:
    """It counts as a connection until it ends. Its frames are bounded."""
    with served(per_address=2) as (connection, loop):
        port, opened = connection.port, loop.server.config.open_connections  # type: ignore[attr-defined]
        with connect(f"ws://127.0.0.1:{port}/api/prices/stream?name=a") as stream:
            for seconds in (0, 20, 100):
                move(loop, seconds)
                stream.send("frame")
                assert stream.recv(timeout=10) == "frame"
            assert opened.open.total() == 1
            stream.send("x" * (FRAME_BYTES + 1))
            with pytest.raises(ConnectionClosedError, match="1009"):
                stream.recv(timeout=10)
        eventually(lambda: opened.open.total() == 0)
        for path, status in (("elsewhere", "404"), ("api/prices/stream", "401")):
            with pytest.raises(InvalidStatus, match=status), connect(f"ws://127.0.0.1:{port}/{path}"):
                pass
        assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []
        assert ask(connection) == b"here"


HALF_HEAD = b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: "
HALF_BODY = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\nhalf"


@pytest.mark.parametrize(
    ("sent", "answer"), [(b"", b""), (HALF_HEAD, b"HTTP/1.1 408 ")], ids=["it says nothing", "it says half"]
)
@pytest.mark.parametrize("used", [False, True], ids=["new", "used"])
def test_a_head_has_ten_seconds_in_all(sent: bytes, answer: bytes, used: bool) -> None:
    """A byte now and then gives no more time. A connection that was used may say nothing for longer."""
    with served() as (connection, loop):
        connection.connect()
        if used:
            ask(connection)
        connection.sock.sendall(sent)
        for seconds in (5, 4):
            turn(connection)
            move(loop, seconds)
            assert not closed(connection)
            connection.sock.sendall(sent[:1].lower())
        turn(connection)
        move(loop, 2)
        if used and not sent:
            assert ask(connection) == b"here"
        else:
            assert connection.sock.recv(1000).startswith(answer)
            eventually(lambda: closed(connection), what="the end of the connection")


def test_a_body_ends_in_time_even_if_nobody_reads_it() -> None:
    """The answer may have been sent long before. The application has had the time to answer 408."""
    with served() as (connection, loop):
        connection.connect()
        connection.sock.sendall(HALF_BODY.replace(b"POST", b"GET"))
        assert answered(connection.sock) == (200, b"here")
        for _ in range(2):
            turn(connection)
            move(loop, 12)
            assert not closed(connection)
            connection.sock.sendall(b"x")
        turn(connection)
        move(loop, 2)
        eventually(lambda: reset(connection), what="the end of the connection")


def test_a_slow_request_that_arrives_in_time_is_answered() -> None:
    """In a few pieces, twice on the same connection."""
    with served() as (connection, loop):
        connection.connect()
        for _ in range(2):
            for piece in (HALF_BODY[:20], HALF_BODY[20:], b"x" * 96):
                connection.sock.sendall(piece)
                turn(connection)
                move(loop, 8)
            assert answered(connection.sock) == (200, b"half" + b"x" * 96)


def test_a_client_that_reads_nothing_of_an_answer_is_cut_off() -> None:
    """So that no answer stays in memory for good."""
    with served() as (connection, loop):
        connection.connect()
        connection.sock.sendall(b"GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.sock.recv(17) == b"HTTP/1.1 200 OK\r\n"
        (protocol,) = loop.server.server_state.connections
        assert isinstance(protocol, H11Protocol)
        eventually(lambda: protocol.flow.write_paused, what="full buffers")
        move(loop, 31)
        eventually(protocol.transport.is_closing, what="the end of the connection")


def was_closed(connection: socket.socket) -> bool:
    """Wait until the server closes it, which resets it if something came that the server had not read."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def test_the_longest_idle_connection_makes_room_for_another() -> None:
    """Of the same address where that has its most, else of any. Those with a request stay."""
    with served(per_address=3, connections=4) as (connection, _loop), ExitStack() as stack:
        port = connection.port
        first, second = (stack.enter_context(client(port)) for _ in range(2))
        busy = stack.enter_context(client(port))
        first.sendall(HALF_HEAD)
        busy.sendall(HALF_BODY)
        assert ask(connection) == b"here"
        assert was_closed(first)
        other = stack.enter_context(client(port, "127.0.0.2"))
        another = stack.enter_context(client(port, "127.0.0.3"))
        assert was_closed(second)
        for each in (other, another):
            each.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert answered(each) == (200, b"here")
        busy.sendall(b"x" * 96)
        assert answered(busy)[0] == 200


def test_a_connection_for_which_nobody_can_make_room_is_refused() -> None:
    """With a 503 that says when to retry."""
    with served(per_address=2) as (connection, _loop), ExitStack() as stack:
        for _ in range(2):
            stack.enter_context(client(connection.port)).sendall(HALF_BODY)
        turn(connection)
        refused = stack.enter_context(client(connection.port))
        answer = refused.recv(1000)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1" in answer.lower()


def test_a_request_that_is_canceled_at_the_stop_leaves_no_traceback(caplog: pytest.LogCaptureFixture) -> None:
    """The log has the number of those that were canceled."""
    with served() as (connection, _loop):
        connection.request("GET", "/never")
        turn(connection)
    assert [record.getMessage() for record in caplog.records if record.exc_info] == []
    assert "Cancel 1 running task" in caplog.text


def test_a_request_that_cannot_be_parsed_gets_the_security_headers() -> None:
    """Also one whose head is too large."""
    for wrong in (b"GET\r\n\r\n", b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 5000):
        with served() as (connection, _loop), client(connection.port) as stranger:
            stranger.sendall(wrong)
            answer = stranger.recv(5000)
            assert answer.startswith(b"HTTP/1.1 400 ")
            assert b"frame-ancestors 'none'" in answer


@contextmanager
def client(port: int, host: str = "127.0.0.1") -> Iterator[socket.socket]:
    """A connection from this loopback address."""
    with socket.create_connection(("127.0.0.1", port), timeout=10, source_address=(host, 0)) as opened:
        yield opened


def move(loop: MovedLoop, seconds: float) -> None:
    """Move the loop's time, and return once it has run what is due."""
    loop.moved += seconds
    turned = threading.Event()
    loop.call_soon_threadsafe(loop.call_later, 0, turned.set)
    assert turned.wait(10)


def turn(connection: http.client.HTTPConnection) -> None:
    """Return once the server has read what was sent."""
    with client(connection.port, "127.0.0.9") as other:  # accepted and answered after what was sent before
        other.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert answered(other) == (200, b"here")


def answered(opened: socket.socket) -> tuple[int, bytes]:
    """The status and the body of the next answer."""
    answer = http.client.HTTPResponse(opened)
    answer.begin()
    return answer.status, answer.read()


def reset(connection: http.client.HTTPConnection) -> bool:
    """Whether the server has ended the connection, with or without a goodbye."""
    try:
        return closed(connection)
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("entry_point", ENTRY_POINTS, ids=["gateway", "embedded"])
def test_both_entry_points_serve_with_it(entry_point: Path) -> None:
    """Neither has a uvicorn of its own beside ``http_server``."""
    tree = ast.parse(entry_point.read_text())
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    called = {node.func.id for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)}
    assert "http_server" in called
    assert "uvicorn" not in imported


def test_a_server_keeps_connections_longer_than_uvicorns_default() -> None:
    server = http_server(Starlette(), shutdown_seconds=1)
    assert server.config.timeout_keep_alive == KEEP_ALIVE_SECONDS == 75
