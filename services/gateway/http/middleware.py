"""Middleware of every request: its path, its host, the time for its body, and the headers of its response."""

import asyncio
from collections.abc import Callable
from ipaddress import ip_address

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.gateway.http.errors import HeadTooLarge, Malformed, RequestRefused, RequestTimeout, refusal_response

HEADERS = {
    b"content-security-policy": b"default-src 'self'; frame-ancestors 'none'; base-uri 'none'",
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
}
NO_STORE = (b"cache-control", b"no-store")
#: A client sends about ten. The server bounds the size of all.
HEADERS_AT_MOST = 100
#: A load balancer asks these by any name.
OF_ANY_HOST = frozenset({"/healthz", "/livez", "/readyz"})


class SecurityHeaders:
    """Add headers to every response, also to errors. They stop a browser from doing more than the page needs.

    A response that a browser may keep has its own Cache-Control, and a self-contained page its own, stricter policy.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                given = message["headers"]
                own = {name.lower() for name, _ in given}
                ours = [header for header in (*HEADERS.items(), NO_STORE) if header[0] not in own]
                message["headers"] = [*given, *ours]
            await send(message)

        await self.app(scope, receive, send_with_headers)


class SingleSlash:
    """Read ``//v2/account`` and ``/v2/account/`` as ``/v2/account``: clients join a base URL and a path blindly."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (scope["path"].startswith("//") or scope["path"].endswith("/")):
            scope = {**scope, "path": "/" + scope["path"].strip("/")}
        await self.app(scope, receive, send)


class Doorman:
    """Refuse requests with too many headers, or for a host that ``is_allowed`` refuses."""

    def __init__(self, app: ASGIApp, is_allowed: Callable[[str], bool]) -> None:
        self.app = app
        self._is_allowed = is_allowed

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused: RequestRefused | None = None
        if scope["type"] == "http":
            host = host_of(Headers(scope=scope).get("host", ""))
            if len(scope["headers"]) > HEADERS_AT_MOST:
                refused = HeadTooLarge(f"send at most {HEADERS_AT_MOST} headers")
            elif scope["path"] not in OF_ANY_HOST and not self._is_allowed(host):
                refused = Malformed("the Host header names no host of this server; add it to PAPERPROFIT_ALLOWED_HOSTS")
        if refused is None:
            await self.app(scope, receive, send)
        else:
            await refusal_response(Request(scope), refused)(scope, receive, send)


def host_of(header: str) -> str:
    """Return the host of a Host header in lower case, without port, brackets and final dot."""
    host = header.strip().lower()
    host = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    return host.removesuffix(".")


def is_private_name(host: str) -> bool:
    """Return True for a host that no stranger can point at us by DNS: an address, a name without a dot, localhost."""
    try:
        ip_address(host)
    except ValueError:
        return "." not in host or host.endswith(".localhost")
    return True


class BodyDeadline:
    """Raise RequestTimeout from ``receive`` once the body has taken longer than ``seconds``, however steadily it comes.

    After the response has begun, the client counts as disconnected instead.
    """

    def __init__(self, app: ASGIApp, seconds: float) -> None:
        self.app = app
        self._seconds = seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        deadline = asyncio.get_running_loop().time() + self._seconds
        complete = answering = False

        async def receive_in_time() -> Message:
            nonlocal complete
            if complete:
                return await receive()
            try:
                async with asyncio.timeout_at(deadline):
                    message = await receive()
            except TimeoutError:
                if answering:
                    return {"type": "http.disconnect"}
                raise RequestTimeout(f"the body did not arrive within {self._seconds:g} seconds") from None
            complete = not message.get("more_body", False)
            return message

        async def send_noted(message: Message) -> None:
            nonlocal answering
            answering = True
            await send(message)

        if scope["type"] == "http":
            await self.app(scope, receive_in_time, send_noted)
        else:
            await self.app(scope, receive, send)
