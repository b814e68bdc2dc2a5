"""Current prices, OHLCV bars and the providers' states: one statement per table, however many symbols a batch has.

Prices and bars go through our own driver: SQLAlchemy would encode their thousands of numbers one by one in Python.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, text

from services.marketdata.domain.quote import Quote
from services.marketdata.persistence.columns import columns
from services.marketdata.persistence.instruments import IMPOSSIBLE
from shared.storage.driver import Call, Values, fetch, numbers


def provider_state(connection: Connection, provider: str) -> dict[str, Any] | None:
    """The provider's state. None before its first answer."""
    state: dict[str, Any] | None = connection.execute(_PROVIDER_STATE, {"provider": provider}).scalar_one_or_none()
    return state


def lock_provider_state(connection: Connection, provider: str) -> dict[str, Any] | None:
    """The provider's state, locked so that one answer at a time moves it on."""
    connection.execute(_ADD_PROVIDER, {"provider": provider})
    state: dict[str, Any] | None = connection.execute(_LOCK_PROVIDER, {"provider": provider}).scalar_one()
    return state


def save_provider_state(connection: Connection, provider: str, state: dict[str, Any] | None, now: datetime) -> None:
    connection.execute(_SAVE_PROVIDER, {"provider": provider, "state": json.dumps(state), "now": now})


@dataclass(frozen=True)
class Update:
    """A new current price of an instrument. ``sequence`` counts its updates, ``split_count`` its splits.

    ``since`` is the time of the update before. The first update ever, and the first ``after_halt``, has none before it.
    ``bar_start`` is the start of the provider's bar. After a halt it is the time of the price, when trading resumed.
    """

    sequence: int
    since: datetime | None
    split_count: int = 0
    market: str = ""
    after_halt: bool = False
    bar_start: datetime | None = None


def save_prices(connection: Connection, quotes: Sequence[Quote], now: datetime) -> dict[str, Update]:
    """Write the quotes as the instruments' current prices: symbol → the update.

    A quote that is not newer than the current price, one from before the end of a halt, and one of an instrument that
    is halted or unknown, changes nothing and is left out. A current price whose time is impossible gives way to any.
    """
    given: Values = columns(quotes, "symbol", "provider", "quoted_at", "bar_start", "delayed") | _numbers(
        quotes, "last", "bid", "ask", "bid_size", "ask_size", "open", "high", "low", "volume"
    )
    given["received_at"] = [quote.received_at or now for quote in quotes]
    given["now"] = now
    return {
        row.symbol: Update(row.sequence, row.since, row.split_count, row.market, row.after_halt, row.bar_start)
        for row in fetch(connection, _SAVE_PRICES, given)
    }


def adding_bars(quotes: Sequence[Quote], interval: str, length: timedelta | None) -> Call:
    """The statement that adds the quotes' bars to the OHLCV table, and merges those that fall into the same bar.

    ``length`` is the interval's. None keeps one bar per quote.
    """
    given: Values = columns(quotes, "symbol", "provider") | _numbers(quotes, "open", "high", "low", "close", "volume")
    given["starts"] = [bar_start(quote.bar_start or quote.quoted_at, length) for quote in quotes]
    return _ADD_BARS, {**given, "interval": interval}


def _numbers(quotes: Sequence[Quote], *names: str) -> Values:
    """Each named number of the quotes as an array."""
    return {name: numbers(column) for name, column in columns(quotes, *names).items()}


def bar_start(at: datetime, length: timedelta | None) -> datetime:
    """The start of the bar that ``at`` lies in, counted from midnight UTC."""
    if length is None:
        return at
    midnight = at.replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight + (at - midnight) // length * length


_PROVIDER_STATE = text("SELECT state FROM marketdata.provider_states WHERE provider = :provider")
_ADD_PROVIDER = text("INSERT INTO marketdata.provider_states (provider) VALUES (:provider) ON CONFLICT DO NOTHING")
_LOCK_PROVIDER = text("SELECT state FROM marketdata.provider_states WHERE provider = :provider FOR UPDATE")
_SAVE_PROVIDER = text("""
UPDATE marketdata.provider_states SET state = CAST(:state AS jsonb), updated_at = :now WHERE provider = :provider
""")
_SAVE_PRICES = f"""
UPDATE marketdata.instruments i SET
  sequence = i.sequence + 1, provider = v.provider, last_price = v.last, bid = v.bid, ask = v.ask,
  bid_size = v.bid_size, ask_size = v.ask_size, volume = v.volume,
  -- the bar of the first price after a halt reaches into it
  open = CASE WHEN i.resumed_at > i.quoted_at THEN v.last ELSE v.open END,
  high = CASE WHEN i.resumed_at > i.quoted_at THEN v.last ELSE v.high END,
  low = CASE WHEN i.resumed_at > i.quoted_at THEN v.last ELSE v.low END,
  received_at = v.received_at, delayed = v.delayed,
  quoted_at = v.quoted_at,
  since = CASE WHEN i.resumed_at > i.quoted_at OR i.{IMPOSSIBLE} THEN NULL ELSE i.quoted_at END,
  bar_start = CASE WHEN i.resumed_at > i.quoted_at THEN v.quoted_at ELSE v.bar_start END
FROM unnest(%(symbol)b::text[], %(provider)b::text[], %(last)s::numeric[], %(bid)s::numeric[], %(ask)s::numeric[],
            %(bid_size)s::numeric[], %(ask_size)s::numeric[], %(open)s::numeric[], %(high)s::numeric[],
            %(low)s::numeric[], %(volume)s::numeric[], %(quoted_at)b::timestamptz[], %(bar_start)b::timestamptz[],
            %(received_at)b::timestamptz[], %(delayed)b::boolean[])
  AS v (symbol, provider, last, bid, ask, bid_size, ask_size, open, high, low, volume, quoted_at, bar_start,
        received_at, delayed)
WHERE i.symbol = v.symbol AND (i.quoted_at IS NULL OR i.quoted_at < v.quoted_at OR i.{IMPOSSIBLE})
  AND i.halted_at IS NULL AND (i.resumed_at IS NULL OR i.resumed_at <= v.quoted_at)
RETURNING i.symbol, i.sequence, i.since, i.bar_start, i.split_count, i.market,
          i.since IS NULL AND i.resumed_at IS NOT NULL AS after_halt
"""
_ADD_BARS = """
INSERT INTO marketdata.market_data AS bar
  (symbol, interval, start_at, open, high, low, close, volume, provider)
SELECT v.symbol, CAST(%(interval)s AS text), v.start_at, v.open, v.high, v.low, v.close, v.volume, v.provider
FROM unnest(%(symbol)b::text[], %(starts)b::timestamptz[], %(open)s::numeric[], %(high)s::numeric[],
            %(low)s::numeric[], %(close)s::numeric[], %(volume)s::numeric[], %(provider)b::text[])
  AS v (symbol, start_at, open, high, low, close, volume, provider)
ON CONFLICT (symbol, interval, start_at) DO UPDATE SET
  high = GREATEST(bar.high, excluded.high), low = LEAST(bar.low, excluded.low), close = excluded.close,
  volume = bar.volume + excluded.volume
WHERE bar.origin = 'live'  -- a whole bar has these trades in it already
"""
