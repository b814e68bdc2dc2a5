"""Post JSON to an address that an account chose. It must not lead into our network.

Only https on a public address is allowed, and no redirect is followed.
"""

import json
from collections.abc import Mapping
from http.client import HTTPException
from urllib.parse import urlsplit

from shared.public_hosts import CheckedConnection, Deadline, Resolve, addresses_of, is_public

#: A host that takes longer has not taken the message.
SECONDS = 10.0


class UnusableUrl(ValueError):
    """The address must not be posted to. The message shows no more than its host."""


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
    with Deadline(SECONDS) as deadline:
        connection = CheckedConnection(host, port, address, deadline, secure=True)
        try:
            connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            status = connection.getresponse().status
        except (OSError, HTTPException, ValueError) as error:
            return f"{host} does not answer: {type(error).__name__}"
        finally:
            connection.close()
    return None if 200 <= status < 300 else f"{host} answers with status {status}"
