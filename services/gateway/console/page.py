"""The page at ``/``: its files, the session that its key is traded for, and its live stream."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated, Any

from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles
from typing_extensions import TypedDict

from services.gateway.http.auth import OPERATE, SESSION_LIFE, TRADE, Principal
from services.gateway.http.endpoints import Endpoint
from services.gateway.http.errors import Unauthorized
from services.gateway.http.requests import COOKIE, Gateway, read
from services.gateway.instruments import halts_api
from services.gateway.operations.jobs_api import status_json
from services.gateway.streams.hub import Stream, wait_briefly
from services.gateway.trading import account_queries, order_queries, submissions
from services.gateway.trading.requests import OrderQuery, SessionRequest
from services.gateway.trading.serializers import account_json, order_json, position_json, price_json

STATIC = Path(__file__).parent / "static"
#: Changes are gathered for this long before they are sent, and a quiet stream pings this often, in seconds.
GATHER_SECONDS = 0.25
PING_SECONDS = 5.0
JOBS_SECONDS = 2.0


async def get_page(_request: Request) -> Response:
    return FileResponse(STATIC / "index.html")


class Session(TypedDict):
    """Who is signed in; ``operator`` says whether the jobs may be steered too."""

    key_id: str
    account_id: str
    operator: bool


async def post_session(gateway: Gateway, request: Request, body: SessionRequest) -> Annotated[Response, Session]:
    """Trade a key for a session cookie, which scripts cannot read and other sites cannot send."""
    principal = await run_in_threadpool(gateway.keys.verify, body.key_id, body.secret_key)
    if principal is None:
        raise Unauthorized("the key id or the secret key is wrong")
    token = await run_in_threadpool(gateway.keys.open_session, principal, gateway.context.clock())
    response = JSONResponse(_session_json(principal))
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
    """Who is signed in."""
    return _session_json(principal)


async def delete_session(gateway: Gateway, request: Request) -> Annotated[Response, None]:
    """Sign out."""
    await run_in_threadpool(gateway.keys.close_session, request.cookies.get(COOKIE, ""))
    response = Response(status_code=204)
    response.delete_cookie(COOKIE)
    return response


def _session_json(principal: Principal) -> Session:
    operator = OPERATE in principal.scopes
    return {"key_id": principal.key_id, "account_id": str(principal.account_id), "operator": operator}


async def get_stream(gateway: Gateway, principal: Principal) -> Annotated[Response, str]:
    """Server-sent events: prices, halts, account, positions, orders and, for operators, jobs, whenever they change."""
    return EventSourceResponse(_events(gateway, principal), ping=3600)


async def _events(gateway: Gateway, principal: Principal) -> AsyncIterator[ServerSentEvent]:
    """A snapshot of every part, then each part again whenever it changed."""
    with gateway.live.stream(principal.account_id) as stream:
        yield _event("prices", {"prices": [price_json(row) for row in await read(gateway, submissions.prices)]})
        stream.note({"halts", "account", "positions", "orders"})
        jobs = asyncio.create_task(_note_jobs(stream)) if OPERATE in principal.scopes else None
        try:
            async for event in _changes(gateway, principal, stream):
                yield event
        finally:
            if jobs is not None:
                jobs.cancel()


async def _note_jobs(stream: Stream) -> None:
    while True:
        stream.note({"jobs"})
        await asyncio.sleep(JOBS_SECONDS)


async def _changes(gateway: Gateway, principal: Principal, stream: Stream) -> AsyncIterator[ServerSentEvent]:
    """What is new, a part only when it differs from what was sent; a ping when nothing was for a while.

    It ends when the principal's key is revoked.
    """
    sent: dict[str, str] = {}
    spoke = time.monotonic()
    while await run_in_threadpool(gateway.keys.is_valid, principal):
        await wait_briefly(stream.news, PING_SECONDS)
        await asyncio.sleep(GATHER_SECONDS)
        changed, prices = stream.take()
        news = [_event("prices", {"prices": prices})] if prices else []
        for part in sorted(changed):
            event = await _part(gateway, principal, part)
            if event is not None and sent.get(part) != event.data:
                sent[part] = str(event.data)
                news.append(event)
        if not news and time.monotonic() - spoke >= PING_SECONDS:
            news = [_event("ping", {})]
        for event in news:
            spoke = time.monotonic()
            yield event


async def _part(gateway: Gateway, principal: Principal, part: str) -> ServerSentEvent | None:
    """One part of the page as it is now; None while there is none."""
    account = principal.account_id
    if part == "account":
        row = await read(gateway, account_queries.account, account)
        return None if row is None else _event(part, account_json(row))
    if part == "positions":
        held = [position_json(row) for row in await read(gateway, account_queries.positions, account)]
        return _event(part, {"positions": held})
    if part == "orders":
        rows = await read(gateway, order_queries.orders, account, OrderQuery(status="all", limit=50))
        return _event(part, {"orders": [order_json(row) for row in rows]})
    if part == "halts":
        return _event(part, {"halts": [price_json(row) for row in await read(gateway, halts_api.standing_halts)]})
    return ServerSentEvent(await status_json(gateway), event=part)


def _event(name: str, data: Any) -> ServerSentEvent:
    return ServerSentEvent(json.dumps(data), event=name)


#: What a browser asks for, beside the API.
files: list[BaseRoute] = [
    Route("/", get_page, methods=["GET"]),
    Mount("/static", StaticFiles(directory=STATIC, check_dir=False)),
]
endpoints = (
    Endpoint("POST", "/api/session", post_session, scope=None, refusals=(401,)),
    Endpoint("GET", "/api/session", get_session, TRADE),
    Endpoint("DELETE", "/api/session", delete_session, TRADE, 204),
    Endpoint("GET", "/api/stream", get_stream, TRADE, media="text/event-stream"),
)
