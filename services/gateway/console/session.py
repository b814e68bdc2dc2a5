"""``/api/session``: the browser session that a user of the page gets for an API key."""

from typing import Annotated

from pydantic import Field
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from typing_extensions import TypedDict

from services.gateway.http.auth import OPERATE, SESSION_LIFE, TRADE, Principal
from services.gateway.http.endpoints import Endpoint
from services.gateway.http.errors import Unauthorized
from services.gateway.http.rate_limit import verified
from services.gateway.http.requests import COOKIE, Gateway
from services.gateway.http.schemas import Printable, Query


class SessionRequest(Query):
    """The key to open a session with."""

    key_id: Printable = Field(min_length=1, max_length=64)
    secret_key: Printable = Field(min_length=1, max_length=200)


class Session(TypedDict):
    """The key and account of the session. ``operator`` is true where the key may control jobs too."""

    key_id: str
    account_id: str
    operator: bool


async def post_session(gateway: Gateway, request: Request, body: SessionRequest) -> Annotated[Response, Session]:
    """Sign in: exchange a key for a session cookie, which scripts cannot read and other sites cannot send.

    Raises Unauthorized where the key ID or the secret key is wrong.
    """
    principal = await verified(gateway.keys, request, body.key_id, body.secret_key)
    if principal is None:
        raise Unauthorized("the key ID or the secret key is wrong")
    token = await run_in_threadpool(gateway.keys.open_session, principal, gateway.context.clock())
    response = JSONResponse(_session(principal))
    response.set_cookie(
        COOKIE,
        token,
        max_age=int(SESSION_LIFE.total_seconds()),
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
    return response


async def get_session(principal: Principal) -> Session:
    """The key and account of the session."""
    return _session(principal)


async def delete_session(gateway: Gateway, request: Request) -> Annotated[Response, None]:
    """Sign out."""
    await run_in_threadpool(gateway.keys.close_session, request.cookies.get(COOKIE, ""))
    response = Response(status_code=204)
    response.delete_cookie(COOKIE)
    return response


def _session(principal: Principal) -> Session:
    return {
        "key_id": principal.key_id,
        "account_id": str(principal.account_id),
        "operator": OPERATE in principal.scopes,
    }


endpoints = (
    Endpoint("POST", "/api/session", post_session, scope=None, refusals=(401, 429)),
    Endpoint("GET", "/api/session", get_session, TRADE),
    Endpoint("DELETE", "/api/session", delete_session, TRADE, 204),
)
