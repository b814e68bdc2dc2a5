"""``/api/session``: the browser session that a user of the page gets for an API key."""

from typing import Annotated

from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from typing_extensions import TypedDict

from services.gateway.http.auth import OPERATE, READ, Principal
from services.gateway.http.endpoints import Endpoint
from services.gateway.http.errors import Unauthorized
from services.gateway.http.rate_limit import verified
from services.gateway.http.requests import Gateway
from services.gateway.http.schemas import Query
from services.gateway.http.sessions import SESSION_LIFE
from shared.contracts.written import Printable


class SessionRequest(Query):
    """The key to open a session with."""

    key_id: Printable = Field(min_length=1, max_length=64)
    secret_key: Printable = Field(min_length=1, max_length=200)


class Session(TypedDict):
    """The key, account and scopes of the session. ``operator`` is true where the key may control jobs too."""

    key_id: str
    account_id: str
    scopes: list[str]
    operator: bool


async def post_session(gateway: Gateway, request: Request, body: SessionRequest) -> Annotated[Response, Session]:
    """Sign in: exchange a key for a session cookie, which scripts cannot read and other sites cannot send.

    The browser's former session ends. A key has at most 20 sessions. With the cookie every request must come from this
    server's own page: with `Sec-Fetch-Site: same-origin`, or an `Origin` that equals the `Host`, and a body with
    `Content-Type: application/json`.

    Raises Unauthorized where the key ID or the secret key is wrong.
    """
    principal = await verified(gateway.keys, request, body.key_id, body.secret_key)
    sessions, token, secure = gateway.keys.sessions, None, request.url.scheme == "https"
    if principal is not None:
        token = await run_in_threadpool(
            sessions.open, principal.key_id, principal.proof, request.cookies, gateway.context.clock()
        )
    if principal is None or token is None:
        raise Unauthorized("the key ID or the secret key is wrong")
    response = JSONResponse(_session(principal))
    response.set_cookie(
        sessions.cookie(secure=secure),
        token,
        max_age=int(SESSION_LIFE.total_seconds()),
        httponly=True,
        samesite="strict",
        secure=secure,
    )
    return response


async def get_session(principal: Principal) -> Session:
    """The key, account and scopes of the session."""
    return _session(principal)


async def delete_session(gateway: Gateway, request: Request) -> Annotated[Response, None]:
    """Sign out."""
    sessions, secure = gateway.keys.sessions, request.url.scheme == "https"
    await run_in_threadpool(sessions.close, request.cookies)
    response = Response(status_code=204)
    response.delete_cookie(sessions.cookie(secure=secure), secure=secure, httponly=True, samesite="strict")
    return response


def _session(principal: Principal) -> Session:
    return {
        "key_id": principal.key_id,
        "account_id": str(principal.account_id),
        "scopes": sorted(principal.scopes),
        "operator": principal.may(OPERATE),
    }


endpoints = (
    Endpoint("POST", "/api/session", post_session, scope=None, refusals=(401, 429)),
    Endpoint("GET", "/api/session", get_session, READ),
    Endpoint("DELETE", "/api/session", delete_session, READ, 204),
)
