"""Markets, their sessions and their trading days."""

from collections.abc import Iterable, Sequence
from datetime import date, datetime
from typing import NamedTuple

from sqlalchemy import Connection, text

from services.marketdata.domain.differences import Difference
from services.marketdata.domain.official import TradingDay
from services.marketdata.domain.sessions import Session
from services.marketdata.persistence.columns import columns
from shared.contracts.markets import KnownMarket


class Rewritten(NamedTuple):
    """A day of which rows were written, and rows removed or corrected."""

    market: str
    day: date
    written: int
    removed: int
    corrected: int


def add_markets(connection: Connection, markets: Iterable[KnownMarket]) -> None:
    """Add the markets. A market that exists gets its present name and clock."""
    connection.execute(_ADD_MARKETS, columns(list(markets), "code", "name", "timezone", "always_open"))


def lock_markets(connection: Connection, markets: Sequence[str]) -> None:
    """Let other changes of the markets' sessions wait."""
    connection.execute(_LOCK_MARKETS, {"markets": list(markets)})


def replace_sessions(
    connection: Connection, markets: Sequence[str], first: date, last: date, sessions: Sequence[Session]
) -> list[Rewritten]:
    """Make these the markets' sessions from ``first`` to ``last``, and return the days that this changed.

    A row that is right already is not written again.
    """
    given = columns(sessions, "market", "day", "kind", "open_at", "close_at", "early_close", "forecast")
    window = {"markets": list(markets), "first": first, "last": last}
    return [Rewritten(*row) for row in connection.execute(_REPLACE_SESSIONS, {**window, **given})]


def sessions_of_day(connection: Connection, market: str, day: date) -> list[Session]:
    """The stored sessions of the day, in order."""
    return [Session(*row) for row in connection.execute(_OF_DAY, {"market": market, "day": day})]


def replace_differences(
    connection: Connection,
    markets: Sequence[str],
    first: date,
    last: date,
    differences: Sequence[Difference],
    now: datetime,
) -> list[tuple[str, date]]:
    """Make these the markets' differences in that time, and return the market and day of those that are new."""
    names = "market", "day", "kind", "source", "open_at", "close_at", "other_open_at", "other_close_at", "known"
    window = {"markets": list(markets), "first": first, "last": last, "now": now}
    found = connection.execute(_DIFFERENCES, {**window, **columns(differences, *names)})
    return [(row.market, row.day) for row in found]


def open_markets(connection: Connection, markets: Iterable[str], at: datetime) -> set[str]:
    """The markets that are in regular trading at that time."""
    return set(connection.execute(_OPEN, {"markets": sorted(markets), "at": at}).scalars())


def trading_days(
    connection: Connection, markets: Sequence[str], first: datetime, last: datetime
) -> dict[str, list[TradingDay]]:
    """Market → its trading days from the day before ``first`` to the day after ``last``, in order."""
    days: dict[str, list[TradingDay]] = {}
    for row in connection.execute(_TRADING_DAYS, {"markets": markets, "first": first, "last": last}):
        days.setdefault(row.market, []).append(TradingDay(row.market, row.day, row.open_at, row.close_at))
    return days


_ADD_MARKETS = text("""
INSERT INTO marketdata.markets (code, name, timezone, always_open)
SELECT * FROM unnest(CAST(:code AS text[]), CAST(:name AS text[]), CAST(:timezone AS text[]),
                     CAST(:always_open AS boolean[]))
ON CONFLICT (code) DO UPDATE SET
  name = excluded.name, timezone = excluded.timezone, always_open = excluded.always_open
""")
_LOCK_MARKETS = text("SELECT FROM marketdata.markets WHERE code = ANY(:markets) ORDER BY code FOR NO KEY UPDATE")
#: A row that a conflict updates has a transaction that locked it, a new row has none.
_REPLACE_SESSIONS = text("""
WITH given AS (
  SELECT * FROM unnest(CAST(:market AS text[]), CAST(:day AS date[]), CAST(:kind AS text[]),
                       CAST(:open_at AS timestamptz[]), CAST(:close_at AS timestamptz[]),
                       CAST(:early_close AS boolean[]), CAST(:forecast AS boolean[]))
    AS g (market, day, kind, open_at, close_at, early_close, forecast)
), removed AS (
  DELETE FROM marketdata.market_sessions s
  WHERE s.market = ANY(:markets) AND s.day BETWEEN :first AND :last
    AND NOT EXISTS (SELECT FROM given WHERE given.market = s.market AND given.open_at = s.open_at)
  RETURNING s.market, s.day
), written AS (
  INSERT INTO marketdata.market_sessions AS s (market, day, kind, open_at, close_at, early_close, forecast)
  SELECT market, day, kind, open_at, close_at, early_close, forecast FROM given
  ON CONFLICT (market, open_at) DO UPDATE SET
    day = excluded.day, kind = excluded.kind, close_at = excluded.close_at, early_close = excluded.early_close,
    forecast = excluded.forecast
  WHERE (s.day, s.kind, s.close_at, s.early_close, s.forecast)
        IS DISTINCT FROM (excluded.day, excluded.kind, excluded.close_at, excluded.early_close, excluded.forecast)
  RETURNING s.market, s.day, xmax <> 0 AS corrected
), changed AS (
  SELECT market, day, 1 AS written, 0 AS removed, CAST(corrected AS int) AS corrected FROM written
  UNION ALL SELECT market, day, 0, 1, 0 FROM removed
), marked AS (
  UPDATE marketdata.markets SET sessions_changed_at = clock_timestamp() WHERE code IN (SELECT market FROM changed)
)
SELECT market, day, CAST(sum(written) AS int) AS written, CAST(sum(removed) AS int) AS removed,
       CAST(sum(corrected) AS int) AS corrected
FROM changed GROUP BY market, day ORDER BY market, day
""")
_OF_DAY = text("""
SELECT market, day, kind, open_at, close_at, early_close, forecast FROM marketdata.market_sessions
WHERE market = :market AND day = :day ORDER BY open_at
""")
_DIFFERENCES = text("""
WITH given AS (
  SELECT * FROM unnest(CAST(:market AS text[]), CAST(:day AS date[]), CAST(:kind AS text[]), CAST(:source AS text[]),
                       CAST(:open_at AS timestamptz[]), CAST(:close_at AS timestamptz[]),
                       CAST(:other_open_at AS timestamptz[]), CAST(:other_close_at AS timestamptz[]),
                       CAST(:known AS text[]))
    AS g (market, day, kind, source, open_at, close_at, other_open_at, other_close_at, known)
), resolved AS (
  DELETE FROM marketdata.session_differences d
  WHERE d.market = ANY(:markets) AND (d.day BETWEEN :first AND :last OR d.kind = 'usual_hours')
    AND NOT EXISTS (SELECT FROM given WHERE given.market = d.market AND given.day = d.day)
)
INSERT INTO marketdata.session_differences AS d
  (market, day, kind, source, open_at, close_at, other_open_at, other_close_at, known, found_at)
SELECT given.*, :now FROM given
ON CONFLICT (market, day) DO UPDATE SET
  kind = excluded.kind, source = excluded.source, open_at = excluded.open_at, close_at = excluded.close_at,
  other_open_at = excluded.other_open_at, other_close_at = excluded.other_close_at, known = excluded.known,
  found_at = excluded.found_at
WHERE (d.kind, d.source, d.open_at, d.close_at, d.other_open_at, d.other_close_at, d.known)
  IS DISTINCT FROM (excluded.kind, excluded.source, excluded.open_at, excluded.close_at, excluded.other_open_at,
                    excluded.other_close_at, excluded.known)
RETURNING d.market, d.day
""")
_OPEN = text("""
SELECT DISTINCT market FROM marketdata.sessions_v1 WHERE market = ANY(:markets) AND open_at <= :at AND close_at > :at
""")
_TRADING_DAYS = text("""
SELECT market, day, open_at, close_at FROM marketdata.trading_days_v1
WHERE market = ANY(:markets) AND day BETWEEN CAST(:first AS date) - 1 AND CAST(:last AS date) + 1
ORDER BY market, day
""")
