"""The markets that marketdata publishes, read through its views, with a cache for callers that look often.

A changed session is seen within a second: the cache asks when the sessions of each market last changed.

The job engine has no SQL on marketdata's views: it is given these functions.
"""

from collections.abc import Iterable
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import ProgrammingError

from shared.clock import Clock
from shared.contracts.markets import MARKETS
from shared.jobs.schedule.calendar import Market, Phase, Session, market_without_sessions
from shared.storage.errors import is_transient

#: The cache is loaded anew after this time, and asks this often whether sessions have changed.
RELOAD_AFTER = timedelta(seconds=60)
LOOK_AFTER = timedelta(seconds=1)
#: The calendar caches the sessions of this time. A scheduler that was away decides the slots of all of it.
BACK = timedelta(days=370)
AHEAD = timedelta(days=370)


def load_markets(connection: Connection, codes: Iterable[str], begin: datetime, end: datetime) -> dict[str, Market]:
    """Load the published ones of the markets, by code, with their sessions that overlap ``begin`` to ``end``."""
    wanted = {"codes": sorted(set(codes)), "begin": begin, "end": end}
    sessions: dict[str, list[Session]] = {}
    for row in connection.execute(_SESSIONS, wanted):
        session = Session(row.day, Phase(row.phase), row.open_at, row.close_at)
        sessions.setdefault(row.market, []).append(session)
    return {
        row.code: Market(row.code, ZoneInfo(row.timezone), tuple(sessions.get(row.code, ())), row.always_open)
        for row in connection.execute(_MARKETS, wanted)
    }


def load_market(connection: Connection, code: str, begin: datetime, end: datetime) -> Market | None:
    """Load one market as ``load_markets`` does, or None while it is not published."""
    return load_markets(connection, [code], begin, end).get(code)


def open_markets(connection: Connection, now: datetime) -> list[str]:
    """List the markets that are in regular trading now."""
    return list(connection.execute(_OPEN, {"now": now}).scalars())


def sessions_changed_at(connection: Connection) -> dict[str, str | None]:
    """Market → when its sessions last changed. None also for a release of marketdata that does not say it."""
    return {row.code: row.changed_at for row in connection.execute(_CHANGED)}


class PublishedCalendar:
    """The markets as they were within the last second. Not thread-safe."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        self._markets: dict[str, Market] = {}
        self._fresh_until: datetime | None = None
        self._look_at: datetime | None = None
        self._changed_at: dict[str, str | None] = {}
        self._told: dict[str, str | None] | None = None

    def market(self, code: str) -> Market:
        """Look up a known market, which has no sessions until marketdata publishes it.

        Raises KeyError for an unknown market, and SQLAlchemyError at each look-up while the database is down.
        """
        if MARKETS[code].always_open:
            return market_without_sessions(code)
        now = self._clock()
        if self._is_stale(now) or code not in self._markets:
            codes = {*self._markets, code}
            with self._engine.connect() as connection:
                changed_at = sessions_changed_at(connection)  # before the sessions: a later change is seen again
                published = load_markets(connection, codes, now - BACK, now + AHEAD)
            self._markets = {each: published.get(each) or market_without_sessions(each) for each in codes}
            self._changed_at, self._fresh_until, self._look_at = changed_at, now + RELOAD_AFTER, now + LOOK_AFTER
        return self._markets[code]

    def changed(self) -> list[str]:
        """List the markets whose sessions have changed since the last call. None at the first one.

        Before marketdata has migrated there are none.
        """
        try:
            with self._engine.connect() as connection:
                found = sessions_changed_at(connection)
        except ProgrammingError as error:
            if is_transient(error):
                return []
            raise
        before, self._told = self._told, found
        return [] if before is None else sorted(code for code, at in found.items() if at != before.get(code))

    def _is_stale(self, now: datetime) -> bool:
        if self._fresh_until is None or self._look_at is None or now >= self._fresh_until:
            return True
        if now < self._look_at:
            return False
        self._look_at = now + LOOK_AFTER
        with self._engine.connect() as connection:
            return sessions_changed_at(connection) != self._changed_at


_MARKETS = text("SELECT code, timezone, always_open FROM marketdata.markets_v1 WHERE code = ANY(:codes)")
_SESSIONS = text("""
SELECT market, day, phase, open_at, close_at FROM marketdata.sessions_v2
WHERE market = ANY(:codes) AND close_at > :begin AND open_at < :end ORDER BY open_at
""")
#: The view of an earlier release lacks the column.
_CHANGED = text("SELECT code, to_jsonb(m) ->> 'sessions_changed_at' AS changed_at FROM marketdata.markets_v1 m")
_OPEN = text("SELECT DISTINCT market FROM marketdata.sessions_v1 WHERE open_at <= :now AND close_at > :now")
