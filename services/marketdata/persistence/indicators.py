"""Indicators: their rows, the bars that they are computed of, and their values. Times are microseconds since 1970 UTC.

A statement takes all series of a batch, so their number does not depend on that of the series.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

import numpy as np
from sqlalchemy import Connection, text

from services.marketdata.persistence.columns import columns
from services.marketdata.persistence.columns_of_arrays import floats, integers, time_of, times
from shared.contracts.indicators import IndicatorName
from shared.indicators.bars import Array, Times
from shared.indicators.series import Wanted
from shared.storage.driver import fetch

Key = tuple[str, str]


@dataclass(frozen=True)
class SeriesRow:
    """A series of bars with indicators. ``dirty_from`` is the first bar whose values are to be computed again."""

    symbol: str
    interval: str
    market: str
    version: int
    computed_to: datetime | None
    dirty_from: datetime | None

    @property
    def key(self) -> Key:
        return self.symbol, self.interval


@dataclass(frozen=True)
class StoredBars:
    """Columns of bars in today's shares, oldest first."""

    starts: Times
    highs: Array
    lows: Array
    closes: Array
    volumes: Array

    def __len__(self) -> int:
        return len(self.starts)


NO_BARS = StoredBars(np.empty(0, dtype=np.int64), *(np.empty(0) for _ in range(4)))


@dataclass(frozen=True)
class Values:
    """The values of the indicators of a series: a row for each start."""

    key: Key
    starts: Times
    rows: Array


def mark_changed(connection: Connection) -> int:
    """Mark the series whose bars were changed, or whose prices have another split, and return their number."""
    return connection.execute(_MARK_CHANGED).rowcount


def series_keys(connection: Connection, *, dirty: bool) -> list[Key]:
    """Return the series that are to be computed again, or all others, in order."""
    return [(row.symbol, row.interval) for row in connection.execute(_KEYS, {"dirty": dirty})]


def lock_series(connection: Connection, keys: Sequence[Key], *, dirty: bool) -> list[SeriesRow]:
    """Lock those of the series that are to be computed again, or all others of them, and return them in order."""
    return [SeriesRow(*row) for row in fetch(connection, _LOCK_SERIES, {**_named(keys), "dirty": dirty})]


def wanted(connection: Connection, keys: Sequence[Key]) -> dict[Key, list[Wanted]]:
    """Return the indicators of each of the series."""
    found: dict[Key, list[Wanted]] = {key: [] for key in keys}
    for row in connection.execute(_WANTED, _named(keys)):
        parameters = {name: Decimal(value) for name, value in row.parameters.items()}
        made = Wanted(IndicatorName(row.name), parameters, row.interval, row.slot)
        found[row.symbol, row.interval].append(made)
    return found


def last_bars(
    connection: Connection, keys: Sequence[Key], until: Sequence[datetime], most: Sequence[int]
) -> list[StoredBars]:
    """Return the last bars of each series up to that start, at most so many."""
    return _bars(connection, _LAST_BARS, keys, until=until, most=most)


def next_bars(
    connection: Connection, keys: Sequence[Key], since: Sequence[datetime], until: Sequence[datetime], most: int
) -> list[StoredBars]:
    """Return the first bars of each series from one start to another, at most so many."""
    return _bars(connection, _NEXT_BARS, keys, since=since, until=until, most=[most] * len(keys))


def _bars(connection: Connection, statement: str, keys: Sequence[Key], **given: Any) -> list[StoredBars]:
    found = [NO_BARS] * len(keys)
    for row in fetch(connection, statement, {**_named(keys), **given}):
        if row.starts is not None:
            values = (np.array(each) for each in (row.highs, row.lows, row.closes, row.volumes))
            found[row.series - 1] = StoredBars(np.array(row.starts, dtype=np.int64), *values)
    return found


def trading_days(
    connection: Connection, markets: Sequence[str], first: int, last: int
) -> Mapping[str, tuple[Times, Times]]:
    """Market → the opens and closes of its trading days that overlap with the stretch."""
    given = {"markets": markets, "first": time_of(first), "last": time_of(last)}
    rows = connection.execute(_TRADING_DAYS, given) if markets else ()
    return {row.market: (np.array(row.opens, dtype=np.int64), np.array(row.closes, dtype=np.int64)) for row in rows}


def stored_values(connection: Connection, keys: Sequence[Key], starts: Sequence[int]) -> dict[Key, list[float]]:
    """Return the stored values of each series at its start, but for those that have none there."""
    given = {**_named(keys), "starts": [time_of(start) for start in starts]}
    return {(row.symbol, row.interval): row.values for row in fetch(connection, _STORED, given)}


def remove_values(connection: Connection, key: Key, before: datetime) -> None:
    """Remove the values of the series from before that start."""
    symbol, interval = key
    connection.execute(_REMOVE_VALUES, {"symbol": symbol, "interval": interval, "before": before})


def obv_at(connection: Connection, key: Key, start: int) -> float:
    """Return the on-balance volume at that bar, from the first bar that is stored."""
    symbol, interval = key
    given = {"symbol": symbol, "interval": interval, "until": time_of(start)}
    value: float = connection.execute(_OBV, given).scalar_one()
    return value


def save_values(connection: Connection, values: Sequence[Values]) -> int:
    """Store the values, and return the number of bars whose values changed."""
    if not values:
        return 0
    widths = np.concatenate([np.full(len(each.starts), each.rows.shape[1]) for each in values])
    ends = np.cumsum(widths)
    given = {
        "symbols": [each.key[0] for each in values for _ in each.starts],
        "intervals": [each.key[1] for each in values for _ in each.starts],
        "starts": times(np.concatenate([each.starts for each in values])),
        "firsts": integers(ends - widths + 1),
        "lasts": integers(ends),
        "flat": floats(np.concatenate([each.rows.ravel() for each in values])),
    }
    (row,) = fetch(connection, _SAVE_VALUES, given)
    changed: int = row.changed
    return changed


def save_series(connection: Connection, rows: Sequence[SeriesRow]) -> None:
    """Store how far the series are computed."""
    if rows:
        fetch(connection, _SAVE_SERIES, columns(rows, "symbol", "interval", "version", "computed_to", "dirty_from"))


def mark_ready(connection: Connection, key: Key) -> None:
    """Note that all bars have the values of all indicators of the series."""
    symbol, interval = key
    connection.execute(_MARK_READY, {"symbol": symbol, "interval": interval})


def _named(keys: Sequence[Key]) -> dict[str, list[str]]:
    return {"symbols": [symbol for symbol, _ in keys], "intervals": [interval for _, interval in keys]}


_REMOVE_VALUES = text("""
DELETE FROM marketdata.indicator_values WHERE symbol = :symbol AND interval = :interval AND start_at < :before
""")
_MARK_READY = text("""
UPDATE marketdata.indicators SET ready = true WHERE symbol = :symbol AND interval = :interval AND NOT ready
""")
#: A bar that was noted and is after the last computed one, or is this one, is read by the next update anyway.
_MARK_CHANGED = text("""
WITH noted AS (
  DELETE FROM marketdata.changed_bars RETURNING symbol, interval, start_at
), earliest AS (
  SELECT symbol, interval, min(start_at) AS start_at FROM noted GROUP BY symbol, interval
), changed AS (
  SELECT s.symbol, s.interval, now_splits.splits,
         LEAST(CASE WHEN e.start_at < s.computed_to OR s.computed_to IS NULL THEN e.start_at END,
               CASE WHEN s.splits <> now_splits.splits THEN timestamptz 'epoch' END) AS start_at
  FROM marketdata.indicator_series s
  LEFT JOIN earliest e ON e.symbol = s.symbol AND e.interval = s.interval
  CROSS JOIN LATERAL (
    SELECT COALESCE(string_agg(c.effective_at || ' ' || c.new_shares || ':' || c.old_shares, ', '
                               ORDER BY c.effective_at, c.id), '') AS splits
    FROM marketdata.corporate_actions c
    WHERE c.symbol = s.symbol AND c.kind = 'split' AND c.split_count IS NOT NULL
  ) now_splits
)
UPDATE marketdata.indicator_series s SET
  version = s.version + 1, dirty_from = LEAST(s.dirty_from, c.start_at), splits = c.splits
FROM changed c WHERE c.symbol = s.symbol AND c.interval = s.interval AND c.start_at IS NOT NULL
""")
_KEYS = text("""
SELECT symbol, interval FROM marketdata.indicator_series WHERE (dirty_from IS NOT NULL) = :dirty
ORDER BY symbol, interval
""")
_OF_KEYS = "ON k.symbol = s.symbol AND k.interval = s.interval"
_LOCK_SERIES = f"""
SELECT s.symbol, s.interval, i.market, s.version, s.computed_to, s.dirty_from
FROM marketdata.indicator_series s
JOIN unnest(%(symbols)b::text[], %(intervals)b::text[]) AS k (symbol, interval) {_OF_KEYS}
JOIN marketdata.instruments i ON i.symbol = s.symbol
WHERE (s.dirty_from IS NOT NULL) = %(dirty)s ORDER BY s.symbol, s.interval FOR UPDATE OF s
"""
_WANTED = text(f"""
SELECT s.symbol, s.interval, s.name, s.parameters, s.slot FROM marketdata.indicators s
JOIN unnest(CAST(:symbols AS text[]), CAST(:intervals AS text[])) AS k (symbol, interval) {_OF_KEYS}
ORDER BY s.symbol, s.interval, s.slot
""")
_GIVEN = "%(symbols)b::text[], %(intervals)b::text[], %(until)b::timestamptz[], %(most)b::int[]"
_COLUMNS = """
SELECT k.series, b.*
FROM unnest({given}) WITH ORDINALITY AS k (symbol, interval, until, most{more}, series)
CROSS JOIN LATERAL (
  SELECT array_agg(CAST(EXTRACT(epoch FROM x.start_at) * 1000000 AS bigint) ORDER BY x.start_at) AS starts,
         array_agg(CAST(x.high AS float8) ORDER BY x.start_at) AS highs,
         array_agg(CAST(x.low AS float8) ORDER BY x.start_at) AS lows,
         array_agg(CAST(x.close AS float8) ORDER BY x.start_at) AS closes,
         array_agg(CAST(x.volume AS float8) ORDER BY x.start_at) AS volumes
  FROM (
    SELECT b.start_at, b.high, b.low, b.close, b.volume FROM marketdata.bars_v2 b
    WHERE b.symbol = k.symbol AND b.interval = k.interval AND b.start_at <= k.until {since}
    ORDER BY b.start_at {order} LIMIT k.most
  ) x
) b
"""
_LAST_BARS = _COLUMNS.format(given=_GIVEN, more="", since="", order="DESC")
_NEXT_BARS = _COLUMNS.format(
    given=f"{_GIVEN}, %(since)b::timestamptz[]", more=", since", since="AND b.start_at >= k.since", order=""
)
_TRADING_DAYS = text("""
SELECT market, array_agg(CAST(EXTRACT(epoch FROM open_at) * 1000000 AS bigint) ORDER BY open_at) AS opens,
       array_agg(CAST(EXTRACT(epoch FROM close_at) * 1000000 AS bigint) ORDER BY open_at) AS closes
FROM marketdata.trading_days_v1
WHERE market = ANY(:markets) AND day BETWEEN CAST(:first AS date) - 2 AND CAST(:last AS date) + 2
GROUP BY market
""")
_STORED = """
SELECT v.symbol, v.interval, v.values
FROM unnest(%(symbols)b::text[], %(intervals)b::text[], %(starts)b::timestamptz[]) AS k (symbol, interval, start_at)
JOIN marketdata.indicator_values v ON v.symbol = k.symbol AND v.interval = k.interval AND v.start_at = k.start_at
"""
#: As TA-Lib begins it: the first bar's volume counts as bought.
_OBV = text("""
SELECT CAST(COALESCE(sum(CASE WHEN before IS NULL OR close > before THEN volume WHEN close < before THEN -volume
                              ELSE 0 END), 0) AS float8)
FROM (
  SELECT close, volume, lag(close) OVER (ORDER BY start_at) AS before FROM marketdata.bars_v2
  WHERE symbol = :symbol AND interval = :interval AND start_at <= :until
) bars
""")
_SAVE_VALUES = """
WITH saved AS (
  INSERT INTO marketdata.indicator_values AS v (symbol, interval, start_at, values)
  SELECT symbol, interval, start_at, (%(flat)b::float8[])[first:last]
  FROM unnest(%(symbols)b::text[], %(intervals)b::text[], %(starts)b::timestamptz[], %(firsts)b::bigint[],
              %(lasts)b::bigint[]) AS k (symbol, interval, start_at, first, last)
  ON CONFLICT (symbol, interval, start_at) DO UPDATE SET values = excluded.values
  WHERE v.values IS DISTINCT FROM excluded.values
  RETURNING 1
)
SELECT count(*) AS changed FROM saved
"""
_SAVE_SERIES = """
UPDATE marketdata.indicator_series s SET
  version = k.version, computed_to = k.computed_to, dirty_from = k.dirty_from
FROM unnest(%(symbol)b::text[], %(interval)b::text[], %(version)b::bigint[], %(computed_to)b::timestamptz[],
            %(dirty_from)b::timestamptz[]) AS k (symbol, interval, version, computed_to, dirty_from)
WHERE s.symbol = k.symbol AND s.interval = k.interval
"""
