"""The markets as marketdata publishes them, and a memory of them for whoever looks often."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, Engine, text

from shared.clock import Clock
from shared.contracts.markets import MARKETS
from shared.jobs.schedule.calendar import Market, Phase, Session

#: A changed session is known so much later at the most.
RELOAD_AFTER = timedelta(seconds=60)
#: The part of the calendar that is remembered.
BACK = timedelta(days=8)
AHEAD = timedelta(days=370)


def load_markets(connection: Connection, codes: Iterable[str], begin: datetime, end: datetime) -> dict[str, Market]:
    """Those of the markets that are published, by code; of their sessions those that overlap begin to end."""
    wanted = {"codes": sorted(set(codes)), "begin": begin, "end": end}
    sessions: dict[str, list[Session]] = {}
    for row in connection.execute(_SESSIONS, wanted):
        session = Session(row.day, Phase(row.phase), row.open_at, row.close_at)
        sessions.setdefault(row.market, []).append(session)
    return {row.code: _market(row, sessions.get(row.code, [])) for row in connection.execute(_MARKETS, wanted)}


def _market(row: Any, sessions: list[Session]) -> Market:
    return Market(row.code, ZoneInfo(row.timezone), tuple(sessions), always_open=row.always_open)


@cache
def _unpublished(code: str) -> Market:
    known = MARKETS[code]
    return Market(code, ZoneInfo(known.timezone), always_open=known.always_open)


class Calendar:
    """Markets as they were within the last minute. For one thread; errors of the database are raised at each look."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock
        self._markets: dict[str, Market] = {}
        self._fresh_until: datetime | None = None

    def market(self, code: str) -> Market:
        """One of the known markets; without sessions as long as marketdata has not published it."""
        if MARKETS[code].always_open:
            return _unpublished(code)
        now = self._clock()
        if self._fresh_until is None or now >= self._fresh_until or code not in self._markets:
            self._load({*self._markets, code}, now)
        return self._markets[code]

    def _load(self, codes: set[str], now: datetime) -> None:
        with self._engine.connect() as connection:
            published = load_markets(connection, codes, now - BACK, now + AHEAD)
        self._markets = {code: published.get(code) or _unpublished(code) for code in codes}
        self._fresh_until = now + RELOAD_AFTER


_MARKETS = text("SELECT code, timezone, always_open FROM marketdata.markets_v1 WHERE code = ANY(:codes)")
_SESSIONS = text("""
SELECT market, day, phase, open_at, close_at FROM marketdata.sessions_v2
WHERE market = ANY(:codes) AND close_at > :begin AND open_at < :end ORDER BY open_at
""")
