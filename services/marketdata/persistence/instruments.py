"""Instruments: their rows, the symbols whose prices are taken, and the number of splits of each."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from uuid import NAMESPACE_URL, uuid5

from sqlalchemy import Connection, text


@dataclass(frozen=True)
class Instrument:
    symbol: str
    name: str
    market: str = "DEMO"
    asset_class: str = "us_equity"
    currency: str = "USD"
    tick_size: Decimal = Decimal("0.01")


def add_instruments(connection: Connection, instruments: Iterable[Instrument]) -> None:
    """Add the instruments that are not there yet."""
    for instrument in instruments:
        connection.execute(
            _ADD_INSTRUMENT,
            {
                "id": uuid5(NAMESPACE_URL, f"paperprofit:instrument:{instrument.market}:{instrument.symbol}"),
                **vars(instrument),
            },
        )


def tradable(connection: Connection) -> dict[str, int]:
    """The symbols whose prices are taken now, none of them halted: symbol → number of its splits."""
    return {row.symbol: row.split_count for row in connection.execute(_TRADABLE)}


def lock_split_counts(connection: Connection, symbols: Sequence[str]) -> dict[str, int]:
    """Symbol → number of its splits. Splits, halts and prices of these symbols wait meanwhile."""
    return {row.symbol: row.split_count for row in connection.execute(_LOCK_SPLIT_COUNTS, {"symbols": symbols})}


_ADD_INSTRUMENT = text("""
INSERT INTO marketdata.instruments (id, symbol, name, asset_class, market, currency, tick_size)
VALUES (:id, :symbol, :name, :asset_class, :market, :currency, :tick_size)
ON CONFLICT DO NOTHING
""")
_TRADABLE = text(
    "SELECT symbol, split_count FROM marketdata.instruments WHERE tradable AND halted_at IS NULL ORDER BY symbol"
)
_LOCK_SPLIT_COUNTS = text("""
SELECT symbol, split_count FROM marketdata.instruments WHERE symbol = ANY(:symbols) ORDER BY symbol FOR NO KEY UPDATE
""")
