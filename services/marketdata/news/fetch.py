"""Fetch a page from an address that an operator configured, and follow redirects only to public addresses.

The address itself may be private, such as that of a reader in the same network. Somebody else chooses the target of a
redirect, which must not lead into our network.
"""

from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from urllib.parse import urljoin, urlsplit

from shared.public_hosts import CheckedConnection, Deadline, Resolve, addresses_of, is_public

MOST_BYTES = 2_000_000
MOST_REDIRECTS = 3
#: A fetch with all its redirects ends after this time.
SECONDS = 15.0
_REDIRECTS = {301, 302, 303, 307, 308}
_HEADERS = {
    "User-Agent": "PaperProfit (news reader)",
    "Accept": "application/rss+xml, application/atom+xml, application/xml;q=0.9, text/xml;q=0.8, */*;q=0.1",
    "Accept-Encoding": "identity",
    "Connection": "close",
}


class FetchFailed(Exception):
    """The page was not fetched. The message says why, without the address's query, which may hold a key."""


class HostDown(FetchFailed):
    """The host does not answer in time, or says that it cannot."""


@dataclass(frozen=True)
class Page:
    body: bytes
    content_type: str
    url: str


@dataclass(frozen=True)
class _Target:
    """The parts of an address. ``place`` is what a redirect may return to."""

    url: str
    scheme: str
    host: str
    port: int
    path: str

    @property
    def place(self) -> tuple[str, int]:
        return self.host, self.port


def fetch(url: str, *, seconds: float = SECONDS, resolve: Resolve = addresses_of) -> Page:
    """Return the page. Raises FetchFailed."""
    target = first = _target(url)
    with Deadline(seconds) as deadline:
        for _ in range(MOST_REDIRECTS + 1):
            try:
                answer = _ask(target, deadline, resolve, private=target.place == first.place)
            except (OSError, HTTPException, ValueError) as error:
                if deadline.passed.is_set() or isinstance(error, TimeoutError):
                    raise HostDown(f"{target.host} took longer than {seconds:g} seconds") from error
                raise HostDown(f"{target.host} does not answer: {type(error).__name__}") from error
            if isinstance(answer, Page):
                return answer
            target = _target(urljoin(target.url, answer))
    raise FetchFailed(f"{first.host} redirects more than {MOST_REDIRECTS} times")


def _ask(target: _Target, deadline: Deadline, resolve: Resolve, *, private: bool) -> Page | str:
    """Return the page, or where it redirects to. Raises FetchFailed, OSError, HTTPException and ValueError."""
    found = resolve(target.host, target.port)
    if not found or not (private or all(is_public(each) for each in found)):
        raise FetchFailed(f"a redirect to {target.host} is refused, as that is not a public address")
    connection = CheckedConnection(target.host, target.port, found[0], deadline, secure=target.scheme == "https")
    try:
        connection.request("GET", target.path, headers=_HEADERS)
        response = connection.getresponse()
        location = response.getheader("Location")
        if response.status in _REDIRECTS and location:
            return location
        if response.status != 200:
            failed = HostDown if response.status >= 500 or response.status == 429 else FetchFailed
            raise failed(f"{target.host} answers with status {response.status}; check the feed's address")
        body = _read(response, target)
        if deadline.passed.is_set():
            raise HostDown(f"{target.host} took longer than {deadline.seconds:g} seconds")
        return Page(body, response.getheader("Content-Type") or "", target.url)
    finally:
        connection.close()


def _read(response: HTTPResponse, target: _Target) -> bytes:
    body = response.read(MOST_BYTES + 1)
    if len(body) > MOST_BYTES:
        raise FetchFailed(f"{target.host} answers with more than {MOST_BYTES} bytes")
    return body


def _target(url: str) -> _Target:
    """Return the parts of the address. Raises FetchFailed."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}.get(parts.scheme, 0)
    except ValueError:
        raise FetchFailed("the address cannot be read") from None
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username is not None:
        raise FetchFailed(f"an address with {parts.scheme or 'no scheme'} is refused: only http and https are fetched")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return _Target(url, parts.scheme, parts.hostname, port, path)
