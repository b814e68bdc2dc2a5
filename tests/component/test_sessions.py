"""Sessions on a real PostgreSQL: written once, corrected when a calendar changes, read as markets by other services."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import cache
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy.exc import ProgrammingError

from services.marketdata.calendars import compute_sessions
from services.marketdata.domain.differences import Calendars, Difference, Kind
from services.marketdata.domain.session_changes import ImpossibleChange
from services.marketdata.domain.sessions import Session
from services.marketdata.jobs import jobs
from services.marketdata.service import prepare
from services.marketdata.usecases import change_sessions
from services.marketdata.usecases.update_sessions import CalendarsFailed
from shared.bus.unit_of_work import ServiceContext
from shared.contracts.markets import MARKETS, KnownMarket
from shared.contracts.sessions import ChangeSessions, RemoveSessionChange
from shared.jobs.declaration import Job
from shared.jobs.engine.claims import declare
from shared.jobs.engine.tick import Tick
from shared.jobs.run_context import Counts, RunContext
from shared.jobs.schedule.calendar import Market, Phase
from shared.markets import LOOK_AFTER, RELOAD_AFTER, PublishedCalendar, load_market, load_markets
from shared.storage.errors import is_transient
from tests.component.watching import context_of, marketdata_at, outbox, statements
from tests.conftest import FakeClock
from tests.support import rows, value
from tests.unit.market_days import at, new_york, tokyo

NOON = datetime(2026, 11, 24, 12, tzinfo=UTC)
DAY = timedelta(days=1)
EXCHANGES = {code for code, market in MARKETS.items() if not market.always_open}


@pytest.fixture
def marketdata(urls: dict[str, str], clock: FakeClock) -> Iterator[ServiceContext]:
    """The service's context at noon of the Tuesday before Thanksgiving."""
    with marketdata_at(NOON, urls, clock) as context:
        yield context


@pytest.fixture
def other(urls: dict[str, str], clock: FakeClock, marketdata: ServiceContext) -> Iterator[ServiceContext]:
    """Another service, which reads what marketdata publishes."""
    with context_of("orders", urls, clock) as context:
        yield context


@cache
def computed(codes: tuple[str, ...], first: date, last: date) -> Calendars:
    """The calendars, which take seconds to compute, once for all tests."""
    return compute_sessions([MARKETS[code] for code in codes], first, last)


@pytest.fixture(autouse=True)
def computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    def compute(markets: Sequence[KnownMarket], first: date, last: date) -> Calendars:
        return computed(tuple(market.code for market in markets), first, last)

    monkeypatch.setattr("services.marketdata.jobs.compute_sessions", compute)


class Announced:
    """A calendar that says what the test says: two half-hour sessions in New York a day, all other markets closed."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *days: date) -> None:
        self.days = dict.fromkeys(days, "14:30 15:00 21:00")
        self.failed: dict[str, str] = {}
        self.differences: list[Difference] = []
        monkeypatch.setattr("services.marketdata.jobs.compute_sessions", self)

    def __call__(self, markets: Sequence[KnownMarket], first: date, last: date) -> Calendars:
        assert "XNYS" in {market.code for market in markets}
        sessions = [session for day in self.days if first <= day <= last for session in self._of(day)]
        known = [each for each in sessions if each.market not in self.failed]
        return Calendars(known, self.differences, self.failed)

    def _of(self, day: date) -> list[Session]:
        edges = [datetime.fromisoformat(f"{day} {edge}").replace(tzinfo=UTC) for edge in self.days[day].split()]
        return [
            Session("XNYS", day, kind, begin, end, early_close=False)
            for kind, begin, end in zip(("pre", "regular"), edges, edges[1:], strict=False)
        ]


@pytest.fixture
def two_exchanges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spare the test the calendars of the others."""
    monkeypatch.setattr("services.marketdata.jobs.MARKETS", {code: MARKETS[code] for code in ("XNYS", "XTKS")})


def update_sessions(context: ServiceContext) -> Counts:
    return jobs.declared["update_sessions"].run(RunContext(uuid4(), context, context.clock(), {}))


def stored(context: ServiceContext, market: str = "XNYS") -> list[Any]:
    return rows(context.engine, "SELECT * FROM marketdata.market_sessions WHERE market = :m ORDER BY open_at", m=market)


def market_of(context: ServiceContext, code: str, begin: datetime = NOON, end: datetime = NOON + 60 * DAY) -> Market:
    with context.engine.connect() as connection:
        return load_markets(connection, [code], begin, end)[code]


def test_every_exchange_has_its_sessions_for_a_year_and_the_second_run_changes_nothing(
    marketdata: ServiceContext,
) -> None:
    """From a week back to a year ahead, in one statement. Nothing that is right is written again."""
    first = update_sessions(marketdata)
    with statements(marketdata.engine) as seen:
        assert update_sessions(marketdata) == {"sessions_written": 0, "sessions_removed": 0}
    assert len([statement for statement in seen if "market_sessions" in statement]) == 1
    found = rows(
        marketdata.engine,
        "SELECT market, count(*) AS sessions, min(day), max(day) FROM marketdata.market_sessions GROUP BY 1",
    )
    assert first == {"sessions_written": sum(row.sessions for row in found), "sessions_removed": 0}
    assert {row.market for row in found} == EXCHANGES
    assert all(row.min <= date(2026, 11, 18) and row.max >= date(2027, 11, 23) for row in found)


@pytest.mark.usefixtures("two_exchanges")
def test_the_next_days_add_the_end_of_the_window_only(marketdata: ServiceContext, clock: FakeClock) -> None:
    """Past sessions stay as they were."""
    update_sessions(marketdata)
    before = stored(marketdata)
    clock.move(days=30)
    assert update_sessions(marketdata)["sessions_removed"] == 0
    assert stored(marketdata)[: len(before)] == before
    assert stored(marketdata)[-1].day == date(2027, 12, 23)  # the 24th is a holiday


def test_a_holiday_that_is_announced_late_is_taken_out(
    marketdata: ServiceContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also one of the last few days, which the calendar knew too late. Older ones stay as they were traded."""
    days = [date(2026, 11, day) for day in (10, 18, 25, 27)]
    announced = Announced(monkeypatch, *days)
    clock_at_10th = replace_clock(marketdata, NOON - 10 * DAY)
    assert update_sessions(clock_at_10th) == {"sessions_written": 8, "sessions_removed": 0}
    announced.days = {days[3]: announced.days[days[3]]}
    assert update_sessions(marketdata) == {"sessions_written": 0, "sessions_removed": 4}
    assert {row.day for row in stored(marketdata)} == {days[0], days[3]}


def changed(context: ServiceContext, day: date, **terms: Any) -> UUID:
    """Change the day by an operator's command. Returns the change's id."""
    command = ChangeSessions(market="XNYS", day=day, change_id=uuid4(), reason="power failure", **terms)
    with context.unit_of_work() as uow:
        change_sessions.change(uow, command)
    return command.change_id


def announced_days(context: ServiceContext) -> list[list[str]]:
    return [sent.body["days"] for sent in outbox(context) if sent.name == "SessionsChanged.v1"]


def hours(context: ServiceContext) -> list[str]:
    """The sessions of New York, by UTC."""
    return [f"{row.day.day} {row.kind} {row.open_at:%H:%M}-{row.close_at:%H:%M}" for row in stored(context)]


def test_an_operator_s_change_stays_and_gives_way_to_the_calendar_once_it_is_removed(
    marketdata: ServiceContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next run does not undo it. Removed, the day has what the calendar says by then."""
    day = date(2026, 11, 25)
    announced = Announced(monkeypatch, day)
    update_sessions(marketdata)
    first = changed(marketdata, day, close_at=datetime(2026, 11, 25, 18, tzinfo=UTC))
    shortened = ["25 pre 09:00-14:30", "25 regular 14:30-18:00", "25 post 18:00-22:00"]
    assert [each.replace("15:00", "14:30") for each in hours(marketdata)] == shortened
    assert {row.early_close for row in stored(marketdata)} == {True}
    assert update_sessions(marketdata) == {"sessions_written": 0, "sessions_removed": 0}
    second = changed(marketdata, day, closed=True)
    announced.days[day] = "14:30 15:00 20:00"
    update_sessions(marketdata)
    assert hours(marketdata) == []
    for change_id, times in ((first, []), (second, ["25 pre 14:30-15:00", "25 regular 15:00-20:00"])):
        with marketdata.unit_of_work() as uow:
            change_sessions.remove(uow, RemoveSessionChange(market="XNYS", change_id=change_id))
        assert hours(marketdata) == times
    assert announced_days(marketdata) == [["2026-11-25"]] * 3


def test_a_change_may_open_a_closed_day_and_keeps_the_midday_break(marketdata: ServiceContext) -> None:
    """A Saturday gets both times. Delivered twice, a change is made once."""
    saturday = date(2026, 11, 28)
    times = {"open_at": datetime(2026, 11, 28, 14, 30, tzinfo=UTC), "close_at": datetime(2026, 11, 28, 18, tzinfo=UTC)}
    change_id = changed(marketdata, saturday, **times)
    with marketdata.unit_of_work() as uow:
        again = ChangeSessions(market="XNYS", day=saturday, change_id=change_id, reason="again", closed=True)
        change_sessions.change(uow, again)
    assert hours(marketdata) == ["28 pre 09:00-14:30", "28 regular 14:30-18:00", "28 post 18:00-22:00"]
    with pytest.raises(ImpossibleChange, match="send open_at and close_at"):
        changed(marketdata, date(2026, 11, 29), close_at=datetime(2026, 11, 29, 18, tzinfo=UTC))


def test_one_failed_calendar_leaves_its_sessions_and_the_others_are_written(
    marketdata: ServiceContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run fails with the market's name, the cause and the remedy. Days without sessions before are no news."""
    friday = date(2026, 11, 27)
    announced = Announced(monkeypatch, friday)
    update_sessions(marketdata)
    announced.failed = {"XNYS": "ended with code 1: KeyError: 'XNYS'"}
    with pytest.raises(
        CalendarsFailed, match=r"no calendar of XNYS: .* POST /api/sessions/changes.*KeyError"
    ) as failed:
        update_sessions(marketdata)
    assert "all others were written" in str(failed.value)
    assert "\n" not in str(failed.value)  # the alert shows the last line
    assert jobs.declared["update_sessions"].settings["alert_failures"] == 1
    assert {row.day for row in stored(marketdata)} == {friday}
    announced.failed, announced.days = {}, {friday: "14:30 15:00 18:00"}
    update_sessions(marketdata)
    assert announced_days(marketdata) == [["2026-11-27"]]


def test_differences_from_the_second_source_are_stored_until_they_are_gone(
    marketdata: ServiceContext, other: ServiceContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unchanged one keeps the time at which it was found."""
    day, seen = date(2026, 11, 27), "SELECT day, kind, source, found_at FROM marketdata.session_differences_v1"
    announced = Announced(monkeypatch, day)
    announced.differences = [Difference("XNYS", day, Kind.TRADING_DAY, "another", NOON, NOON + DAY, None, None)]
    update_sessions(marketdata)
    (found,) = rows(other.engine, seen)
    assert tuple(found) == (day, "trading_day", "another", NOON)
    update_sessions(replace_clock(marketdata, NOON + timedelta(hours=1)))
    assert rows(other.engine, seen) == [found]
    announced.differences = []
    update_sessions(marketdata)
    assert rows(other.engine, seen) == []


def test_schedules_that_follow_a_market_are_planned_again_within_a_tick(
    marketdata: ServiceContext, monkeypatch: pytest.MonkeyPatch, clock: FakeClock
) -> None:
    """The scheduler would otherwise look again after fifteen minutes, or at the old close."""
    day = date(2026, 11, 25)
    Announced(monkeypatch, day)
    update_sessions(marketdata)
    clock.now = datetime(2026, 11, 25, 20, 55, tzinfo=UTC)
    settings = {"schedule": "at close", "market": "XNYS"}
    job = Job("after_close", "marketdata", "It runs at the close.", lambda _: {}, settings)
    with marketdata.engine.begin() as connection:
        declare(connection, [job], marketdata.clock(), load_market=load_market)
    tick = Tick(marketdata, PublishedCalendar(marketdata.engine, marketdata.clock))
    tick.claim_due()
    planned = "SELECT next_slot FROM jobs.jobs WHERE name = 'after_close'"
    assert value(marketdata.engine, planned) == datetime(2026, 11, 25, 21, tzinfo=UTC)
    changed(marketdata, day, close_at=datetime(2026, 11, 25, 20, 57, tzinfo=UTC))
    clock.move(seconds=1)
    tick.claim_due()
    assert value(marketdata.engine, planned) == datetime(2026, 11, 25, 20, 57, tzinfo=UTC)


def replace_clock(context: ServiceContext, now: datetime) -> ServiceContext:
    return replace(context, clock=FakeClock(now))


def test_an_early_close_that_is_announced_late_is_corrected(
    marketdata: ServiceContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A close is changed in its row. A session that opens at another time replaces the old one."""
    friday = date(2026, 11, 27)
    announced = Announced(monkeypatch, friday)
    update_sessions(marketdata)
    announced.days[friday] = "14:30 15:00 18:00"
    assert update_sessions(marketdata) == {"sessions_written": 1, "sessions_removed": 0}
    announced.days[friday] = "14:30 16:00 18:00"
    assert update_sessions(marketdata) == {"sessions_written": 2, "sessions_removed": 1}
    assert [f"{row.open_at:%H:%M} {row.close_at:%H:%M}" for row in stored(marketdata)] == ["14:30 16:00", "16:00 18:00"]


@pytest.mark.usefixtures("two_exchanges")
def test_another_service_reads_the_markets_as_the_exchanges_have_them(
    marketdata: ServiceContext, other: ServiceContext
) -> None:
    """In two statements, with the phases of each moment: New York's half day, Tokyo's break and year's end."""
    update_sessions(marketdata)
    with statements(other.engine) as seen, other.engine.connect() as connection:
        markets = load_markets(connection, ["XNYS", "XTKS", "DEMO", "XNO?"], NOON - 7 * DAY, NOON + 45 * DAY)
    assert len(seen) == 2
    assert set(markets) == {"XNYS", "XTKS", "DEMO"}
    assert markets["DEMO"].always_open
    for ours in (new_york(), tokyo()):
        read = markets[ours.code]
        assert read.zone == ours.zone
        begin, end = at(ours, "2026-11-19 00:00"), at(ours, "2027-01-07 00:00")
        assert list(read.spans(begin, end)) == list(ours.spans(begin, end))


@pytest.mark.usefixtures("two_exchanges")
def test_half_days_are_visible(marketdata: ServiceContext, other: ServiceContext) -> None:
    """Each session of such a day says so."""
    update_sessions(marketdata)
    found = rows(
        other.engine,
        "SELECT day, phase FROM marketdata.sessions_v2 WHERE market = 'XNYS' AND early_close ORDER BY open_at LIMIT 6",
    )
    phases = [Phase.PRE_MARKET, Phase.REGULAR, Phase.AFTER_HOURS]
    half_days = (date(2026, 11, 27), date(2026, 12, 24))
    assert [(row.day, row.phase) for row in found] == [(day, phase) for day in half_days for phase in phases]


@pytest.mark.usefixtures("two_exchanges")
def test_the_first_view_of_sessions_still_has_the_regular_ones(
    marketdata: ServiceContext, other: ServiceContext
) -> None:
    """Replicas of the release before read it."""
    update_sessions(marketdata)
    count = "SELECT count(*) FROM marketdata.sessions_v1 WHERE market = 'XNYS'"
    assert value(other.engine, count) == len([row for row in stored(marketdata) if row.kind == "regular"])


def test_a_market_without_sessions_is_closed(other: ServiceContext) -> None:
    """As before the first run of update_sessions."""
    market = market_of(other, "XLON")
    assert (market.sessions, market.phase_at(NOON)) == ((), Phase.HOLIDAY)


def test_every_known_market_is_published_and_a_new_one_is_added_at_the_next_start(
    marketdata: ServiceContext, other: ServiceContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name that has changed is corrected. A market that is no longer known stays: instruments may trade on it."""
    published = "SELECT code, name, timezone, always_open FROM marketdata.markets_v1"
    assert {row.code: KnownMarket(*row) for row in rows(other.engine, published)} == MARKETS
    new, renamed = KnownMarket("XSES", "Singapore Exchange", "Asia/Singapore"), replace(MARKETS["XETR"], name="Xetra!")
    monkeypatch.setattr("services.marketdata.service.MARKETS", {"XSES": new, "XETR": renamed})
    prepare(marketdata)
    expected = {**MARKETS, "XSES": new, "XETR": renamed}
    assert {row.code: KnownMarket(*row) for row in rows(other.engine, published)} == expected


def test_a_calendar_sees_a_change_within_a_second_and_another_market_when_it_is_asked_for(
    marketdata: ServiceContext, other: ServiceContext, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In between it answers from memory, however often it is asked. A market that never closes needs no query."""
    calendar = PublishedCalendar(other.engine, clock)
    Announced(monkeypatch, date(2026, 11, 25))
    with statements(other.engine) as seen:
        assert calendar.market("XNYS").sessions == ()
        update_sessions(marketdata)
        assert calendar.market("XNYS").sessions == ()
        assert len(seen) == 3
        clock.now += LOOK_AFTER
        assert [session.day for session in calendar.market("XNYS").sessions] == [date(2026, 11, 25)] * 2
        assert (calendar.market("XTKS").sessions, len(seen)) == ((), 10)
        assert calendar.market("XNYS") is calendar.market("XNYS")
        assert calendar.market("DEMO").always_open
        clock.now += LOOK_AFTER
        assert calendar.market("XNYS") is calendar.market("XNYS")
        assert len(seen) == 11
        clock.now += RELOAD_AFTER
        calendar.market("XNYS")
        assert len(seen) == 14


def test_a_market_that_is_not_published_yet_is_closed(
    other: ServiceContext, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As after an upgrade of this service before that of marketdata."""
    new = KnownMarket("XSES", "Singapore Exchange", "Asia/Singapore")
    for module in ("shared.markets", "shared.jobs.schedule.calendar"):
        monkeypatch.setattr(f"{module}.MARKETS", {**MARKETS, "XSES": new})
    market = PublishedCalendar(other.engine, clock).market("XSES")
    assert (market.zone.key, market.sessions, market.always_open) == ("Asia/Singapore", (), False)


def test_before_marketdata_has_migrated_the_calendar_is_not_ready(
    marketdata: ServiceContext, other: ServiceContext, clock: FakeClock
) -> None:
    """The error is one that passes by itself, and is raised at each look until it does."""
    calendar = PublishedCalendar(other.engine, clock)
    with marketdata.engine.begin() as connection:
        connection.exec_driver_sql("ALTER VIEW marketdata.sessions_v2 RENAME TO sessions_v0")
    for _ in range(2):
        with pytest.raises(ProgrammingError) as refused:
            calendar.market("XNYS")
        assert is_transient(refused.value)
    with marketdata.engine.begin() as connection:
        connection.exec_driver_sql("ALTER VIEW marketdata.sessions_v0 RENAME TO sessions_v2")
    assert calendar.market("XNYS").zone.key == "America/New_York"
