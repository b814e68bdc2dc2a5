"""Instruments with their prices, halts and auctions, from the views of marketdata."""

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, text

from services.gateway.http.requests import Gateway
from shared.contracts.official_prices import AuctionKind
from shared.storage.keyset import Record, records

Ages = Mapping[str, Any]


def ages_of(gateway: Gateway) -> Ages:
    """The time now, and the ages from which on a price is stale in each phase of its market."""
    settings = gateway.settings
    return {
        "now": gateway.context.clock(),
        "regular": timedelta(seconds=settings.price_age),
        "extended": timedelta(seconds=settings.price_age_extended),
        "closed": timedelta(seconds=settings.price_age_closed),
    }


def instruments(
    connection: Connection, filters: Mapping[str, Any], *, after: Sequence[Any] | None, limit: int, ages: Ages
) -> list[Record]:
    """Return a page of instruments by symbol."""
    given = dict(filters)
    if "q" in given:
        given["q"] = f"%{given['q'].translate(_LITERAL)}%"
    clauses = [_FILTERS.get(name, f"i.{name} = :{name}") for name in given]
    return _page(connection, _INSTRUMENTS, clauses, {**given, **ages}, after, limit)


def current_prices(
    connection: Connection, filters: Mapping[str, Any], *, after: Sequence[Any] | None, limit: int, ages: Ages
) -> list[Record]:
    """Return a page of the prices of instruments that have one, by symbol."""
    given = {name: list(value) for name, value in filters.items()}
    clauses = ["i.last IS NOT NULL", *(["i.symbol = ANY(:symbols)"] if given else [])]
    return _page(connection, _CURRENT_PRICES, clauses, {**given, **ages}, after, limit)


def _page(
    connection: Connection,
    select: str,
    clauses: Sequence[str],
    given: Mapping[str, Any],
    after: Sequence[Any] | None,
    limit: int,
) -> list[Record]:
    """Return the rows after the symbol ``after``, in the order of the alphabet."""
    conditions = [*clauses, *(["i.symbol > :after"] if after else [])]
    where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
    values = {**given, **({"after": after[0]} if after else {})}
    return records(connection, text(f"{select} {where} ORDER BY i.symbol LIMIT :limit"), **values, limit=limit)


def instrument(connection: Connection, symbol: str, *, ages: Ages) -> Record | None:
    """Return the instrument with its price, or None if the symbol is not an instrument."""
    return next(
        iter(records(connection, text(f"{_INSTRUMENTS} WHERE i.symbol = :symbol"), symbol=symbol, **ages)), None
    )


def similar_instruments(connection: Connection, words: str, asset_class: str | None, limit: int) -> list[Record]:
    """Return the instruments whose symbol or name has the words, by symbol."""
    sought = f"%{words.translate(_LITERAL)}%"
    return records(connection, _SIMILAR, q=sought, asset_class=asset_class, limit=limit)


def which_are_there(connection: Connection, symbols: Sequence[str]) -> set[str]:
    """Return those of the symbols that are instruments."""
    return set(connection.execute(_THERE, {"symbols": list(symbols)}).scalars())


def account_currencies(connection: Connection) -> list[str]:
    """Return the currencies of the accounts that are open, and the dollar."""
    return list(connection.execute(_ACCOUNT_CURRENCIES).scalars())


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


#: The characters that LIKE reads as others.
_LITERAL = str.maketrans({"%": r"\%", "_": r"\_", "\\": r"\\"})
_FILTERS = {"q": "(i.symbol ILIKE :q OR i.name ILIKE :q)"}
_SIMILAR = text("""
SELECT i.symbol, i.name, i.market, COALESCE(i.exchange, i.market) AS exchange, i.currency, i.asset_class
FROM marketdata.instruments_v1 i
WHERE (i.symbol ILIKE :q OR i.name ILIKE :q)
  AND (CAST(:asset_class AS text) IS NULL OR i.asset_class = :asset_class)
ORDER BY i.symbol LIMIT :limit
""")
_THERE = text("SELECT symbol FROM marketdata.instruments_v1 WHERE symbol = ANY(:symbols)")
#: The age of a price counts from the beginning of the phase at most.
_STALE = """
GREATEST(i.quoted_at, phase.open_at) < CAST(:now AS timestamptz) - CASE
  WHEN m.always_open OR phase.phase = 'regular' THEN CAST(:regular AS interval)
  WHEN phase.phase IS NOT NULL THEN CAST(:extended AS interval)
  ELSE CAST(:closed AS interval) END AS stale
"""
_WITH_PHASE = """
FROM marketdata.instruments_v1 i
JOIN marketdata.markets_v1 m ON m.code = i.market
LEFT JOIN LATERAL (
  SELECT s.phase, s.open_at FROM marketdata.sessions_v2 s
  WHERE s.market = i.market AND s.open_at <= :now AND s.close_at > :now ORDER BY s.open_at DESC LIMIT 1
) phase ON true
"""
_INSTRUMENTS = f"""
SELECT i.id, i.symbol, i.name, i.market, i.exchange, i.currency, i.asset_class, i.tick_size, i.tick_rule, i.lot_size,
       i.fractionable, i.shortable, i.tradable, i.status, i.last, i.bid, i.ask, i.provider, i.quoted_at, i.received_at,
       i.delayed, {_STALE}, i.halted_at, i.halt_reason
{_WITH_PHASE}"""
_CURRENT_PRICES = f"""
SELECT i.symbol, i.currency, i.last, i.bid, i.ask, i.bid_size, i.ask_size, i.open, i.high, i.low, i.volume, i.provider,
       i.quoted_at, i.received_at, i.bar_start, i.delayed, {_STALE}, i.sequence
{_WITH_PHASE}"""
_ACCOUNT_CURRENCIES = text("""
SELECT 'USD' UNION SELECT currency FROM orders.accounts_v1 WHERE status <> 'ACCOUNT_CLOSED' ORDER BY 1
""")
_PRICES = text("""
SELECT symbol, bid, ask, bid_size, ask_size, last, open, high, low, last AS close, volume, quoted_at, sequence,
       provider, received_at, delayed
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
