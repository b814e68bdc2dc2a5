"""Protection against other sites: a browser adds the session's cookie to requests that another page makes, too.

``SameSite=Strict`` stops those of other hosts, but ports count as the same site. A request with the cookie must
therefore come from a page of this origin, which the browser states in ``Sec-Fetch-Site`` or ``Origin`` (Fetch
Standard).
"""

from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import Request

from services.gateway.http.errors import Forbidden, UnsupportedMediaType

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


def check_same_origin(request: Request, *, needed: bool = True) -> None:
    """Check that no page of another origin made the request, and that a form could not have sent its body.

    If proof is not ``needed``, a request without ``Sec-Fetch-Site`` and ``Origin`` passes: no browser sends such a
    POST. Raises Forbidden, and UnsupportedMediaType if a body is not JSON.
    """
    site = request.headers.get("Sec-Fetch-Site")
    origin = request.headers.get("Origin")
    is_safe = request.method in SAFE_METHODS
    if site is not None:
        proven = site == "same-origin" or (is_safe and site == "none")  # none: the user typed the address
    elif origin is not None:
        proven = _is_own(origin, request)
    else:
        proven = is_safe or not needed
    if not proven:
        raise Forbidden(
            "a request with the session cookie must come from this server's own page, with Sec-Fetch-Site: same-origin "
            "or an Origin that equals the Host; send the key's headers instead of the cookie"
        )
    if not is_safe and has_body(request.headers) and not is_json(request.headers.get("Content-Type", "")):
        raise UnsupportedMediaType("the body must be JSON; send it with Content-Type: application/json")


def _is_own(origin: str, request: Request) -> bool:
    """Return True if the origin is the host that was asked. Behind a proxy that ends TLS, the schemes differ."""
    try:
        given = urlsplit(origin)
    except ValueError:
        return False
    if given.scheme not in _DEFAULT_PORTS or (request.url.scheme == "https" != given.scheme):
        return False
    port = _DEFAULT_PORTS[given.scheme]
    host = request.headers.get("Host", "").lower().removesuffix(port)
    return bool(host) and given.netloc.lower().removesuffix(port) == host


def has_body(headers: Headers) -> bool:
    return "Transfer-Encoding" in headers or headers.get("Content-Length", "0") != "0"


def is_json(content_type: str) -> bool:
    """Return True for application/json, in UTF-8 if it names a character set."""
    media, _, parameters = content_type.lower().replace('"', "").replace(" ", "").partition(";")
    return media == "application/json" and parameters in {"", "charset=utf-8"}
