"""Sessions of markets and their changes, from the views of marketdata."""

from datetime import date
from uuid import UUID

from sqlalchemy import Connection, text

from shared.storage.keyset import Record, records


def sessions(connection: Connection, market: str, first: date, last: date) -> list[Record]:
    """Return the market's sessions of these days in order, each with the reason of the day's change."""
    return records(connection, _SESSIONS, market=market, first=first, last=last)


def first_day(connection: Connection, market: str) -> date | None:
    """Return the first day whose sessions are stored."""
    day: date | None = connection.execute(_FIRST_DAY, {"market": market}).scalar_one()
    return day


def change(connection: Connection, change_id: UUID) -> Record | None:
    """Return the change, also one that has ended."""
    return next(iter(records(connection, _CHANGE, id=change_id)), None)


def trading_day(connection: Connection, market: str, day: date) -> Record | None:
    """Return the day's open and close, and whether an operator changed them. None if there is no trading."""
    return next(iter(records(connection, _TRADING_DAY, market=market, day=day)), None)


_SESSIONS = text("""
SELECT s.market, s.day, s.phase, s.open_at, s.close_at, s.early_close, s.forecast, c.reason
FROM marketdata.sessions_v2 s
LEFT JOIN marketdata.session_changes_v1 c ON c.market = s.market AND c.day = s.day AND c.removed_at IS NULL
WHERE s.market = :market AND s.day BETWEEN :first AND :last ORDER BY s.open_at
""")
_FIRST_DAY = text("SELECT min(day) FROM marketdata.sessions_v2 WHERE market = :market")
_CHANGE = text("""
SELECT id, market, day, closed, open_at, close_at, reason, made_at, removed_at
FROM marketdata.session_changes_v1 WHERE id = :id
""")
_TRADING_DAY = text("""
SELECT d.open_at, d.close_at,
       EXISTS (SELECT FROM marketdata.session_changes_v1 c
               WHERE c.market = d.market AND c.day = d.day AND c.removed_at IS NULL) AS changed
FROM marketdata.trading_days_v1 d WHERE d.market = :market AND d.day = :day
""")
