"""HTTP of the embedded run: the socket, bound before anything else starts, and Uvicorn on a thread of its own."""

import re
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from starlette.applications import Starlette

from services.gateway.serving import http_server

START_SECONDS = 10


class PortUnusable(Exception):
    """The port cannot be listened on. The message says what to do."""


def listen(port: str) -> socket.socket:
    """A socket bound to the port on loopback. Raises PortUnusable where that is no port or is in use."""
    if not re.fullmatch("[0-9]{1,5}", port) or int(port) > 65535:
        raise PortUnusable(f"PORT: {port[:20]!r} is not a port; choose one from 0 to 65535, 0 for any free one")
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(("127.0.0.1", int(port)))
    except OSError as error:
        listening.close()
        raise PortUnusable(f"port {port}: {error.strerror}; choose another one with PORT=") from None
    return listening


@contextmanager
def serving(app: Starlette, listening: socket.socket, *, trusted_proxies: Sequence[str] = ()) -> Iterator[None]:
    """Serve on another thread, because the main thread belongs to the scheduler and its SIGALRM."""
    server = http_server(app, shutdown_seconds=1, trusted_proxies=trusted_proxies)
    thread = threading.Thread(target=server.run, args=([listening],), name="http")
    thread.start()
    try:
        deadline = time.monotonic() + START_SECONDS
        while not server.started and thread.is_alive() and time.monotonic() < deadline:
            time.sleep(0.01)
        yield
    finally:
        server.should_exit = True
        thread.join(timeout=3)
