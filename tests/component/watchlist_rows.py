"""Rows of watchlists, as the gateway saves them."""

from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from services.gateway.trading import watchlist_queries as queries
from shared.bus.unit_of_work import ServiceContext

DAILY_AVERAGE = {"name": "sma", "interval": "1d", "parameters": {"period": "2"}}


def watch(
    gateway: ServiceContext, now: datetime, *symbols: str, indicators: Any = (), watchlist_id: UUID | None = None
) -> UUID:
    """Save a watchlist of an account of its own, or other symbols and indicators of the one with this id."""
    saved_id = watchlist_id or uuid4()
    row = {"id": saved_id, "account_id": uuid4(), "name": "watched", "symbols": list(symbols)}
    with gateway.engine.begin() as connection:
        queries.save(connection, {**row, "indicators": list(indicators)}, now)
    return saved_id
