"""Errors that end a request with a 4xx or 5xx response.

    RequestRefused
    ├── Unauthorized     401  no key, or a wrong one
    ├── Forbidden        403  the key lacks the scope, or the account's state or limits forbid it
    ├── NotFound         404
    ├── MethodNotAllowed 405
    ├── NotAcceptable    406  the client takes none of the media types that there are
    ├── RequestTimeout   408  the body did not arrive in time
    ├── Conflict         409  the resource is in another state
    ├── BodyTooLarge     413
    ├── UnsupportedMediaType 415  the body of a browser's request is not declared as JSON
    ├── TooManyRequests  429  too many wrong keys or open streams
    ├── HeadTooLarge     431  too many headers
    ├── Crashed          500  a defect of ours; the log has the details
    ├── NotReady         503  the database or a service is down for the moment
    ├── Malformed        400  the body is not JSON
    └── Invalid          422  a field is wrong, and ``field`` names it

Under a path of Alpaca's, such as ``/v2``, the body is Alpaca's ``{"code", "message"}``. Elsewhere it is problem+json
(RFC 9457).
"""

import re
from collections.abc import Mapping
from math import ceil
from typing import ClassVar, cast

from pydantic import ConfigDict, ValidationError, with_config
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from typing_extensions import TypedDict  # pydantic cannot read the standard one before Python 3.12

from shared.contracts.base import plain_message

#: The beginning of the paths that Alpaca's clients know: /v2, /v1beta1, /v3, /stream. Own paths begin with /api.
_ALPACA_PATH = re.compile(r"/(v\d|stream\b)")
#: Alpaca's code for a field that is missing or has been used, beside that of its status.
FIELD_CODE = 40010001
#: Alpaca's text about a price with more decimals than any tick has (SEC Rule 612).
SUB_PENNY = "sub-penny increment does not fulfill minimum pricing criteria"

#: The characters of a name or a reason that an error repeats.
SHOWN = 500


@with_config(ConfigDict(extra="allow"))
class AlpacaError(TypedDict):
    """The error body under ``/v2``. It may have more fields, with the figures behind the error as strings."""

    code: int
    message: str


class Problem(TypedDict, total=False):
    """The error body under ``/api``, as RFC 9457 defines it. ``field`` names the wrong field, if there is one."""

    type: str
    title: str
    status: int
    detail: str
    field: str


class RequestRefused(Exception):
    """A request that cannot be served. ``message`` is for the client.

    ``code`` is Alpaca's, by default that of the status. ``details`` are the figures behind the error. ``headers`` are
    those of the response.
    """

    status: ClassVar[int]
    code: int
    title: ClassVar[str]
    headers: Mapping[str, str] = {}

    def __init__(
        self,
        message: str,
        *,
        field: str | None = None,
        code: int | None = None,
        details: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.field = field
        self.code = code or type(self).code
        self.details = details or {}
        self.headers = headers or type(self).headers


class Unauthorized(RequestRefused):
    status, code, title = 401, 40110000, "Unauthorized"
    #: Not Basic, for which a browser would open a dialog over the page. Clients with Basic send it unasked.
    headers: Mapping[str, str] = {"WWW-Authenticate": 'APCA realm="PaperProfit"'}


class Forbidden(RequestRefused):
    status, code, title = 403, 40310000, "Forbidden"


class NotFound(RequestRefused):
    status, code, title = 404, 40410000, "Not found"


class MethodNotAllowed(RequestRefused):
    status, code, title = 405, 40510000, "Method not allowed"


class NotAcceptable(RequestRefused):
    status, code, title = 406, 40610000, "Not acceptable"


class RequestTimeout(RequestRefused):
    status, code, title = 408, 40810000, "Request timeout"
    headers: Mapping[str, str] = {"Connection": "close"}  # the rest of the body may still come


class Conflict(RequestRefused):
    status, code, title = 409, 40910000, "Conflict"


class BodyTooLarge(RequestRefused):
    status, code, title = 413, 41310000, "Body too large"


class UnsupportedMediaType(RequestRefused):
    status, code, title = 415, 41510000, "Unsupported media type"


class Malformed(RequestRefused):
    status, code, title = 400, 40010000, "Malformed request"


class Invalid(RequestRefused):
    status, code, title = 422, 42210000, "Invalid request"


class TooManyRequests(RequestRefused):
    """``retry_after`` is in seconds."""

    status, code, title = 429, 42910000, "Too many requests"

    def __init__(self, message: str, *, retry_after: float) -> None:
        super().__init__(message, headers={"Retry-After": str(max(1, ceil(retry_after)))})


class HeadTooLarge(RequestRefused):
    status, code, title = 431, 43110000, "Request header fields too large"


class Crashed(RequestRefused):
    status, code, title = 500, 50010000, "Internal server error"


class NotReady(RequestRefused):
    status, code, title = 503, 50310000, "Not ready"


def invalid_fields(error: ValidationError) -> Invalid:
    """Return the error for the first wrong field, with its name and the reason. Missing fields come last."""
    errors = error.errors(include_url=False, include_context=False)
    first = next((each for each in errors if each["type"] != "missing"), errors[0])
    message = plain_message(first["msg"])[:SHOWN]
    if not first["loc"] and first["type"] == "value_error":  # a check across fields names one of them first
        return Invalid(message, field=re.split(r"[: ]", message, maxsplit=1)[0])
    field = ".".join(str(part) for part in first["loc"])[:SHOWN] or "body"
    if first["type"] == "decimal_max_places" and field.endswith("_price"):
        return Invalid(f"invalid {field} {first['input']}. {SUB_PENNY}", field=field)
    if first["type"] == "extra_forbidden":
        message = "is not supported"
    return Invalid(f"{field}: {message}", field=field)


def refusal_response(request: Request, error: RequestRefused) -> Response:
    """Return the response for the error, in the shape of the API that was called."""
    if is_alpaca_path(request.url.path):
        return JSONResponse(alpaca_error(error), error.status, error.headers)
    return JSONResponse(problem(error), error.status, error.headers, media_type="application/problem+json")


def problem(error: RequestRefused) -> Problem:
    """Return the error as a problem (RFC 9457)."""
    body: Problem = {
        "type": "about:blank",
        "title": error.title,
        "status": error.status,
        "detail": error.message,
    }
    if error.field:
        body["field"] = error.field
    return body


def is_alpaca_path(path: str) -> bool:
    """Return True if the path has the shape of Alpaca's."""
    return _ALPACA_PATH.match(path) is not None


def alpaca_error(error: RequestRefused) -> AlpacaError:
    """Return the error as Alpaca's JSON."""
    body: AlpacaError = {"code": error.code, "message": error.message}
    return cast("AlpacaError", {**error.details, **body})
