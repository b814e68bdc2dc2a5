"""The Starlette application: its routes, its lifespan, and the headers of every response."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from functools import cache
from typing import Any

import structlog
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.gateway.accounts import api
from services.gateway.console import page, session, stream
from services.gateway.http.auth import OPERATE, TRADE, Principal
from services.gateway.http.endpoints import Endpoint
from services.gateway.http.errors import Malformed, MethodNotAllowed, NotFound, refusal_response
from services.gateway.http.metrics import Measured
from services.gateway.http.missing_streams import MissingStreams, is_handshake
from services.gateway.http.openapi import document
from services.gateway.http.requests import Gateway, guarded
from services.gateway.instruments import corporate_actions_api, halts_api, official_prices_api
from services.gateway.operations import dead_letters_api, jobs_api, monitoring_api, queues_api, runs_api
from services.gateway.trading import account_api, calendar_api, orders_api, positions_api, submissions
from shared.observability.metrics import CONTENT_TYPE, exposition
from shared.storage.errors import DATABASE_ERRORS

log = structlog.get_logger(__name__)

RESEND_AFTER = timedelta(seconds=5)
RESEND_EVERY_SECONDS = 5.0
HEADERS = {
    b"content-security-policy": b"default-src 'self'; frame-ancestors 'none'; base-uri 'none'",
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
}


def make_app(
    gateway: Gateway, health: Callable[[], dict[str, Any]], liveness: Callable[[], dict[str, Any]]
) -> Starlette:
    """Make the application. ``health`` returns the state of each part, and ``healthy`` if all of them work.

    ``liveness`` does the same for the process alone. It is asked in the event loop, so it waits for nothing.
    """

    async def get_liveness(_request: Request) -> Response:
        state = liveness()
        return JSONResponse(state, 200 if state["healthy"] else 503)

    async def get_health(_request: Request) -> Response:
        state = await run_in_threadpool(health)
        return JSONResponse(state, 200 if state["healthy"] else 503)

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        gateway.hub.attach(asyncio.get_running_loop())
        resending = asyncio.create_task(_resend_unanswered(gateway))
        yield
        gateway.hub.detach()
        resending.cancel()
        with suppress(asyncio.CancelledError):
            await resending

    app = Starlette(
        routes=[
            Route("/healthz", get_health, methods=["GET"]),
            Route("/readyz", get_health, methods=["GET"]),
            Route("/livez", get_liveness, methods=["GET"]),
            Route("/metrics", guarded(get_metrics, OPERATE), methods=["GET"]),
            *page.files,
            *(endpoint.route() for endpoint in ENDPOINTS),
        ],
        lifespan=lifespan,
        exception_handlers={HTTPException: _answer_http_error},
    )
    app.add_middleware(Measured)
    app.add_middleware(SecurityHeaders)
    app.add_middleware(SingleSlash)
    app.state.gateway = gateway
    app.state.missing_streams = MissingStreams()
    return app


async def get_metrics(gateway: Gateway, _request: Request, _principal: Principal) -> Response:
    """The metrics of this process for Prometheus. They need an operator's key: this port may face the internet."""
    return Response(await run_in_threadpool(exposition, gateway.context), headers={"Content-Type": CONTENT_TYPE})


async def get_document() -> dict[str, Any]:
    """This document."""
    return await run_in_threadpool(cached_document, ENDPOINTS)


cached_document = cache(document)
#: Every route of /v2 and /api.
ENDPOINTS = (
    *account_api.endpoints,
    *calendar_api.endpoints,
    *orders_api.endpoints,
    *positions_api.endpoints,
    *api.endpoints,
    *corporate_actions_api.endpoints,
    *official_prices_api.endpoints,
    *halts_api.endpoints,
    *jobs_api.endpoints,
    *runs_api.endpoints,
    *queues_api.endpoints,
    *dead_letters_api.endpoints,
    *monitoring_api.endpoints,
    *session.endpoints,
    *stream.endpoints,
    Endpoint("GET", "/api/openapi.json", get_document, TRADE),
)


async def _resend_unanswered(gateway: Gateway) -> None:
    """Send submissions again that orders has not answered, so that no order exists only in a message."""

    def resend() -> int:
        with gateway.context.unit_of_work() as uow:
            return submissions.resend_unanswered(uow, RESEND_AFTER)

    failing = False
    while True:
        await asyncio.sleep(RESEND_EVERY_SECONDS)
        try:
            if count := await run_in_threadpool(resend):
                log.warning("submissions sent again", count=count)
            failing = False
        except DATABASE_ERRORS as error:
            if not failing:  # logged once, not at every attempt
                log.warning("submissions not sent again", error=str(error).splitlines()[0])
            failing = True


async def _answer_http_error(request: Request, error: Exception) -> Response:
    """Answer an unknown path or method in the error format of the API that the path belongs to."""
    status = error.status_code if isinstance(error, HTTPException) else 400
    if status in {404, 405} and is_handshake(request):
        return refusal_response(request, request.app.state.missing_streams.refusal(request))
    if status == 404:
        return refusal_response(request, NotFound(f"there is nothing at {request.url.path}"))
    if status == 405:
        return refusal_response(request, MethodNotAllowed(f"{request.method} is not allowed for {request.url.path}"))
    return refusal_response(request, Malformed("the request cannot be read"))


class SingleSlash:
    """Middleware that reads ``//v2/account`` as ``/v2/account``: clients join a base URL and a path blindly."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].startswith("//"):
            scope = {**scope, "path": "/" + scope["path"].lstrip("/")}
        await self.app(scope, receive, send)


class SecurityHeaders:
    """Middleware that adds headers to every response. They stop a browser from doing more than the page needs."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *HEADERS.items()]
            await send(message)

        await self.app(scope, receive, send_with_headers)
