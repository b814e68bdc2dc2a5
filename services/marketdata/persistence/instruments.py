"""Instruments: their terms, the symbols whose prices are taken, and the facts that a new price is checked against."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple
from uuid import NAMESPACE_URL, UUID, uuid5

from sqlalchemy import Connection, text

from services.marketdata.domain.price_checks import Known
from services.marketdata.persistence.columns import columns
from shared.contracts.instruments import InstrumentTerms
from shared.contracts.prices import AHEAD
from shared.storage.driver import Call, Rows, together


@dataclass(frozen=True)
class Instrument:
    """The terms of an instrument, as ``InstrumentTerms`` describes them."""

    symbol: str
    name: str
    market: str = "DEMO"
    asset_class: str = "us_equity"
    currency: str = "USD"
    tick_size: Decimal = Decimal("0.01")
    tick_rule: str = "sec_612"
    lot_size: Decimal = Decimal(1)
    fractionable: bool = True
    shortable: bool = True
    exchange: str | None = None

    @property
    def id(self) -> UUID:
        return uuid5(NAMESPACE_URL, f"paperprofit:instrument:{self.market}:{self.symbol}")


def instrument_of(terms: InstrumentTerms) -> Instrument:
    return Instrument(**terms.model_dump(mode="json") | {"tick_size": terms.tick_size, "lot_size": terms.lot_size})


def add_instruments(connection: Connection, instruments: Iterable[Instrument]) -> list[str]:
    """Add the instruments that are not there yet, in one statement, and return their symbols."""
    given = list(instruments)
    return list(connection.execute(_ADD_INSTRUMENTS, columns(given, "id", *_TERMS)).scalars()) if given else []


def lock_terms(connection: Connection, symbols: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Symbol → the terms, ``status`` and ``tradable`` of those that are instruments, locked."""
    rows = connection.execute(_LOCK_TERMS, {"symbols": list(symbols)}).mappings()
    return {row["symbol"]: dict(row) for row in rows}


def terms(connection: Connection, symbols: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Symbol → the terms of those that are instruments."""
    rows = connection.execute(_READ_TERMS, {"symbols": list(symbols)}).mappings()
    return {row["symbol"]: dict(row) for row in rows}


def change(connection: Connection, symbol: str, changes: Mapping[str, Any]) -> None:
    """Set these columns of the instrument. Their names are fields of ``InstrumentChanges``."""
    assignments = ", ".join(f"{name} = :{name}" for name in changes)
    statement = f"UPDATE marketdata.instruments SET {assignments} WHERE symbol = :of"
    connection.execute(text(statement), {**changes, "of": symbol})


def pairs(connection: Connection) -> set[frozenset[str]]:
    """The two currencies of each pair that is an instrument."""
    symbols = connection.execute(_PAIRS).scalars()
    return {frozenset(symbol.split("/")) for symbol in symbols}


def currencies(connection: Connection) -> set[str]:
    """The currencies in which active instruments are quoted, pairs left out."""
    return set(connection.execute(_CURRENCIES).scalars())


class Wanted(NamedTuple):
    """An instrument whose prices are taken."""

    symbol: str
    market: str
    asset_class: str
    currency: str
    split_count: int


def wanted(connection: Connection) -> list[Wanted]:
    """The instruments whose prices are taken now: those that are not halted, retired ones while somebody holds them."""
    rows = connection.execute(_NOT_HALTED).all()
    idle = [row.symbol for row in rows if not row.tradable]
    held: set[str] = set()
    if idle and connection.execute(_POSITIONS_THERE).scalar_one() is not None:
        held = set(connection.execute(_HELD, {"symbols": idle}).scalars())
    return [Wanted(*row[:-1]) for row in rows if row.tradable or row.symbol in held]


def tradable(connection: Connection, *, but_of: Collection[str] = ()) -> dict[str, int]:
    """The symbols whose prices are taken now → number of its splits. Asset classes in ``but_of`` are left out."""
    return {each.symbol: each.split_count for each in wanted(connection) if each.asset_class not in but_of}


def lock_known(connection: Connection, symbols: Sequence[str], now: datetime) -> dict[str, Known]:
    """Symbol → the instrument before a new price. Splits, halts and prices of these symbols wait meanwhile.

    A price whose time is ahead of every clock came while a clock was wrong. It has no time then, so it shuts out none.
    """
    (rows,) = together(connection, locking_known(symbols, now))
    return known_of(rows)


def locking_known(symbols: Sequence[str], now: datetime) -> Call:
    """The statement of ``lock_known``. ``known_of`` reads its rows."""
    return _LOCK_KNOWN, {"symbols": list(symbols), "now": now}


def known_of(rows: Rows) -> dict[str, Known]:
    return {
        row.symbol: Known(
            row.currency, row.split_count, row.quoted_at, row.last_price, row.provider, row.halted_at, row.resumed_at
        )
        for row in rows
    }


def newest(connection: Connection, symbols: Sequence[str]) -> dict[str, datetime]:
    """Symbol → the time of its price. One without a price is left out."""
    return {row.symbol: row.quoted_at for row in connection.execute(_NEWEST, {"symbols": list(symbols)})}


_NEWEST = text("""
SELECT symbol, quoted_at FROM marketdata.instruments WHERE symbol = ANY(:symbols) AND quoted_at IS NOT NULL
""")
_TERMS = (
    "symbol",
    "name",
    "asset_class",
    "market",
    "exchange",
    "currency",
    "tick_size",
    "tick_rule",
    "lot_size",
    "fractionable",
    "shortable",
)
_ADD_INSTRUMENTS = text(f"""
INSERT INTO marketdata.instruments (id, {", ".join(_TERMS)})
SELECT * FROM unnest(CAST(:id AS uuid[]), CAST(:symbol AS text[]), CAST(:name AS text[]),
                     CAST(:asset_class AS text[]), CAST(:market AS text[]), CAST(:exchange AS text[]),
                     CAST(:currency AS text[]), CAST(:tick_size AS numeric[]), CAST(:tick_rule AS text[]),
                     CAST(:lot_size AS numeric[]), CAST(:fractionable AS boolean[]), CAST(:shortable AS boolean[]))
ON CONFLICT DO NOTHING
RETURNING symbol
""")
_LOCK_TERMS = text(f"""
SELECT {", ".join(_TERMS)}, status, tradable FROM marketdata.instruments
WHERE symbol = ANY(:symbols) ORDER BY symbol FOR NO KEY UPDATE
""")
_READ_TERMS = text(f"SELECT {', '.join(_TERMS)} FROM marketdata.instruments WHERE symbol = ANY(:symbols)")
_PAIRS = text("SELECT symbol FROM marketdata.instruments WHERE symbol ~ '^[A-Z]{3}/[A-Z]{3}$'")
_CURRENCIES = text("""
SELECT DISTINCT currency FROM marketdata.instruments WHERE status = 'active' AND symbol !~ '^[A-Z]{3}/[A-Z]{3}$'
""")
_NOT_HALTED = text("""
SELECT symbol, market, asset_class, currency, split_count, tradable FROM marketdata.instruments
WHERE halted_at IS NULL ORDER BY symbol
""")
_POSITIONS_THERE = text("SELECT to_regclass('orders.positions_v1')")
_HELD = text("SELECT DISTINCT symbol FROM orders.positions_v1 WHERE symbol = ANY(:symbols) AND qty <> 0")
#: Our clock may be behind PostgreSQL's, and PostgreSQL's behind the one that the price came by.
IMPOSSIBLE = f"quoted_at > GREATEST(clock_timestamp(), %(now)s) + interval '{AHEAD.total_seconds()} seconds'"
_LOCK_KNOWN = f"""
SELECT symbol, currency, split_count, CASE WHEN {IMPOSSIBLE} THEN NULL ELSE quoted_at END AS quoted_at, last_price,
       provider, halted_at, resumed_at
FROM marketdata.instruments WHERE symbol = ANY(%(symbols)b::text[]) ORDER BY symbol FOR NO KEY UPDATE
"""
