"""The page at ``/``: its files, the session that its key is traded for, and its live stream."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from services.gateway import store
from services.gateway.errors import RequestRefused, Unauthorized, refusal_response
from services.gateway.jobs_api import statuses
from services.gateway.keys import OPERATE, SESSION_LIFE, TRADE, Principal
from services.gateway.live import Stream, wait_briefly
from services.gateway.models import OrderQuery, SessionRequest
from services.gateway.requests import COOKIE, Gateway, guarded, read, read_model
from services.gateway.shapes import account_json, order_json, position_json, price_json

STATIC = Path(__file__).parent / "static"
#: Changes are gathered for this long before they are sent, and a quiet stream pings this often, in seconds.
GATHER_SECONDS = 0.25
PING_SECONDS = 5.0
JOBS_SECONDS = 2.0


async def get_page(_request: Request) -> Response:
    return FileResponse(STATIC / "index.html")


async def post_session(request: Request) -> Response:
    """Trade a key for a session cookie, which scripts cannot read and other sites cannot send."""
    gateway: Gateway = request.app.state.gateway
    try:
        asked = await read_model(request, SessionRequest)
        principal = await run_in_threadpool(gateway.keys.verify, asked.key_id, asked.secret_key)
        if principal is None:
            raise Unauthorized("the key id or the secret key is wrong")
    except RequestRefused as refused:
        return refusal_response(request, refused)
    token = await run_in_threadpool(gateway.keys.open_session, principal, gateway.unit.clock())
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


async def get_session(_gateway: Gateway, _request: Request, principal: Principal) -> Response:
    return JSONResponse(_session_json(principal))


async def delete_session(gateway: Gateway, request: Request, _principal: Principal) -> Response:
    await run_in_threadpool(gateway.keys.close_session, request.cookies.get(COOKIE, ""))
    response = Response(status_code=204)
    response.delete_cookie(COOKIE)
    return response


def _session_json(principal: Principal) -> dict[str, Any]:
    operator = OPERATE in principal.scopes
    return {"key_id": principal.key_id, "account_id": str(principal.account_id), "operator": operator}


async def get_stream(gateway: Gateway, _request: Request, principal: Principal) -> Response:
    return EventSourceResponse(_events(gateway, principal), ping=3600)


async def _events(gateway: Gateway, principal: Principal) -> AsyncIterator[ServerSentEvent]:
    """A snapshot of every part, then each part again whenever it changed."""
    with gateway.live.stream(principal.account_id) as stream:
        yield _event("prices", {"prices": [price_json(row) for row in await read(gateway, store.prices)]})
        stream.note({"account", "positions", "orders"})
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
    """What is new, a part only when it differs from what was sent; a ping when nothing was for a while."""
    sent: dict[str, str] = {}
    spoke = time.monotonic()
    while True:
        await wait_briefly(stream.news, PING_SECONDS)
        await asyncio.sleep(GATHER_SECONDS)
        changed, prices = stream.take()
        news = [_event("prices", {"prices": prices})] if prices else []
        for part in sorted(changed):
            data = await _part(gateway, principal, part)
            event = _event(part, data)
            if data and sent.get(part) != event.data:
                sent[part] = str(event.data)
                news.append(event)
        if not news and time.monotonic() - spoke >= PING_SECONDS:
            news = [_event("ping", {})]
        for event in news:
            spoke = time.monotonic()
            yield event


async def _part(gateway: Gateway, principal: Principal, part: str) -> dict[str, Any] | None:
    """The data of one part of the page as it is now; None while there is none."""
    account = principal.account_id
    if part == "account":
        row = await read(gateway, store.account, account)
        return None if row is None else account_json(row)
    if part == "positions":
        return {"positions": [position_json(row) for row in await read(gateway, store.positions, account)]}
    if part == "orders":
        rows = await read(gateway, store.orders, account, OrderQuery(status="all", limit=50))
        return {"orders": [order_json(row) for row in rows]}
    return {"jobs": await read(gateway, statuses, gateway.unit.clock())}


def _event(name: str, data: Any) -> ServerSentEvent:
    return ServerSentEvent(json.dumps(data), event=name)


routes: list[BaseRoute] = [
    Route("/", get_page, methods=["GET"]),
    Route("/api/session", post_session, methods=["POST"]),
    Route("/api/session", guarded(get_session, TRADE), methods=["GET"]),
    Route("/api/session", guarded(delete_session, TRADE), methods=["DELETE"]),
    Route("/api/stream", guarded(get_stream, TRADE), methods=["GET"]),
    Mount("/static", StaticFiles(directory=STATIC, check_dir=False)),
]
