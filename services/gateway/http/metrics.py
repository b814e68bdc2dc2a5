"""Counts and times of HTTP requests by route, for Prometheus."""

import time
from typing import Any

from prometheus_client import Counter, Histogram
from starlette.routing import Mount, Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

REQUESTS = Counter("paperprofit_http_requests", "Requests that were answered", ["route", "method", "status"])
DURATION = Histogram(
    "paperprofit_http_request_seconds",
    "Time to the first byte of the answer: a stream of events goes on after it",
    ["route", "method"],
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
)
#: Others are counted together, so that a client cannot make labels.
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class Measured:
    """Middleware that counts each request under the template of its route, such as ``/v2/orders/{order_id}``."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app
        self._templates: dict[Any, str] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.perf_counter(), 0

        async def send_measured(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                self._count(scope, status, began)
            await send(message)

        try:
            await self.app(scope, receive, send_measured)
        finally:
            if not status:  # an error, which another middleware answers
                self._count(scope, 500, began)

    def _count(self, scope: Scope, status: int, began: float) -> None:
        method = scope["method"] if scope["method"] in _METHODS else "other"
        route = self._template(scope)
        REQUESTS.labels(route, method, status).inc()
        DURATION.labels(route, method).observe(time.perf_counter() - began)

    def _template(self, scope: Scope) -> str:
        """The template of the request's route. Each route has an endpoint of its own, and each folder of files."""
        if not self._templates:
            self._templates = {
                route.endpoint if isinstance(route, Route) else route.app: route.path
                for route in scope["app"].routes
                if isinstance(route, (Route, Mount))
            }
        return self._templates.get(scope.get("endpoint"), "unknown")
