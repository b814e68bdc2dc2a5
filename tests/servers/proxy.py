"""A TCP proxy between a client and a server, which cuts connections, refuses new ones, and drops packets.

A proxy that only stops reading is no black hole: its kernel goes on acknowledging, so neither keepalives nor
TCP_USER_TIMEOUT find anything. Here a packet filter on the proxy's own sockets drops all that arrives before the kernel
sees it, SYNs and keepalive probes too (Linux, SO_ATTACH_FILTER of socket(7)). It takes no privileges.
"""

import contextlib
import ctypes
import socket
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit, urlunsplit

CHUNK_BYTES = 65536
#: Linux's numbers of the socket options, and a filter of one instruction that passes on 0 bytes (linux/filter.h).
SO_ATTACH_FILTER, SO_DETACH_FILTER = 26, 27
_DROP_ALL = ctypes.create_string_buffer(struct.pack("HBBI", 0x06, 0, 0, 0), 8)
DROP_ALL = struct.pack("HP", 1, ctypes.addressof(_DROP_ALL))


class Proxy:
    """A proxy that forwards to ``address``. All methods may be called from any thread."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._refusing = False
        self._dropping = False
        self._closed = False
        self._thread = threading.Thread(target=self._accept, name="proxy", daemon=True)
        self._thread.start()

    def through(self, url: str) -> str:
        """The same URL with the address of this proxy."""
        parts = urlsplit(url)
        user, at, _ = parts.netloc.rpartition("@")
        return urlunsplit(parts._replace(netloc=f"{user}{at}127.0.0.1:{self.port}"))

    @property
    def connections(self) -> int:
        with self._lock:
            return len(self._open) // 2

    def cut(self) -> None:
        """Close every connection at once."""
        with self._lock:
            ending, self._open = self._open, set()
        for each in ending:
            _end(each)

    def refuse(self) -> None:
        """Behave like a server that is down: close all connections and refuse new ones."""
        with self._lock:
            self._refusing = True
        self.cut()

    def drop(self) -> None:
        """Behave like a machine that vanished: nothing that is sent from now on is answered, on either side."""
        with self._lock:
            self._dropping = True
            for each in (self._listening, *self._open):
                _drop(each)

    def accept(self) -> None:
        """Let connections and packets through again. Connections that one end has given up are found, and closed."""
        with self._lock:
            self._refusing = False
            if not self._dropping:
                return
            self._dropping = False
            for each in (self._listening, *self._open):
                each.setsockopt(socket.SOL_SOCKET, SO_DETACH_FILTER, 0)
            for each in self._open:
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1)
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)  # an end may give up after the first probe
                each.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    def close(self) -> None:
        self._closed = True
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join()
        self.cut()

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            self._connect(client)

    def _connect(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(self._address)
        except OSError:
            client.close()
            return
        with self._lock:
            refused = self._refusing
            if not refused:
                self._open |= {client, server}
            if self._dropping:  # the connection was made just before
                _drop(client)
                _drop(server)
        if refused:
            _end(client)
            _end(server)
            return
        for source, target in ((client, server), (server, client)):
            threading.Thread(target=self._forward, args=(source, target), daemon=True).start()

    def _forward(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(CHUNK_BYTES):
                target.sendall(chunk)
        with self._lock:
            self._open -= {source, target}
        _end(source)
        _end(target)


def _drop(each: socket.socket) -> None:
    each.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 0)
    each.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, DROP_ALL)


def _end(each: socket.socket) -> None:
    with contextlib.suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
    each.close()


@contextmanager
def proxy_to(url: str) -> Iterator[Proxy]:
    """A proxy in front of the server that the URL names."""
    parts = urlsplit(url)
    proxy = Proxy((parts.hostname or "127.0.0.1", parts.port or 5672))
    try:
        yield proxy
    finally:
        proxy.close()
