"""Monitoring for operators: the log, workers, breakers, rate limits, alerts, and a record of operators' actions."""

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


async def get_logs(gateway: Gateway, query: LogQuery) -> LogPage:
    """List log lines of all services, the newest first."""
    return await page_of(gateway, log_queries.log_lines, query, LogPage, ("at", "id"))


async def get_alerts(gateway: Gateway, query: AlertQuery) -> AlertPage:
    """List alerts, the newest first."""
    return await page_of(gateway, log_queries.alerts, query, AlertPage, ("opened_at", "id"))


async def get_actions(gateway: Gateway, query: ActionQuery) -> ActionPage:
    """List the actions of operators, the newest first."""
    return await page_of(gateway, log_queries.actions, query, ActionPage, ("id",))


async def get_workers(gateway: Gateway) -> Workers:
    """List the processes of all services, the running ones first."""
    return Workers(items=[Worker.model_validate(row) for row in await read(gateway, log_queries.workers)])


async def get_breakers(gateway: Gateway) -> Breakers:
    """List the circuit breakers of all dependencies."""
    return Breakers(items=[Breaker.model_validate(row) for row in await read(gateway, breaker_rows)])


async def get_rate_limits(gateway: Gateway) -> RateLimits:
    """List the rate limits of all dependencies, with the number of calls that are free now."""
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
