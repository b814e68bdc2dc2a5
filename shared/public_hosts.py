"""Connections to hosts that somebody else chose: only to addresses of the internet, and not for ever.

A name is looked up once, and the connection goes to the address that was checked. A name that is looked up again may
lead into our network by then.
"""

import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPConnection
from ipaddress import IPv6Address, IPv6Network, ip_address
from typing import Self

_NAT64 = IPv6Network("64:ff9b::/96")
#: Host and port → its addresses. Raises OSError.
Resolve = Callable[[str, int], list[str]]


def addresses_of(host: str, port: int) -> list[str]:
    return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def is_public(address: str) -> bool:
    """Tell whether the address is one of the internet, and does not stand for another one."""
    ip = ip_address(address.partition("%")[0])
    if isinstance(ip, IPv6Address) and (ip.ipv4_mapped or ip.sixtofour or ip.teredo or ip in _NAT64):
        return False
    return ip.is_global and not ip.is_multicast


class Deadline:
    """Shuts the socket when the time is up, whatever it waits for: a read by read timeout would allow any number."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.passed = threading.Event()
        self._socket: socket.socket | None = None
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True

    def shuts(self, used: socket.socket) -> None:
        self._socket = used
        if self.passed.is_set():
            self._end()

    def __enter__(self) -> Self:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()

    def _end(self) -> None:
        self.passed.set()
        if self._socket is not None:
            with suppress(OSError):
                self._socket.shutdown(socket.SHUT_RDWR)


class CheckedConnection(HTTPConnection):
    """A connection to an address that was looked up before, which the deadline may shut."""

    def __init__(self, host: str, port: int, address: str, deadline: Deadline, *, secure: bool) -> None:
        super().__init__(host, port, timeout=deadline.seconds)
        self._address = address
        self._secure = secure
        self._deadline = deadline

    def connect(self) -> None:
        self.sock = socket.create_connection((self._address, self.port), self.timeout)
        if self._secure:
            context = ssl.create_default_context()
            self.sock = context.wrap_socket(self.sock, server_hostname=self.host, do_handshake_on_connect=False)
        self._deadline.shuts(self.sock)
        if isinstance(self.sock, ssl.SSLSocket):
            self.sock.do_handshake()
