"""The terms of a request for performance, checked: the time, the account generation and the benchmark."""

from typing import Literal
from uuid import UUID

from services.gateway.http.errors import Invalid
from services.gateway.http.requests import Gateway, read
from services.gateway.performance.schemas import TimeQuery
from services.gateway.trading import order_queries
from shared.reports import queries
from shared.reports.performance import Asked


async def asked_for(
    gateway: Gateway, account_id: UUID, query: TimeQuery, by: Literal["account", "strategy", "symbol"]
) -> Asked:
    """Return the terms. Raises Invalid for an unknown benchmark, and for a generation that the account has not had."""
    if query.benchmark is not None and not await read(gateway, order_queries.instrument_exists, query.benchmark):
        raise Invalid(f"benchmark: unknown instrument {query.benchmark}", field="benchmark")
    if query.generation is not None:
        account = await read(gateway, queries.account, account_id)
        if account is not None:
            check_generation(query.generation, account["generation"])
    return Asked(account_id, query.begin, query.end, query.generation, query.benchmark, by)


def check_generation(asked: int, present: int) -> None:
    """Raise Invalid if the account has not had so many generations."""
    if asked > present:
        raise Invalid(f"generation: the present one is {present}; name it or an earlier one", field="generation")
