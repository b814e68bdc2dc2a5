"""``/api/sessions``: the sessions of a market, changes of them by an operator, and calendars that differ."""

from datetime import date, datetime, time, timedelta
from typing import Annotated, Self
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

from pydantic import AwareDatetime, BaseModel, Field, model_validator

from services.gateway.http.auth import OPERATE, READ, Principal
from services.gateway.http.endpoints import Endpoint
from services.gateway.http.errors import Invalid, NotFound
from services.gateway.http.pagination import FROM_CURSOR, Page, PageQuery, TimeCursor, page_of
from services.gateway.http.requests import Gateway, read
from services.gateway.http.schemas import Day, Moment, Query, Word
from services.gateway.instruments import session_queries
from services.gateway.trading import commands
from shared.account_market import account_market
from shared.contracts.base import first_error
from shared.contracts.markets import MARKETS
from shared.contracts.sessions import ChangeSessions, MarketCode, RemoveSessionChange
from shared.storage.keyset import Keyset

#: The days of one request, and those of one that names no end.
MOST_DAYS, USUAL_DAYS = timedelta(days=400), timedelta(days=7)
#: A time by the market's clock, such as 13:00.
ClockTime = Annotated[str, Field(max_length=5, pattern=r"^[0-2][0-9]:[0-5][0-9]$")]


class SessionQuery(Query):
    """Both days are included. The market is by default that of the key's account."""

    market: MarketCode | None = None
    begin: Day | None = Field(default=None, alias="from")
    end: Day | None = Field(default=None, alias="to")

    @model_validator(mode="after")
    def _is_short(self) -> Self:
        if self.begin is not None and self.end is not None and not timedelta(0) <= self.end - self.begin <= MOST_DAYS:
            raise ValueError(f"to: must be from that day to {MOST_DAYS.days} days after it")
        return self


class SessionItem(BaseModel):
    """A session. ``forecast`` marks a day that the exchange has not announced. ``reason`` is that of a change."""

    market: str
    day: date
    phase: str
    open_at: AwareDatetime
    close_at: AwareDatetime
    early_close: bool = False
    forecast: bool = False
    reason: str | None = None


class SessionList(BaseModel):
    """The sessions of the days in order, and the market's time zone."""

    market: str
    timezone: str
    items: list[SessionItem]


class NewSessionChange(Query):
    """The change to make: the day is closed, or opens or closes at another time.

    A time is a clock time of the market such as 13:00, or a moment such as 2026-11-27T13:00:00-05:00.
    """

    market: MarketCode
    day: Day
    closed: bool = False
    open_at: ClockTime | Moment | None = None
    close_at: ClockTime | Moment | None = None
    reason: Word


class SessionChangeItem(BaseModel):
    """A change of a day. ``made_at`` is null while it is pending, ``removed_at`` while it stands."""

    id: UUID
    market: str
    day: date
    closed: bool
    open_at: AwareDatetime | None
    close_at: AwareDatetime | None
    reason: str
    made_at: AwareDatetime | None = None
    removed_at: AwareDatetime | None = None


class SessionChangePage(Page[SessionChangeItem]):
    """Changes of sessions, the last one first."""


class SessionChangeQuery(PageQuery):
    cursor: TimeCursor | None = None
    market: MarketCode | None = None
    day: Day | None = None
    standing: bool | None = Field(default=None, description="True for changes that have not ended.")


class DifferenceItem(BaseModel):
    """A day on which our calendar and the second ``source`` differ.

    The times are null where a source has no trading, or no hours. ``known`` is the reason why ours is right, if any.
    """

    market: str
    day: date
    kind: str
    source: str
    open_at: AwareDatetime | None
    close_at: AwareDatetime | None
    other_open_at: AwareDatetime | None
    other_close_at: AwareDatetime | None
    known: str | None
    found_at: AwareDatetime


class DifferencePage(Page[DifferenceItem]):
    """Differences between calendars, the latest day first."""


class DifferenceQuery(PageQuery):
    cursor: Annotated[tuple[date, str], *FROM_CURSOR] | None = None
    market: MarketCode | None = None


async def get_sessions(gateway: Gateway, principal: Principal, query: SessionQuery) -> SessionList:
    """List the sessions of a market's days, by default those of a week from today.

    A market that never closes has one session a day.

    Raises Invalid for an unknown market, and for days before the first whose sessions are stored.
    """
    code = query.market or (await read(gateway, account_market, principal.account_id))["code"]
    market = MARKETS.get(code)
    if market is None:
        raise Invalid(f"market: unknown market {code}, known are {', '.join(MARKETS)}", field="market")
    zone = ZoneInfo(market.timezone)
    first = query.begin or gateway.context.clock().astimezone(zone).date()
    last = min(query.end or first + USUAL_DAYS, first + MOST_DAYS)
    if market.always_open:
        days = [first + timedelta(days=number) for number in range((last - first).days + 1)]
        items = [_whole_day(code, day, zone) for day in days]
    else:
        rows = await read(gateway, session_queries.sessions, code, first, last)
        if not rows and (stored := await read(gateway, session_queries.first_day, code)) and last < stored:
            raise Invalid(
                f"from: sessions of {code} are stored since {stored}; for earlier ones run the job update_sessions "
                f'with {{"since": "{first}"}} by POST /api/jobs/update_sessions/trigger',
                field="from",
            )
        items = [SessionItem(**row) for row in rows]
    return SessionList(market=code, timezone=market.timezone, items=items)


async def get_session_changes(gateway: Gateway, query: SessionChangeQuery) -> SessionChangePage:
    """List the changes that operators made, the last one first."""
    return await page_of(gateway, _CHANGES.page, query, SessionChangePage, ("made_at", "id"))


async def get_session_differences(gateway: Gateway, query: DifferenceQuery) -> DifferencePage:
    """List the days on which a market's calendar and its second source differ, the latest first."""
    return await page_of(gateway, _DIFFERENCES.page, query, DifferencePage, ("day", "market"))


async def post_session_change(gateway: Gateway, principal: Principal, body: NewSessionChange) -> SessionChangeItem:
    """Close, shorten or lengthen a day of a market. Orders, jobs and clocks follow at once.

    The times are those of regular trading. Sessions before and after it follow. A time that is left out is that of the
    exchange's calendar. Another change of the same day takes the place of this one.

    Raises Invalid for an unknown market or one that never closes, and for times outside the day.
    """
    times = {name: _moment(body, name) for name in ("open_at", "close_at")}
    terms = {"market": body.market, "day": body.day, "closed": body.closed, "reason": body.reason, **times}
    try:
        command = ChangeSessions(**terms, change_id=uuid4())
    except ValueError as error:
        message = first_error(error)
        raise Invalid(message, field=message.partition(":")[0]) from None
    await _check_times(gateway, command)
    publish = commands.recorded(command, principal, "change_sessions", body.market, command.model_dump(mode="json"))
    await commands.send(gateway, publish, [command.change_id], account_id=None)
    made = await read(gateway, session_queries.change, command.change_id)
    return SessionChangeItem(**made) if made else SessionChangeItem(**terms, id=command.change_id)


async def delete_session_change(gateway: Gateway, principal: Principal, change_id: UUID) -> None:
    """Take a change back: the day has the sessions of the exchange's calendar again.

    The status is 204 if that is done or pending, and if the change has ended before.

    Raises NotFound for an unknown change.
    """
    found = await read(gateway, session_queries.change, change_id)
    if found is None:
        raise NotFound(f"there is no change {change_id}")
    command = RemoveSessionChange(market=found["market"], change_id=change_id)
    publish = commands.recorded(
        command, principal, "remove_session_change", found["market"], None, before=str(change_id)
    )
    await commands.send(gateway, publish, [change_id] if found["removed_at"] is None else [], account_id=None)


def _whole_day(code: str, day: date, zone: ZoneInfo) -> SessionItem:
    begin, end = (datetime.combine(each, time(), zone) for each in (day, day + timedelta(days=1)))
    return SessionItem(market=code, day=day, phase="regular", open_at=begin, close_at=end)


def _moment(body: NewSessionChange, name: str) -> datetime | None:
    """Return the moment, also of a clock time. The evening of a currency market belongs to the day before."""
    given = getattr(body, name)
    market = MARKETS.get(body.market)
    if not isinstance(given, str):
        moment: datetime | None = given
        return moment
    try:
        clock = time.fromisoformat(given)
    except ValueError:
        raise Invalid(f"{name}: {given} is not a time of a day", field=name) from None
    zone = ZoneInfo(market.timezone if market else "UTC")
    begin, end = market.day_bounds(body.day) if market else (None, None)
    first = datetime.combine(begin.date() if begin else body.day, clock, zone)
    return first if begin is None or end is None or begin <= first else datetime.combine(end.date(), clock, zone)


async def _check_times(gateway: Gateway, change: ChangeSessions) -> None:
    """Raises Invalid if the only time that is given does not fit to the day's other one, or that is not known."""
    if change.closed or (change.open_at and change.close_at):
        return
    missing = "close_at" if change.close_at is None else "open_at"
    day = await read(gateway, session_queries.trading_day, change.market, change.day)
    if day is None:
        raise Invalid(f"{missing}: {change.market} has no trading on {change.day}, send both times", field=missing)
    if day["changed"]:
        raise Invalid(f"{missing}: {change.day} has been changed before, send both times", field=missing)
    if (change.open_at or day["open_at"]) >= (change.close_at or day["close_at"]):
        raise Invalid(f"{missing}: {change.market} would close before it opens, send both times", field=missing)


_CHANGES = Keyset(
    "SELECT id, market, day, closed, open_at, close_at, reason, made_at, removed_at FROM marketdata.session_changes_v1",
    ("made_at", "id"),
    {"market": "market = :market", "day": "day = :day", "standing": "(removed_at IS NULL) = :standing"},
)
_DIFFERENCES = Keyset(
    """
    SELECT market, day, kind, source, open_at, close_at, other_open_at, other_close_at, known, found_at
    FROM marketdata.session_differences_v1
    """,
    ("day", "market"),
    {"market": "market = :market"},
)
endpoints = (
    Endpoint("GET", "/api/sessions", get_sessions, READ),
    Endpoint("GET", "/api/sessions/changes", get_session_changes, OPERATE),
    Endpoint("POST", "/api/sessions/changes", post_session_change, OPERATE, 202),
    Endpoint("DELETE", "/api/sessions/changes/{change_id}", delete_session_change, OPERATE, 204),
    Endpoint("GET", "/api/sessions/differences", get_session_differences, OPERATE),
)
