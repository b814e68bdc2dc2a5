"""``/api`` for whoever keeps it running: the log, workers, breakers, rate limits, alerts and what operators did."""

from datetime import datetime

from services.gateway.http.auth import OPERATE
from services.gateway.http.endpoints import Endpoint
from services.gateway.http.pagination import page_of
from services.gateway.http.requests import Gateway, read
from services.gateway.operations.monitoring_schemas import (
    ActionPage,
    AlertPage,
    Breaker,
    Breakers,
    RateLimit,
    RateLimits,
    Worker,
    Workers,
)
from services.gateway.operations.requests import ActionQuery, AlertQuery, LogQuery
from services.gateway.operations.schemas import LogPage
from shared.jobs.admin import log_queries
from shared.resilience.breakers import breaker_rows
from shared.resilience.rate_limits import rate_limit_rows
from shared.storage.keyset import Record


async def get_logs(gateway: Gateway, query: LogQuery) -> LogPage:
    """Lines of the services' log, the newest first."""
    return await page_of(gateway, log_queries.log_lines, query, LogPage, ("at", "id"))


async def get_alerts(gateway: Gateway, query: AlertQuery) -> AlertPage:
    """Alerts, the newest first."""
    return await page_of(gateway, log_queries.alerts, query, AlertPage, ("opened_at", "id"))


async def get_actions(gateway: Gateway, query: ActionQuery) -> ActionPage:
    """What operators did, the newest first."""
    return await page_of(gateway, log_queries.actions, query, ActionPage, ("id",))


async def get_workers(gateway: Gateway) -> Workers:
    """The processes of all services, those that live first."""
    now = gateway.context.clock()
    return Workers(items=[_worker(row, now) for row in await read(gateway, log_queries.workers)])


def _worker(row: Record, now: datetime) -> Worker:
    silent = None if row["stopped_at"] else max(0.0, (now - row["heartbeat_at"]).total_seconds())
    return Worker.model_validate({**row, "silent": silent})


async def get_breakers(gateway: Gateway) -> Breakers:
    """The state of each dependency's breaker."""
    return Breakers(items=[Breaker.model_validate(row) for row in await read(gateway, breaker_rows)])


async def get_rate_limits(gateway: Gateway) -> RateLimits:
    """How many calls each dependency allows, and how many could be made now."""
    rows = await read(gateway, rate_limit_rows, gateway.context.clock())
    return RateLimits(items=[RateLimit.model_validate(row) for row in rows])


endpoints = (
    Endpoint("GET", "/api/logs", get_logs, OPERATE),
    Endpoint("GET", "/api/workers", get_workers, OPERATE),
    Endpoint("GET", "/api/breakers", get_breakers, OPERATE),
    Endpoint("GET", "/api/rate-limits", get_rate_limits, OPERATE),
    Endpoint("GET", "/api/alerts", get_alerts, OPERATE),
    Endpoint("GET", "/api/actions", get_actions, OPERATE),
)
