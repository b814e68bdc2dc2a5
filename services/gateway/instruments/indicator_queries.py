"""Indicators and their values, from the views of marketdata. NaN stands for a value that does not exist."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from shared.storage.keyset import Keyset, Record, records

_COLUMNS = (
    "id, symbol, interval, name, parameters, requested_at, computed_to, ready, by_hand, by_strategies, by_watchlists"
)
INDICATORS = Keyset(
    f"SELECT {_COLUMNS} FROM marketdata.indicators_v1",
    ("requested_at", "id"),
    {"symbol": "symbol = :symbol", "interval": "interval = :interval", "name": "name = :name"},
)
_VALUES = Keyset(
    "SELECT start_at, values AS outputs FROM marketdata.indicator_values_v1",
    ("start_at",),
    {
        "symbol": "symbol = :symbol",
        "interval": "interval = :interval",
        "begin": "start_at >= :begin",
        "end": "start_at < :end",
    },
)


def indicator(connection: Connection, indicator_id: UUID) -> Record | None:
    return next(iter(records(connection, _INDICATOR, id=indicator_id)), None)


def slot(connection: Connection, indicator_id: UUID) -> int | None:
    """Return the indicator's place in the values of a bar. None if it is not ready, or if there is none with the id."""
    found: int | None = connection.execute(_SLOT, {"id": indicator_id}).scalar_one_or_none()
    return found


def count(connection: Connection) -> int:
    number: int = connection.execute(_COUNT).scalar_one()
    return number


def values(
    connection: Connection,
    found: Record,
    *,
    begin: datetime | None,
    end: datetime | None,
    after: Sequence[Any] | None,
    limit: int,
) -> list[Record]:
    """Return ``start_at`` and ``outputs`` of the indicator at each bar, the last one first. None before it is ready."""
    place = slot(connection, found["id"])
    if place is None:
        return []
    given = {"symbol": found["symbol"], "interval": found["interval"], "begin": begin, "end": end}
    filters = {name: value for name, value in given.items() if value is not None}
    rows = _VALUES.page(connection, filters, after=after, limit=limit)
    return [{**row, "outputs": row["outputs"][3 * place : 3 * place + 3]} for row in rows]


def latest_values(connection: Connection, ids: Sequence[UUID]) -> list[Record]:
    """Return the symbol of each indicator, with ``start_at`` and ``outputs`` of its last bar."""
    return records(connection, _LATEST, ids=list(ids))


_INDICATOR = text(f"SELECT {_COLUMNS} FROM marketdata.indicators_v1 WHERE id = :id")
_SLOT = text("SELECT slot FROM marketdata.indicators_v1 WHERE id = :id AND ready")
_COUNT = text("SELECT count(*) FROM marketdata.indicators_v1")
_LATEST = text("""
SELECT i.symbol, last.start_at, last.values[i.slot * 3 + 1:i.slot * 3 + 3] AS outputs
FROM marketdata.indicators_v1 i
CROSS JOIN LATERAL (
  SELECT v.start_at, v.values FROM marketdata.indicator_values_v1 v
  WHERE v.symbol = i.symbol AND v.interval = i.interval ORDER BY v.start_at DESC LIMIT 1
) last
WHERE i.id = ANY(:ids) AND i.ready
""")
