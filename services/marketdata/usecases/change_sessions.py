"""Change the sessions of a day by an operator's word, and take such a change back."""

from datetime import date
from uuid import UUID

from services.marketdata.domain.session_changes import changed_day
from services.marketdata.domain.sessions import Session
from services.marketdata.persistence import session_changes, sessions
from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.sessions import ChangeSessions, RemoveSessionChange, SessionsChanged


def change(uow: UnitOfWork, command: ChangeSessions) -> None:
    """Give the day the sessions that the operator wants. Raises ImpossibleChange."""
    sessions.lock_markets(uow.connection, [command.market])
    calendar = session_changes.calendar_of(uow.connection, command.market, command.day)
    if calendar is None:
        calendar = sessions.sessions_of_day(uow.connection, command.market, command.day)
    wanted = changed_day(command, calendar)
    if session_changes.add(uow.connection, command, calendar, uow.now):
        _rewrite(uow, command.market, command.day, wanted, command.change_id)


def remove(uow: UnitOfWork, command: RemoveSessionChange) -> None:
    """Give the day the calendar's sessions again, unless the change has ended."""
    sessions.lock_markets(uow.connection, [command.market])
    removed = session_changes.remove(uow.connection, command.market, command.change_id, uow.now)
    if removed is not None:
        _rewrite(uow, command.market, *removed, command.change_id)


def _rewrite(uow: UnitOfWork, market: str, day: date, wanted: list[Session], change_id: UUID) -> None:
    sessions.replace_sessions(uow.connection, [market], day, day, wanted)
    uow.publish(SessionsChanged(market=market, change_id=change_id, days=(day,)))
