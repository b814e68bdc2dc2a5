"""``/api/account/performance`` and its siblings: returns, risk and trading of an account, and its history."""

from uuid import UUID

from services.gateway.accounts.queries import pages_of
from services.gateway.http.auth import ADMIN, READ, Principal
from services.gateway.http.endpoints import Endpoint
from services.gateway.http.errors import NotFound
from services.gateway.http.pagination import page_of
from services.gateway.http.requests import Gateway, read
from services.gateway.performance.asked import asked_for
from services.gateway.performance.schemas import EquityPage, EquityQuery, Performance, PerformanceQuery
from shared.reports import queries
from shared.reports.performance import performance


async def get_performance(gateway: Gateway, principal: Principal, query: PerformanceQuery) -> Performance:
    """Get the performance of the key's account: returns, risk, trading, and a comparison with a benchmark.

    Raises Invalid for an unknown benchmark or account generation.
    """
    return await _performance(gateway, principal.account_id, query)


async def get_performance_of(gateway: Gateway, account_id: UUID, query: PerformanceQuery) -> Performance:
    """Get the performance of an account.

    Raises NotFound for an unknown account, and Invalid for an unknown benchmark or generation.
    """
    return await _performance(gateway, account_id, query)


async def get_equity(gateway: Gateway, principal: Principal, query: EquityQuery) -> EquityPage:
    """List the values of the key's account, the newest first."""
    return await page_of(gateway, pages_of(queries.EQUITY, principal.account_id), query, EquityPage, ("at", "run_id"))


async def get_equity_of(gateway: Gateway, account_id: UUID, query: EquityQuery) -> EquityPage:
    """List the values of an account, the newest first."""
    return await page_of(gateway, pages_of(queries.EQUITY, account_id), query, EquityPage, ("at", "run_id"))


async def _performance(gateway: Gateway, account_id: UUID, query: PerformanceQuery) -> Performance:
    asked = await asked_for(gateway, account_id, query, query.by)
    found = await read(gateway, performance, asked, gateway.context.clock())
    if found is None:
        raise NotFound(f"there is no account {account_id}, or it is being opened; GET /api/accounts lists them")
    return Performance(**found)


endpoints = (
    Endpoint("GET", "/api/account/performance", get_performance, READ, refusals=(404,)),
    Endpoint("GET", "/api/account/equity", get_equity, READ),
    Endpoint("GET", "/api/accounts/{account_id}/performance", get_performance_of, ADMIN),
    Endpoint("GET", "/api/accounts/{account_id}/equity", get_equity_of, ADMIN),
)
