"""Halts of trading begin and end; while one stands, no price of its instrument is taken.

The instrument's row says whether it is halted, so a price and a halt that come together follow each other by its lock.
A halt begins with the last price that was taken before it: none is ever told whose time lies within a halt.
"""

from typing import Any

from sqlalchemy import text

from shared.bus.unit_of_work import Transaction
from shared.contracts.halts import HaltTrading, ResumeTrading, TradingHalted, TradingResumed


def covering(symbol: str, at: str) -> str:
    """SQL: whether a halt of the symbol covers that time; when it begins and when it ends are not within it."""
    return f"""EXISTS (
      SELECT FROM marketdata.halts h
      WHERE h.symbol = {symbol} AND h.began_at < {at} AND COALESCE(h.ended_at, 'infinity') > {at})"""


def halt(tx: Transaction, command: HaltTrading) -> None:
    """Raises NoResultFound where there is no such instrument."""
    instrument = _locked(tx, command.symbol)
    if instrument.halted_at is not None:
        return
    began_at = max(filter(None, (tx.now, instrument.quoted_at, instrument.resumed_at)))
    values = {**command.model_dump(), "began_at": began_at}
    if tx.connection.execute(_ADD, values).rowcount == 1:
        tx.connection.execute(_HALT, values)
        tx.publish(TradingHalted(**values))


def resume(tx: Transaction, command: ResumeTrading) -> None:
    """Raises NoResultFound where there is no such instrument."""
    instrument = _locked(tx, command.symbol)
    if instrument.halted_at is None:
        return
    values = {"symbol": command.symbol, "ended_at": max(tx.now, instrument.halted_at)}
    tx.connection.execute(_RESUME, values)
    halt_id = tx.connection.execute(_END, values).scalar_one()
    tx.publish(TradingResumed(**values, halt_id=halt_id))


def _locked(tx: Transaction, symbol: str) -> Any:
    """What decides about a halt; prices of the symbol wait meanwhile."""
    return tx.connection.execute(_LOCK, {"symbol": symbol}).one()


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
