"""Write the sessions of the exchanges' calendars, with operators' changes over them.

A market whose calendar fails keeps the sessions that it has, and the others get theirs.
"""

from collections.abc import Sequence
from datetime import date
from typing import Annotated
from uuid import UUID

import structlog
from pydantic import BaseModel, ConfigDict, Field

from services.marketdata.domain.differences import Calendars
from services.marketdata.domain.session_changes import by_day, with_changes
from services.marketdata.persistence import session_changes, sessions
from services.marketdata.persistence.sessions import Rewritten
from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.markets import KnownMarket
from shared.contracts.sessions import MOST_DAYS, SessionsChanged
from shared.jobs.run_context import Counts

log = structlog.get_logger(__name__)


#: The calendars of exchanges know no earlier days.
EARLIEST = date(1990, 1, 1)


class SessionDays(BaseModel):
    """Parameters of a run that also writes the sessions of earlier days, for history."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    since: Annotated[date, Field(ge=EARLIEST)] | None = None


class CalendarsFailed(Exception):
    """The calendars of some markets could not be computed. Those of all others were written."""

    def __init__(self, failed: dict[str, str]) -> None:
        causes = "; ".join(f"{market}: {why}" for market, why in failed.items())
        super().__init__(
            f"no calendar of {', '.join(failed)}: these markets keep the sessions they have, all others were written. "
            "Update pandas_market_calendars, and enter days that change meanwhile by POST /api/sessions/changes. "
            f"{causes}"
        )


def write(
    uow: UnitOfWork, markets: Sequence[KnownMarket], first: date, last: date, found: Calendars, run_id: UUID
) -> Counts:
    """Write the sessions and the differences from ``first`` to ``last``. Announce the days that are others now."""
    codes = [market.code for market in markets if market.code not in found.failed]
    sessions.lock_markets(uow.connection, codes)
    changes = session_changes.standing(uow.connection, codes, first, last)
    calendar = by_day(found.sessions)
    session_changes.save_calendars(uow.connection, {key: calendar.get(key, []) for key in changes})
    wanted = with_changes(found.sessions, changes)
    rewritten = sessions.replace_sessions(uow.connection, codes, first, last, wanted)
    _announce(uow, rewritten, run_id)
    new = sessions.replace_differences(uow.connection, codes, first, last, found.differences, uow.now)
    _log(found, set(new))
    return {
        "sessions_written": sum(each.written for each in rewritten),
        "sessions_removed": sum(each.removed for each in rewritten),
    }


def _announce(uow: UnitOfWork, rewritten: Sequence[Rewritten], run_id: UUID) -> None:
    """Announce days that had other sessions. Orders cannot be for a day that had none."""
    days: dict[str, list[date]] = {}
    for each in rewritten:
        if each.removed or each.corrected:
            days.setdefault(each.market, []).append(each.day)
    for market, changed in days.items():
        uow.publish(SessionsChanged(market=market, change_id=run_id, days=tuple(changed[:MOST_DAYS])))


def _log(found: Calendars, new: set[tuple[str, date]]) -> None:
    """Log each difference once. A difference of a known cause needs nobody's attention."""
    for each in found.differences:
        if (each.market, each.day) in new:
            say = log.warning if each.known is None else log.info
            say(
                "two calendars differ; compare the exchange's own, and correct by POST /api/sessions/changes",
                market=each.market,
                day=str(each.day),
                kind=each.kind,
                source=each.source,
                known=each.known,
            )
    for market, why in found.unchecked.items():
        log.info("a calendar was not held against a second source", market=market, cause=why)
