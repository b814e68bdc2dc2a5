"""The Starlette application: its routes, its lifespan, its middleware, and the answers to errors outside a handler."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from datetime import timedelta
from fnmatch import fnmatchcase
from functools import cache
from typing import Any

import structlog
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp

from services.gateway.accounts import api, keys_api
from services.gateway.backtests import api as backtests_api
from services.gateway.backtests import optimisations_api
from services.gateway.console import page, session, stream
from services.gateway.http import middleware, wrong_keys
from services.gateway.http.auth import OPERATE, READ, Principal
from services.gateway.http.endpoints import Endpoint, refuse_query
from services.gateway.http.errors import Crashed, Malformed, MethodNotAllowed, NotFound, refusal_response
from services.gateway.http.metrics import Measured
from services.gateway.http.missing_streams import MissingStreams, is_handshake
from services.gateway.http.openapi import document
from services.gateway.http.rate_limit import KeyGuard
from services.gateway.http.requests import Gateway, guarded
from services.gateway.instruments import (
    bar_files_api,
    corporate_actions_api,
    halts_api,
    history_api,
    indicators_api,
    instruments_api,
    news_api,
    official_prices_api,
    price_stream,
    prices_api,
    replay_api,
    search_api,
    sessions_api,
)
from services.gateway.operations import dead_letters_api, graph_api, jobs_api, monitoring_api, queues_api, runs_api
from services.gateway.performance import (
    alert_channels_api,
    alert_rules_api,
    portfolio_history_api,
    risk_limits_api,
)
from services.gateway.performance import api as performance_api
from services.gateway.performance import positions_api as account_positions_api
from services.gateway.rebalancing import api as rebalancing_api
from services.gateway.reports import api as reports_api
from services.gateway.reports import csv_api
from services.gateway.strategies import api as strategies_api
from services.gateway.trading import (
    account_api,
    calendar_api,
    orders_api,
    positions_api,
    submissions,
    watchlists_api,
)
from shared.observability.metrics import CONTENT_TYPE, exposition
from shared.outage import Outage
from shared.storage.errors import DATABASE_ERRORS

log = structlog.get_logger(__name__)

RESEND_AFTER = timedelta(seconds=5)
RESEND_EVERY_SECONDS = 5.0
#: A body of the largest size takes a slow line a few seconds.
BODY_SECONDS = 20.0


class Application(Starlette):
    """An application whose security headers are on every response, also on that to a crash."""

    def build_middleware_stack(self) -> ASGIApp:
        return middleware.SecurityHeaders(super().build_middleware_stack())


def make_app(
    gateway: Gateway,
    health: Callable[[], dict[str, Any]],
    liveness: Callable[[], dict[str, Any]],
    *,
    body_seconds: float = BODY_SECONDS,
) -> Starlette:
    """Make the application. ``health`` returns the state of each part, and ``healthy`` if all of them work.

    ``liveness`` does the same for the process alone. It is asked in the event loop, so it waits for nothing. A body
    that takes longer than ``body_seconds`` is refused.
    """

    def is_allowed(host: str) -> bool:
        named = (gateway.settings.host, *gateway.settings.allowed_hosts)
        return middleware.is_private_name(host) or any(fnmatchcase(host, middleware.host_of(each)) for each in named)

    guard = KeyGuard()
    app = Application(
        routes=[
            *_probes(health, liveness),
            Route("/metrics", guarded(get_metrics, OPERATE), methods=["GET"]),
            *page.files,
            *(endpoint.route() for endpoint in ENDPOINTS),
            *price_stream.routes,
        ],
        lifespan=_lifespan(gateway, guard),
        exception_handlers={
            HTTPException: _answer_http_error,
            ClientDisconnect: _answer_nobody,
            Exception: _answer_crash,
        },
    )
    app.router.redirect_slashes = False  # a redirect would name the host that the client claims
    app.add_middleware(middleware.BodyDeadline, seconds=body_seconds)
    app.add_middleware(middleware.Doorman, is_allowed=is_allowed)
    app.add_middleware(Measured)
    app.add_middleware(middleware.SingleSlash)
    app.state.gateway = gateway
    app.state.key_guard = guard
    app.state.missing_streams = MissingStreams()
    return app


def _probes(health: Callable[[], dict[str, Any]], liveness: Callable[[], dict[str, Any]]) -> list[Route]:
    async def get_liveness(_request: Request) -> Response:
        return answer(liveness())

    async def get_health(_request: Request) -> Response:
        return answer(await run_in_threadpool(health))

    def answer(state: dict[str, Any]) -> Response:
        return JSONResponse(state, 200 if state["healthy"] else 503)

    probes = {"/healthz": get_health, "/readyz": get_health, "/livez": get_liveness}
    return [Route(path, probe, methods=["GET"]) for path, probe in probes.items()]


def _lifespan(gateway: Gateway, guard: KeyGuard) -> Callable[[Starlette], AbstractAsyncContextManager[None]]:
    """The application's tasks, from its first request to its last."""

    @asynccontextmanager
    async def lifespan(_app: Starlette) -> AsyncIterator[None]:
        gateway.hub.attach(asyncio.get_running_loop())
        tasks = [
            asyncio.create_task(_resend_unanswered(gateway)),
            asyncio.create_task(_keep_wrong_keys(gateway, guard)),
        ]
        yield
        gateway.hub.detach()
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    return lifespan


async def get_metrics(gateway: Gateway, request: Request, _principal: Principal) -> Response:
    """The metrics of this process for Prometheus. They need an operator's key: this port may face the internet."""
    refuse_query(request)
    return Response(await run_in_threadpool(exposition, gateway.context), headers={"Content-Type": CONTENT_TYPE})


async def get_document(gateway: Gateway, request: Request) -> dict[str, Any]:
    """This document."""
    cookie = await run_in_threadpool(gateway.keys.sessions.cookie, secure=request.url.scheme == "https")
    return await run_in_threadpool(cached_document, ENDPOINTS, cookie)


cached_document = cache(document)
#: Every route of /v2 and /api.
ENDPOINTS = (
    *account_api.endpoints,
    *calendar_api.endpoints,
    *orders_api.endpoints,
    *positions_api.endpoints,
    *watchlists_api.endpoints,
    *api.endpoints,
    *keys_api.endpoints,
    *performance_api.endpoints,
    *account_positions_api.endpoints,
    *portfolio_history_api.endpoints,
    *alert_rules_api.endpoints,
    *reports_api.endpoints,
    *csv_api.endpoints,
    *search_api.endpoints,
    *risk_limits_api.endpoints,
    *alert_channels_api.endpoints,
    *instruments_api.endpoints,
    *prices_api.endpoints,
    *corporate_actions_api.endpoints,
    *official_prices_api.endpoints,
    *halts_api.endpoints,
    *graph_api.endpoints,  # before /api/jobs/{name}
    *history_api.endpoints,
    *bar_files_api.endpoints,
    *replay_api.endpoints,
    *sessions_api.endpoints,
    *indicators_api.endpoints,
    *news_api.endpoints,
    *strategies_api.endpoints,
    *rebalancing_api.endpoints,
    *backtests_api.endpoints,
    *optimisations_api.endpoints,
    *jobs_api.endpoints,
    *runs_api.endpoints,
    *queues_api.endpoints,
    *dead_letters_api.endpoints,
    *monitoring_api.endpoints,
    *session.endpoints,
    *stream.endpoints,
    Endpoint("GET", "/api/openapi.json", get_document, READ),
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


async def _keep_wrong_keys(gateway: Gateway, guard: KeyGuard) -> None:
    """Write wrong keys to the database every few seconds. Those of a batch that fails are only logged."""
    database = Outage("the database", part="wrong keys")
    while True:
        await asyncio.sleep(wrong_keys.FLUSH_SECONDS)
        if tries := guard.wrong_keys.take():
            try:
                await run_in_threadpool(wrong_keys.flush, gateway.context, tries)
                database.passed()
            except DATABASE_ERRORS as error:
                database.failed(error)


async def _answer_http_error(request: Request, error: Exception) -> Response:
    """Answer an unknown path or method in the error format of the API that the path belongs to."""
    status = error.status_code if isinstance(error, HTTPException) else 400
    if status in {404, 405} and is_handshake(request):
        return refusal_response(request, request.app.state.missing_streams.refusal(request))
    if status == 404:
        return refusal_response(request, NotFound(f"there is nothing at {request.url.path}"))
    if status == 405:
        allow = {"Allow": ", ".join(sorted(_methods_of(request)))}
        if request.method == "OPTIONS":
            return Response(status_code=204, headers=allow)
        message = f"{request.method} is not allowed for {request.url.path}"
        return refusal_response(request, MethodNotAllowed(message, headers=allow))
    return refusal_response(request, Malformed("the request cannot be read"))


def _methods_of(request: Request) -> set[str]:
    """Return the methods of all routes with this path. A file can only be read."""
    scope = {**request.scope, "root_path": ""}
    routes = [route for route in request.app.routes if isinstance(route, Route)]
    found = {method for each in routes if each.matches(scope)[0] is not Match.NONE for method in each.methods or ()}
    return (found or {"GET", "HEAD"}) | {"OPTIONS"}


async def _answer_nobody(_request: Request, _error: Exception) -> Response:
    """Answer a client that went away while it sent the body. Nobody gets the response."""
    return Response(status_code=400)


async def _answer_crash(request: Request, _error: Exception) -> Response:
    """Answer a request whose handler crashed. The server logs the error."""
    return refusal_response(request, Crashed("internal server error; retry, and tell the operator if it stays"))
