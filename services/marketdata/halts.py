"""Halts of trading begin and end; while one stands, no price of its instrument is taken.

The instrument's row says whether it is halted, so a price and a halt that come together follow each other by its lock.
A halt begins with the last price that was taken before it: none is ever told whose time lies within a halt.
"""

from typing import Any

from sqlalchemy import text

from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.halts import HaltTrading, ResumeTrading, TradingHalted, TradingResumed


def covering(symbol: str, at: str) -> str:
    """SQL: whether a halt of the symbol covers that time; when it begins and when it ends are not within it."""
    return f"""EXISTS (
      SELECT FROM marketdata.halts h
      WHERE h.symbol = {symbol} AND h.began_at < {at} AND COALESCE(h.ended_at, 'infinity') > {at})"""


def halt(uow: UnitOfWork, command: HaltTrading) -> None:
    """Raises NoResultFound where there is no such instrument."""
    instrument = _locked(uow, command.symbol)
    if instrument.halted_at is not None:
        return
    began_at = max(filter(None, (uow.now, instrument.quoted_at, instrument.resumed_at)))
    values = {**command.model_dump(), "began_at": began_at}
    if uow.connection.execute(_ADD, values).rowcount == 1:
        uow.connection.execute(_HALT, values)
        uow.publish(TradingHalted(**values))


def resume(uow: UnitOfWork, command: ResumeTrading) -> None:
    """Raises NoResultFound where there is no such instrument."""
    instrument = _locked(uow, command.symbol)
    if instrument.halted_at is None:
        return
    values = {"symbol": command.symbol, "ended_at": max(uow.now, instrument.halted_at)}
    uow.connection.execute(_RESUME, values)
    halt_id = uow.connection.execute(_END, values).scalar_one()
    uow.publish(TradingResumed(**values, halt_id=halt_id))


def _locked(uow: UnitOfWork, symbol: str) -> Any:
    """What decides about a halt; prices of the symbol wait meanwhile."""
    return uow.connection.execute(_LOCK, {"symbol": symbol}).one()


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
