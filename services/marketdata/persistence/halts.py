"""Halts of trading: their rows, and the instrument's row that says whether it is halted."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row, text

from shared.contracts.halts import TradingHalted


def covering(symbol: str, at: str) -> str:
    """SQL: whether a halt of the symbol covers that time. Its begin and its end are not within it."""
    return f"""EXISTS (
      SELECT FROM marketdata.halts h
      WHERE h.symbol = {symbol} AND h.began_at < {at} AND COALESCE(h.ended_at, 'infinity') > {at})"""


def lock_instrument(connection: Connection, symbol: str) -> Row[Any]:
    """``halted_at``, ``resumed_at`` and ``quoted_at`` of the instrument. Prices of it wait meanwhile.

    Raises NoResultFound where there is no such instrument.
    """
    return connection.execute(_LOCK, {"symbol": symbol}).one()


def begin(connection: Connection, halted: TradingHalted) -> bool:
    """Write the halt. False where one with its id was written before."""
    values = halted.model_dump()
    if connection.execute(_ADD, values).rowcount == 0:
        return False
    connection.execute(_HALT, values)
    return True


def end(connection: Connection, symbol: str, ended_at: datetime) -> UUID:
    """End the standing halt of the symbol, and return the halt's id."""
    values = {"symbol": symbol, "ended_at": ended_at}
    connection.execute(_RESUME, values)
    halt_id: UUID = connection.execute(_END, values).scalar_one()
    return halt_id


_LOCK = text("""
SELECT halted_at, resumed_at, quoted_at FROM marketdata.instruments WHERE symbol = :symbol FOR NO KEY UPDATE
""")
_ADD = text("""
INSERT INTO marketdata.halts (id, symbol, reason, began_at) VALUES (:halt_id, :symbol, :reason, :began_at)
ON CONFLICT (id) DO NOTHING
""")
_HALT = text("""
UPDATE marketdata.instruments SET halted_at = :began_at, halt_reason = :reason WHERE symbol = :symbol
""")
_RESUME = text("""
UPDATE marketdata.instruments SET halted_at = NULL, halt_reason = NULL, resumed_at = :ended_at WHERE symbol = :symbol
""")
_END = text("""
UPDATE marketdata.halts SET ended_at = :ended_at WHERE symbol = :symbol AND ended_at IS NULL RETURNING id
""")
