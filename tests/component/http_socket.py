"""A real server for an application, and plain sockets that talk to it as no client library would."""

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from starlette.applications import Starlette

from services.gateway.serving import http_server
from tests.support import eventually


@contextmanager
def served(app: Starlette, **options: Any) -> Iterator[int]:
    """Serve the application as both entry points do, and yield the port."""
    server = http_server(app, shutdown_seconds=1, **options)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, args=[[listening]])
        thread.start()
        try:
            eventually(lambda: server.started, what="the server's start")
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def connected(port: int, host: str = "127.0.0.1") -> Iterator[socket.socket]:
    """A connection from this loopback address."""
    with socket.create_connection(("127.0.0.1", port), timeout=20, source_address=(host, 0)) as client:
        yield client


def received(client: socket.socket) -> bytes:
    """Return all bytes until the server closes the connection. Raises TimeoutError if it does not."""
    whole = b""
    try:
        while chunk := client.recv(65536):
            whole += chunk
    except ConnectionResetError:
        pass
    return whole


def ask(
    port: int, method: str, path: str, headers: dict[str, str], *, body: Any = None, host: str = "127.0.0.1"
) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers and body of one request from this loopback address."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20, source_address=(host, 0))
    try:
        given = {**headers, **({} if body is None else {"Content-Type": "application/json"})}
        connection.request(method, path, None if body is None else json.dumps(body), given)
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()
