"""What a client is told when a request cannot be served.

    RequestRefused
    ├── Unauthorized     401  no key, or a wrong one
    ├── Forbidden        403  the key may not do this, or the account cannot bear it
    ├── NotFound         404
    ├── MethodNotAllowed 405
    ├── Conflict         409  it is past that state
    ├── BodyTooLarge     413
    ├── NotReady         503  the database or a service is away for the moment
    ├── Malformed        400  the body is not JSON
    └── Invalid          422  a field is wrong; ``field`` names it

On ``/v2`` they are Alpaca's ``{"code", "message"}``, elsewhere problem+json (RFC 9457).
"""

import re
from typing import ClassVar

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response


class RequestRefused(Exception):
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
    """The first wrong field, named, with what is wrong about it."""
    first = error.errors(include_url=False, include_context=False)[0]
    message = first["msg"].removeprefix("Value error, ")
    if not first["loc"] and first["type"] == "value_error":  # of the fields together: it begins with one's name
        return Invalid(message, field=re.split(r"[: ]", message, maxsplit=1)[0])
    field = ".".join(str(part) for part in first["loc"]) or "body"
    if first["type"] == "extra_forbidden":
        message = "is not supported"
    return Invalid(f"{field}: {message}", field=field)


def refusal_response(request: Request, refused: RequestRefused) -> Response:
    if request.url.path.startswith("/v2"):
        return JSONResponse({"code": refused.code, "message": refused.message}, refused.status)
    problem = {
        "type": "about:blank",
        "title": refused.title,
        "status": refused.status,
        "detail": refused.message,
    }
    if refused.field:
        problem["field"] = refused.field
    return JSONResponse(problem, refused.status, media_type="application/problem+json")
