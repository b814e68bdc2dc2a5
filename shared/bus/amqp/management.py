"""RabbitMQ's management API."""

import json
from base64 import b64encode
from dataclasses import dataclass
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote, unquote, urlsplit
from urllib.request import ProxyHandler, Request, build_opener

TIMEOUT_SECONDS = 10


class ManagementRefused(RuntimeError):
    """The management API refused a call. The message says why, and contains no password."""


@dataclass(frozen=True)
class Management:
    """A client of the API at ``url``, ``http://user:password@host:port``, which is never shown."""

    url: str

    def __repr__(self) -> str:
        return f"Management({self.address})"

    @property
    def address(self) -> str:
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.hostname}:{parts.port or 15672}"

    def call(self, method: str, path: str, body: object = None) -> Any:
        """Make one call. Raises ManagementRefused for an answer of 4xx or 5xx, OSError where nothing answers."""
        parts = urlsplit(self.url)
        credentials = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
        headers = {
            "Content-Type": "application/json",
            "Authorization": f"Basic {b64encode(credentials.encode()).decode()}",
        }
        data = None if body is None else json.dumps(body).encode()
        request = Request(f"{self.address}/api/{path}", data, headers, method=method)  # noqa: S310 - our own setting
        try:
            with build_opener(ProxyHandler({})).open(request, timeout=TIMEOUT_SECONDS) as response:
                answer = response.read()
        except HTTPError as error:
            reason = error.read().decode(errors="replace")[:500]
            raise ManagementRefused(f"{method} {path}: {error.code} {reason}") from None
        return json.loads(answer) if answer else None


def quoted(name: str) -> str:
    """A name as one part of a path."""
    return quote(name, safe="")
