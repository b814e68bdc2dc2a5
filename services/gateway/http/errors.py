"""Errors that end a request with a 4xx or 5xx response.

    RequestRefused
    ├── Unauthorized     401  no key, or a wrong one
    ├── Forbidden        403  the key lacks the scope, or the account's state or limits forbid it
    ├── NotFound         404
    ├── MethodNotAllowed 405
    ├── Conflict         409  the resource is in another state
    ├── BodyTooLarge     413
    ├── NotReady         503  the database or a service is down for the moment
    ├── Malformed        400  the body is not JSON
    └── Invalid          422  a field is wrong, and ``field`` names it

Under ``/v2`` the body is Alpaca's ``{"code", "message"}``, elsewhere problem+json (RFC 9457).
"""

import re
from typing import ClassVar

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from typing_extensions import TypedDict  # pydantic cannot read the standard one before Python 3.12


class AlpacaError(TypedDict):
    """The error body under ``/v2``."""

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
    """A request that cannot be served. ``message`` is for the client."""

    status: ClassVar[int]
    code: ClassVar[int]
    title: ClassVar[str]

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.field = field


class Unauthorized(RequestRefused):
    status, code, title = 401, 40110000, "Unauthorized"


class Forbidden(RequestRefused):
    status, code, title = 403, 40310000, "Forbidden"


class NotFound(RequestRefused):
    status, code, title = 404, 40410000, "Not found"


class MethodNotAllowed(RequestRefused):
    status, code, title = 405, 40510000, "Method not allowed"


class Conflict(RequestRefused):
    status, code, title = 409, 40910000, "Conflict"


class BodyTooLarge(RequestRefused):
    status, code, title = 413, 41310000, "Body too large"


class Malformed(RequestRefused):
    status, code, title = 400, 40010000, "Malformed request"


class Invalid(RequestRefused):
    status, code, title = 422, 42210000, "Invalid request"


class NotReady(RequestRefused):
    status, code, title = 503, 50310000, "Not ready"


def invalid_fields(error: ValidationError) -> Invalid:
    """Return the error for the first wrong field, with its name and the reason."""
    first = error.errors(include_url=False, include_context=False)[0]
    message = first["msg"].removeprefix("Value error, ")
    if not first["loc"] and first["type"] == "value_error":  # a check across fields names one of them first
        return Invalid(message, field=re.split(r"[: ]", message, maxsplit=1)[0])
    field = ".".join(str(part) for part in first["loc"]) or "body"
    if first["type"] == "extra_forbidden":
        message = "is not supported"
    return Invalid(f"{field}: {message}", field=field)


def refusal_response(request: Request, error: RequestRefused) -> Response:
    """Return the response for the error, in the shape of the API that was called."""
    if request.url.path.startswith("/v2"):
        return JSONResponse(alpaca_error(error), error.status)
    problem: Problem = {
        "type": "about:blank",
        "title": error.title,
        "status": error.status,
        "detail": error.message,
    }
    if error.field:
        problem["field"] = error.field
    return JSONResponse(problem, error.status, media_type="application/problem+json")


def alpaca_error(error: RequestRefused) -> AlpacaError:
    """Return the error as Alpaca's JSON."""
    return {"code": error.code, "message": error.message}
