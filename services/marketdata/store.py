"""The rows of marketdata: one statement per table, however many symbols a batch has."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from sqlalchemy import Connection, text

from services.marketdata.domain.quote import Quote


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


def tradable_symbols(connection: Connection) -> list[str]:
    return [row.symbol for row in connection.execute(_SYMBOLS)]


def lock_provider_state(connection: Connection, provider: str) -> dict[str, Any] | None:
    """The provider's state; the lock lets one poll or push at a time move it on."""
    connection.execute(_ADD_PROVIDER, {"provider": provider})
    state: dict[str, Any] | None = connection.execute(_LOCK_PROVIDER, {"provider": provider}).scalar_one()
    return state


def save_provider_state(connection: Connection, provider: str, state: dict[str, Any] | None, now: datetime) -> None:
    connection.execute(_SAVE_PROVIDER, {"provider": provider, "state": json.dumps(state), "now": now})


def update_prices(connection: Connection, quotes: Sequence[Quote]) -> dict[str, int]:
    """Write the quotes as the instruments' current prices: symbol → its new sequence.

    A quote older than what is there, and one of an unknown instrument, changes nothing and is left out.
    """
    columns = _columns(quotes, "symbol", "provider", "last", "bid", "ask", "bid_size", "ask_size", "open")
    columns |= _columns(quotes, "high", "low", "volume", "quoted_at")
    return {row.symbol: row.sequence for row in connection.execute(_UPDATE_PRICES, columns)}


def add_bars(connection: Connection, quotes: Sequence[Quote], interval: str, length: timedelta | None) -> int:
    """Write the quotes' bars into the OHLCV table, merging those that fall into the same bar.

    ``length`` is the interval's; None keeps one bar per quote.
    """
    columns = _columns(quotes, "symbol", "open", "high", "low", "close", "volume", "provider")
    starts = [bar_start(quote.quoted_at, length) for quote in quotes]
    return connection.execute(_ADD_BARS, {**columns, "starts": starts, "interval": interval}).rowcount


def bar_start(at: datetime, length: timedelta | None) -> datetime:
    """The start of the bar that ``at`` lies in, counted from midnight UTC."""
    if length is None:
        return at
    midnight = at.replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight + (at - midnight) // length * length


def ensure_partitions(connection: Connection, now: datetime) -> None:
    """Make the OHLCV table's partitions for this month and the next, where they are missing.

    Bars of such a month that went to the default partition meanwhile move to their own.
    """
    first = now.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    for month in (first, _next_month(first)):
        name = f"marketdata.market_data_{month:%Y_%m}"
        if not _exists(connection, name):
            connection.execute(_LOCK_BARS)  # another replica may be making it
            if not _exists(connection, name):
                _make_partition(connection, name, month)


def _exists(connection: Connection, table: str) -> bool:
    return bool(connection.execute(_TABLE_THERE, {"name": table}).scalar_one())


def _make_partition(connection: Connection, name: str, month: datetime) -> None:
    start, end = (f"'{day:%Y-%m-%d} 00:00+00'" for day in (month, _next_month(month)))
    misplaced = f"FROM marketdata.market_data_other WHERE start_at >= {start} AND start_at < {end}"
    for statement in (
        f"CREATE TABLE {name} (LIKE marketdata.market_data INCLUDING ALL)",
        f"INSERT INTO {name} SELECT * {misplaced}",
        f"DELETE {misplaced}",
        f"ALTER TABLE marketdata.market_data ATTACH PARTITION {name} FOR VALUES FROM ({start}) TO ({end})",
    ):
        connection.execute(text(statement))


def _next_month(first: datetime) -> datetime:
    return (first + timedelta(days=32)).replace(day=1)


def _columns(quotes: Sequence[Quote], *names: str) -> dict[str, Any]:
    return {name: [getattr(quote, name) for quote in quotes] for name in names}


_ADD_INSTRUMENT = text("""
INSERT INTO marketdata.instruments (id, symbol, name, asset_class, market, currency, tick_size)
VALUES (:id, :symbol, :name, :asset_class, :market, :currency, :tick_size)
ON CONFLICT DO NOTHING
""")
_SYMBOLS = text("SELECT symbol FROM marketdata.instruments WHERE tradable ORDER BY symbol")
_ADD_PROVIDER = text("INSERT INTO marketdata.provider_states (provider) VALUES (:provider) ON CONFLICT DO NOTHING")
_LOCK_PROVIDER = text("SELECT state FROM marketdata.provider_states WHERE provider = :provider FOR UPDATE")
_SAVE_PROVIDER = text("""
UPDATE marketdata.provider_states SET state = CAST(:state AS jsonb), updated_at = :now WHERE provider = :provider
""")
_UPDATE_PRICES = text("""
UPDATE marketdata.instruments i SET
  sequence = i.sequence + 1, provider = v.provider, last_price = v.last, bid = v.bid, ask = v.ask,
  bid_size = v.bid_size, ask_size = v.ask_size, open = v.open, high = v.high, low = v.low, volume = v.volume,
  quoted_at = v.quoted_at
FROM unnest(CAST(:symbol AS text[]), CAST(:provider AS text[]), CAST(:last AS numeric[]), CAST(:bid AS numeric[]),
            CAST(:ask AS numeric[]), CAST(:bid_size AS numeric[]), CAST(:ask_size AS numeric[]),
            CAST(:open AS numeric[]), CAST(:high AS numeric[]), CAST(:low AS numeric[]),
            CAST(:volume AS numeric[]), CAST(:quoted_at AS timestamptz[]))
  AS v (symbol, provider, last, bid, ask, bid_size, ask_size, open, high, low, volume, quoted_at)
WHERE i.symbol = v.symbol AND (i.quoted_at IS NULL OR i.quoted_at < v.quoted_at)
RETURNING i.symbol, i.sequence
""")
_ADD_BARS = text("""
INSERT INTO marketdata.market_data AS bar
  (symbol, interval, start_at, open, high, low, close, volume, provider)
SELECT v.symbol, :interval, v.start_at, v.open, v.high, v.low, v.close, v.volume, v.provider
FROM unnest(CAST(:symbol AS text[]), CAST(:starts AS timestamptz[]), CAST(:open AS numeric[]),
            CAST(:high AS numeric[]), CAST(:low AS numeric[]), CAST(:close AS numeric[]),
            CAST(:volume AS numeric[]), CAST(:provider AS text[]))
  AS v (symbol, start_at, open, high, low, close, volume, provider)
ON CONFLICT (symbol, interval, start_at) DO UPDATE SET
  high = GREATEST(bar.high, excluded.high), low = LEAST(bar.low, excluded.low), close = excluded.close,
  volume = bar.volume + excluded.volume
""")
_TABLE_THERE = text("SELECT to_regclass(:name) IS NOT NULL")
_LOCK_BARS = text("LOCK TABLE marketdata.market_data IN SHARE ROW EXCLUSIVE MODE")
