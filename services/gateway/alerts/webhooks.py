"""Post JSON to an address that an account chose. It must not lead into our network.

Only https on a public address is allowed, and no redirect is followed. The name is looked up once, and the connection
goes to the address that was checked.
"""

import json
import socket
import ssl
from collections.abc import Callable, Mapping
from http.client import HTTPException, HTTPSConnection
from ipaddress import IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

SECONDS = 10.0
_NAT64 = IPv6Network("64:ff9b::/96")
#: Host and port → its addresses. Raises OSError.
Resolve = Callable[[str, int], list[str]]


class UnusableUrl(ValueError):
    """The address must not be posted to. The message shows no more than its host."""


class _Connection(HTTPSConnection):
    """A connection to an address that was looked up before."""

    def __init__(self, host: str, port: int, address: str) -> None:
        super().__init__(host, port, timeout=SECONDS)
        self._address = address

    def connect(self) -> None:
        plain = socket.create_connection((self._address, self.port), self.timeout)
        self.sock = ssl.create_default_context().wrap_socket(plain, server_hostname=self.host)


def addresses_of(host: str, port: int) -> list[str]:
    return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def is_public(address: str) -> bool:
    """Tell whether the address is one of the internet, and does not stand for another one."""
    ip = ip_address(address.partition("%")[0])
    if isinstance(ip, IPv6Address) and (ip.ipv4_mapped or ip.sixtofour or ip.teredo or ip in _NAT64):
        return False
    return ip.is_global and not ip.is_multicast


def parts_of(url: str) -> tuple[str, int, str]:
    """Return host, port and path of the address. Raises UnusableUrl."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port or 443
    except ValueError:
        raise UnusableUrl("the address cannot be read") from None
    if parts.scheme != "https" or not host or parts.username is not None:
        raise UnusableUrl("give an https address without a user name, such as https://hooks.example.com/alerts")
    return host, port, (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def check(url: str, resolve: Resolve = addresses_of) -> str:
    """Return the public address that the URL leads to. Raises UnusableUrl."""
    host, port, _ = parts_of(url)
    try:
        found = resolve(host, port)
    except (OSError, UnicodeError):
        raise UnusableUrl(f"{host} cannot be looked up") from None
    if not found or not all(is_public(each) for each in found):
        raise UnusableUrl(f"{host} is not a public address")
    return found[0]


def post(url: str, body: Mapping[str, str], resolve: Resolve = addresses_of) -> str | None:
    """Post the body. Return None if the host took it, otherwise the reason, without the path."""
    try:
        address = check(url, resolve)
    except UnusableUrl as error:
        return str(error)
    host, port, path = parts_of(url)
    connection = _Connection(host, port, address)
    try:
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        status = connection.getresponse().status
    except (OSError, HTTPException, ValueError) as error:
        return f"{host} does not answer: {type(error).__name__}"
    finally:
        connection.close()
    return None if 200 <= status < 300 else f"{host} answers with status {status}"
