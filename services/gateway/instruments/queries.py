"""Instruments with their prices, halts and auctions, from the views of marketdata."""

from datetime import date, datetime

from sqlalchemy import Connection, text

from shared.contracts.official_prices import AuctionKind
from shared.storage.keyset import Record, records


def prices(connection: Connection) -> list[Record]:
    """Return the last price of every instrument that has one."""
    return records(connection, _PRICES)


def instrument_with_halt(connection: Connection, symbol: str) -> Record | None:
    """Return the instrument with the columns of its open halt, which are null if there is none.

    None if the symbol is not an instrument.
    """
    return next(iter(records(connection, _INSTRUMENT_WITH_HALT, symbol=symbol)), None)


def open_halts(connection: Connection) -> list[Record]:
    """Return the halts that have not ended."""
    return records(connection, _OPEN_HALTS)


def was_halted(connection: Connection, symbol: str, at: datetime) -> bool:
    """Return True if trading of the symbol was halted at that time."""
    return connection.execute(_HALT_AT, {"symbol": symbol, "at": at}).first() is not None


def auction(connection: Connection, symbol: str, kind: AuctionKind, day: date) -> Record | None:
    """Return ``due_at``, which is null if the day is not a trading day, and ``known``, whether its price is known.

    None if the symbol is not an instrument.
    """
    return next(iter(records(connection, _AUCTION, symbol=symbol, kind=kind.value, day=day)), None)


_PRICES = text("""
SELECT symbol, bid, ask, bid_size, ask_size, last, open, high, low, last AS close, volume, quoted_at, sequence,
       provider
FROM marketdata.instruments_v1 WHERE last IS NOT NULL ORDER BY symbol
""")
_INSTRUMENT_WITH_HALT = text("""
SELECT i.symbol, h.id, h.reason, h.began_at FROM marketdata.instruments_v1 i
LEFT JOIN marketdata.halts_v1 h ON h.symbol = i.symbol AND h.ended_at IS NULL WHERE i.symbol = :symbol
""")
_OPEN_HALTS = text("SELECT symbol, reason, began_at FROM marketdata.halts_v1 WHERE ended_at IS NULL ORDER BY symbol")
_HALT_AT = text("""
SELECT 1 FROM marketdata.halts_v1
WHERE symbol = :symbol AND began_at < :at AND COALESCE(ended_at, 'infinity') > :at LIMIT 1
""")
_AUCTION = text("""
SELECT CASE :kind WHEN 'open' THEN d.open_at ELSE d.close_at END AS due_at,
       EXISTS (SELECT FROM marketdata.official_prices_v1 p
               WHERE p.symbol = i.symbol AND p.day = :day AND p.kind = :kind) AS known
FROM marketdata.instruments_v1 i
LEFT JOIN marketdata.trading_days_v1 d ON d.market = i.market AND d.day = :day
WHERE i.symbol = :symbol
""")
