"""Operators' changes of sessions, each with the sessions that the exchange's calendar gives the day."""

import json
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from uuid import UUID

from sqlalchemy import Connection, text

from services.marketdata.domain.session_changes import DayKey
from services.marketdata.domain.sessions import Session
from shared.contracts.sessions import ChangeSessions, SessionChange


def standing(connection: Connection, markets: Sequence[str], first: date, last: date) -> dict[DayKey, SessionChange]:
    """The changes that stand, by market and day."""
    found = connection.execute(_STANDING, {"markets": list(markets), "first": first, "last": last})
    return {(row.market, row.day): SessionChange.model_validate(row._asdict()) for row in found}


def calendar_of(connection: Connection, market: str, day: date) -> list[Session] | None:
    """The calendar's sessions of a day with a standing change, and None where there is none."""
    found = connection.execute(_CALENDAR, {"market": market, "day": day}).scalar_one_or_none()
    return None if found is None else [_session(market, day, row) for row in json.loads(found)]


def add(connection: Connection, change: ChangeSessions, calendar: Sequence[Session], now: datetime) -> bool:
    """Write the change in place of the day's standing one. False where one with its id was written before."""
    values = {**change.model_dump(), "calendar": _rows(calendar), "now": now}
    if connection.execute(_KNOWN, values).first() is not None:
        return False
    connection.execute(_GIVE_WAY, values)
    connection.execute(_ADD, values)
    return True


def remove(connection: Connection, market: str, change_id: UUID, now: datetime) -> tuple[date, list[Session]] | None:
    """End the change, and return its day with the calendar's sessions. None where no such change stands."""
    row = connection.execute(_REMOVE, {"market": market, "id": change_id, "now": now}).one_or_none()
    return None if row is None else (row.day, [_session(market, row.day, each) for each in json.loads(row.calendar)])


def save_calendars(connection: Connection, days: Mapping[DayKey, Sequence[Session]]) -> None:
    """Write what the calendar says now of days with a standing change."""
    if days:
        given = {
            "markets": [market for market, _ in days],
            "days": [day for _, day in days],
            "calendars": [_rows(sessions) for sessions in days.values()],
        }
        connection.execute(_SAVE_CALENDARS, given)


def _rows(sessions: Sequence[Session]) -> str:
    return json.dumps([[s.kind, str(s.open_at), str(s.close_at), s.early_close, s.forecast] for s in sessions])


def _session(market: str, day: date, row: Sequence[object]) -> Session:
    kind, begin, end, early, forecast = row
    times = datetime.fromisoformat(str(begin)), datetime.fromisoformat(str(end))
    return Session(market, day, str(kind), *times, bool(early), bool(forecast))


_STANDING = text("""
SELECT market, day, closed, open_at, close_at, reason FROM marketdata.session_changes
WHERE removed_at IS NULL AND market = ANY(:markets) AND day BETWEEN :first AND :last ORDER BY market, day
""")
_CALENDAR = text("""
SELECT CAST(calendar AS text) FROM marketdata.session_changes
WHERE removed_at IS NULL AND market = :market AND day = :day
""")
_KNOWN = text("SELECT FROM marketdata.session_changes WHERE id = :change_id")
_GIVE_WAY = text("""
UPDATE marketdata.session_changes SET removed_at = :now WHERE removed_at IS NULL AND market = :market AND day = :day
""")
_ADD = text("""
INSERT INTO marketdata.session_changes (id, market, day, closed, open_at, close_at, reason, made_at, calendar)
VALUES (:change_id, :market, :day, :closed, :open_at, :close_at, :reason, :now, CAST(:calendar AS jsonb))
""")
_REMOVE = text("""
UPDATE marketdata.session_changes SET removed_at = :now
WHERE id = :id AND market = :market AND removed_at IS NULL RETURNING day, CAST(calendar AS text) AS calendar
""")
_SAVE_CALENDARS = text("""
UPDATE marketdata.session_changes c SET calendar = CAST(given.calendar AS jsonb)
FROM unnest(CAST(:markets AS text[]), CAST(:days AS date[]), CAST(:calendars AS text[]))
  AS given (market, day, calendar)
WHERE c.removed_at IS NULL AND c.market = given.market AND c.day = given.day
""")
