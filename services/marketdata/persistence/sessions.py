"""Markets, their sessions and their trading days."""

from collections.abc import Iterable, Sequence
from datetime import date, datetime

from sqlalchemy import Connection, text

from services.marketdata.domain.official import TradingDay
from services.marketdata.domain.sessions import Session
from services.marketdata.persistence.columns import columns
from shared.contracts.markets import KnownMarket


def add_markets(connection: Connection, markets: Iterable[KnownMarket]) -> None:
    """Add the markets. A market that exists gets its present name and clock."""
    connection.execute(_ADD_MARKETS, columns(list(markets), "code", "name", "timezone", "always_open"))


def replace_sessions(
    connection: Connection, markets: Sequence[str], first: date, last: date, sessions: Sequence[Session]
) -> tuple[int, int]:
    """Make these the markets' sessions from ``first`` to ``last``, and return the numbers of rows written and removed.

    A row that is right already is not written again.
    """
    given = columns(sessions, "market", "day", "kind", "open_at", "close_at", "early_close")
    row = connection.execute(_REPLACE_SESSIONS, {"markets": list(markets), "first": first, "last": last, **given}).one()
    return row.written, row.removed


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
_OPEN = text("""
SELECT DISTINCT market FROM marketdata.sessions_v1 WHERE market = ANY(:markets) AND open_at <= :at AND close_at > :at
""")
_TRADING_DAYS = text("""
SELECT market, day, open_at, close_at FROM marketdata.trading_days_v1
WHERE market = ANY(:markets) AND day BETWEEN CAST(:first AS date) - 1 AND CAST(:last AS date) + 1
ORDER BY market, day
""")
