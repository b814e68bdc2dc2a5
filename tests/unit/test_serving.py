"""How long the HTTP server keeps a connection that nobody uses, in both ways to run it."""

import ast
import asyncio
import http.client
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from services.gateway.serving import KEEP_ALIVE_SECONDS, http_server
from shared.storage.migrate import ROOT
from tests.support import eventually

ENTRY_POINTS = [ROOT / "services" / "gateway" / "__main__.py", ROOT / "embedded" / "http.py"]


class MovedLoop(asyncio.SelectorEventLoop):
    """An event loop whose time a test can move on."""

    moved = 0.0

    def time(self) -> float:
        return super().time() + self.moved


@contextmanager
def served() -> Iterator[tuple[http.client.HTTPConnection, MovedLoop]]:
    """A client's connection to a real server, and the server's event loop."""
    app = Starlette(routes=[Route("/", lambda _request: PlainTextResponse("here"))])
    loop, server = MovedLoop(), http_server(app, shutdown_seconds=1)
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
    finally:
        connection.sock.settimeout(10)


def test_a_connection_is_kept_for_75_seconds_after_a_request() -> None:
    """A request a moment before the end is answered on the same connection, and begins the time anew."""
    with served() as (connection, loop):
        assert ask(connection) == b"here"
        first = connection.sock
        for _ in range(2):
            loop.moved += 74
            turned = threading.Event()
            loop.call_soon_threadsafe(loop.call_later, 0, turned.set)
            assert turned.wait(10)
            assert not closed(connection)
            assert ask(connection) == b"here"
            assert connection.sock is first
        loop.moved += 76
        eventually(lambda: closed(connection), what="the end of the connection")


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
