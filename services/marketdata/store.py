"""The rows of marketdata: one statement per table, however many symbols a batch has."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from sqlalchemy import Connection, text

from services.marketdata.domain.quote import Quote
from services.marketdata.domain.sessions import Session
from shared.contracts.markets import KnownMarket


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


def add_markets(connection: Connection, markets: Iterable[KnownMarket]) -> None:
    """Write the markets; one that is there gets the name and clock that it has now."""
    connection.execute(_ADD_MARKETS, _columns(list(markets), "code", "name", "timezone", "always_open"))


def replace_sessions(
    connection: Connection, markets: Sequence[str], first: date, last: date, sessions: Sequence[Session]
) -> tuple[int, int]:
    """Make these the markets' sessions of the days from ``first`` to ``last``; how many were written, and removed.

    What is there and right is not written again.
    """
    columns = _columns(sessions, "market", "day", "kind", "open_at", "close_at", "early_close")
    values = {"markets": list(markets), "first": first, "last": last, **columns}
    row = connection.execute(_REPLACE_SESSIONS, values).one()
    return row.written, row.removed


def tradable(connection: Connection) -> dict[str, int]:
    """The symbols whose prices are taken now, none of them halted: symbol → the number of its splits."""
    return {row.symbol: row.split_count for row in connection.execute(_TRADABLE)}


def lock_split_counts(connection: Connection, symbols: Sequence[str]) -> dict[str, int]:
    """The number of splits of each of these symbols; splits, halts and prices of them wait meanwhile."""
    return {row.symbol: row.split_count for row in connection.execute(_LOCK_SPLIT_COUNTS, {"symbols": symbols})}


def provider_state(connection: Connection, provider: str) -> dict[str, Any] | None:
    """The provider's state; None before its first answer."""
    state: dict[str, Any] | None = connection.execute(_PROVIDER_STATE, {"provider": provider}).scalar_one_or_none()
    return state


def lock_provider_state(connection: Connection, provider: str) -> dict[str, Any] | None:
    """The provider's state; the lock lets one answer at a time move it on."""
    connection.execute(_ADD_PROVIDER, {"provider": provider})
    state: dict[str, Any] | None = connection.execute(_LOCK_PROVIDER, {"provider": provider}).scalar_one()
    return state


def save_provider_state(connection: Connection, provider: str, state: dict[str, Any] | None, now: datetime) -> None:
    connection.execute(_SAVE_PROVIDER, {"provider": provider, "state": json.dumps(state), "now": now})


@dataclass(frozen=True)
class Update:
    """``sequence`` counts a symbol's updates, ``split_count`` its splits; ``since`` is the time of the update before.

    ``market`` is that of the instrument. The first update ``after_halt`` has none before it.
    """

    sequence: int
    since: datetime | None
    split_count: int = 0
    market: str = ""
    after_halt: bool = False


def update_prices(connection: Connection, quotes: Sequence[Quote]) -> dict[str, Update]:
    """Write the quotes as the instruments' current prices: symbol → its place among the symbol's updates.

    A quote older than what is there, one from before the end of a halt, and one of an instrument that is halted or
    unknown, changes nothing and is left out.
    """
    columns = _columns(quotes, "symbol", "provider", "last", "bid", "ask", "bid_size", "ask_size", "open")
    columns |= _columns(quotes, "high", "low", "volume", "quoted_at")
    return {
        row.symbol: Update(row.sequence, row.since, row.split_count, row.market, row.after_halt)
        for row in connection.execute(_UPDATE_PRICES, columns)
    }


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


def _columns(items: Sequence[object], *names: str) -> dict[str, Any]:
    return {name: [getattr(item, name) for item in items] for name in names}


_ADD_INSTRUMENT = text("""
INSERT INTO marketdata.instruments (id, symbol, name, asset_class, market, currency, tick_size)
VALUES (:id, :symbol, :name, :asset_class, :market, :currency, :tick_size)
ON CONFLICT DO NOTHING
""")
_ADD_MARKETS = text("""
INSERT INTO marketdata.markets (code, name, timezone, always_open)
SELECT * FROM unnest(CAST(:code AS text[]), CAST(:name AS text[]), CAST(:timezone AS text[]),
                     CAST(:always_open AS boolean[]))
ON CONFLICT (code) DO UPDATE SET
  name = excluded.name, timezone = excluded.timezone, always_open = excluded.always_open
""")
_REPLACE_SESSIONS = text("""
WITH given AS (
  SELECT * FROM unnest(CAST(:market AS text[]), CAST(:day AS date[]), CAST(:kind AS text[]),
                       CAST(:open_at AS timestamptz[]), CAST(:close_at AS timestamptz[]),
                       CAST(:early_close AS boolean[]))
    AS g (market, day, kind, open_at, close_at, early_close)
), removed AS (
  DELETE FROM marketdata.market_sessions s
  WHERE s.market = ANY(:markets) AND s.day BETWEEN :first AND :last
    AND NOT EXISTS (SELECT FROM given WHERE given.market = s.market AND given.open_at = s.open_at)
  RETURNING 1
), written AS (
  INSERT INTO marketdata.market_sessions AS s (market, day, kind, open_at, close_at, early_close)
  SELECT market, day, kind, open_at, close_at, early_close FROM given
  ON CONFLICT (market, open_at) DO UPDATE SET
    day = excluded.day, kind = excluded.kind, close_at = excluded.close_at, early_close = excluded.early_close
  WHERE (s.day, s.kind, s.close_at, s.early_close)
        IS DISTINCT FROM (excluded.day, excluded.kind, excluded.close_at, excluded.early_close)
  RETURNING 1
)
SELECT (SELECT count(*) FROM written) AS written, (SELECT count(*) FROM removed) AS removed
""")
_TRADABLE = text(
    "SELECT symbol, split_count FROM marketdata.instruments WHERE tradable AND halted_at IS NULL ORDER BY symbol"
)
_LOCK_SPLIT_COUNTS = text("""
SELECT symbol, split_count FROM marketdata.instruments WHERE symbol = ANY(:symbols) ORDER BY symbol FOR NO KEY UPDATE
""")
_PROVIDER_STATE = text("SELECT state FROM marketdata.provider_states WHERE provider = :provider")
_ADD_PROVIDER = text("INSERT INTO marketdata.provider_states (provider) VALUES (:provider) ON CONFLICT DO NOTHING")
_LOCK_PROVIDER = text("SELECT state FROM marketdata.provider_states WHERE provider = :provider FOR UPDATE")
_SAVE_PROVIDER = text("""
UPDATE marketdata.provider_states SET state = CAST(:state AS jsonb), updated_at = :now WHERE provider = :provider
""")
_UPDATE_PRICES = text("""
UPDATE marketdata.instruments i SET
  sequence = i.sequence + 1, provider = v.provider, last_price = v.last, bid = v.bid, ask = v.ask,
  bid_size = v.bid_size, ask_size = v.ask_size, open = v.open, high = v.high, low = v.low, volume = v.volume,
  quoted_at = v.quoted_at, since = CASE WHEN i.resumed_at > i.quoted_at THEN NULL ELSE i.quoted_at END
FROM unnest(CAST(:symbol AS text[]), CAST(:provider AS text[]), CAST(:last AS numeric[]), CAST(:bid AS numeric[]),
            CAST(:ask AS numeric[]), CAST(:bid_size AS numeric[]), CAST(:ask_size AS numeric[]),
            CAST(:open AS numeric[]), CAST(:high AS numeric[]), CAST(:low AS numeric[]),
            CAST(:volume AS numeric[]), CAST(:quoted_at AS timestamptz[]))
  AS v (symbol, provider, last, bid, ask, bid_size, ask_size, open, high, low, volume, quoted_at)
WHERE i.symbol = v.symbol AND (i.quoted_at IS NULL OR i.quoted_at < v.quoted_at)
  AND i.halted_at IS NULL AND (i.resumed_at IS NULL OR i.resumed_at <= v.quoted_at)
RETURNING i.symbol, i.sequence, i.since, i.split_count, i.market,
          i.since IS NULL AND i.resumed_at IS NOT NULL AS after_halt
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
