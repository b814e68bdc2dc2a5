"""Rows of a symbol under a new one: those of every table of marketdata that has a symbol."""

import json
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, text
from sqlalchemy.sql import quoted_name

from shared.contracts.indicators import IndicatorName, indicator_id


def exists(connection: Connection, symbol: str) -> bool:
    return connection.execute(_EXISTS, {"symbol": symbol}).first() is not None


def market_of(connection: Connection, symbol: str) -> str:
    market: str = connection.execute(_MARKET, {"symbol": symbol}).scalar_one()
    return market


def copy_instrument(connection: Connection, old: str, new: str, new_id: UUID) -> Row[Any]:
    """Copy the instrument under its new symbol, and retire it. Returns its ``split_count`` and ``last``."""
    copy = connection.execute(_COPY, {"old": old, "new": new, "id": str(new_id)}).one()
    connection.execute(_RETIRE, {"old": old})
    return copy


def move(connection: Connection, old: str, new: str) -> None:
    """Give the rows of every other table the new symbol."""
    for table in connection.execute(_TABLES).scalars().all():
        name = quoted_name(table, quote=True)
        connection.execute(
            text(f"UPDATE marketdata.{name} SET symbol = :new WHERE symbol = :old"),
            {"old": old, "new": new},
        )


def identify_indicators(connection: Connection, symbol: str) -> None:
    """Give the indicators of the symbol the ids by which they are found, since an id follows from the symbol."""
    for row in connection.execute(_INDICATORS, {"symbol": symbol}).all():
        parameters = {name: Decimal(number) for name, number in row.parameters.items()}
        new_id = indicator_id(symbol, row.interval, IndicatorName(row.name), parameters)
        connection.execute(_IDENTIFY, {"id": row.id, "new_id": new_id})


def applied(connection: Connection, action_id: UUID, old: str, split_count: int, now: datetime) -> None:
    connection.execute(_APPLIED, {"id": action_id, "old": old, "split_count": split_count, "now": now})


def report(connection: Connection, action_id: UUID, why: str, now: datetime) -> None:
    """Keep why the action was left out. It counts as applied, without an effect."""
    connection.execute(_REPORT, {"id": action_id, "why": json.dumps({"left_out": why}), "now": now})


_EXISTS = text("SELECT FROM marketdata.instruments WHERE symbol = :symbol")
_MARKET = text("SELECT market FROM marketdata.instruments WHERE symbol = :symbol FOR NO KEY UPDATE")
_COPY = text("""
INSERT INTO marketdata.instruments
SELECT (jsonb_populate_record(i, jsonb_build_object(
  'id', CAST(:id AS text), 'symbol', CAST(:new AS text), 'split_count', i.split_count + 1,
  'sequence', i.sequence + 1))).*
FROM marketdata.instruments i WHERE i.symbol = :old
RETURNING split_count, last_price AS last
""")
_RETIRE = text("""
UPDATE marketdata.instruments SET tradable = false, status = 'retired', halted_at = NULL, halt_reason = NULL
WHERE symbol = :old
""")
_TABLES = text("""
SELECT c.relname FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attname = 'symbol'
WHERE c.relnamespace = CAST('marketdata' AS regnamespace) AND c.relkind IN ('r', 'p') AND NOT c.relispartition
  AND NOT a.attisdropped AND c.relname <> 'instruments' ORDER BY c.relname
""")
_INDICATORS = text("SELECT id, interval, name, parameters FROM marketdata.indicators WHERE symbol = :symbol")
_IDENTIFY = text("UPDATE marketdata.indicators SET id = :new_id WHERE id = :id")
_APPLIED = text("""
UPDATE marketdata.corporate_actions SET applied_at = :now, split_count = :split_count, old_symbol = :old WHERE id = :id
""")
_REPORT = text("""
UPDATE marketdata.corporate_actions
SET applied_at = :now, split_count = 0, correction = CAST(:why AS jsonb), corrected_at = :now WHERE id = :id
""")
