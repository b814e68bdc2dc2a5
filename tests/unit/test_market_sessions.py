"""Sessions as the exchanges published them: half days, holidays, breaks, daylight-saving changes and a year's end."""

import json
import re
import subprocess
import sys
from collections.abc import Iterable
from datetime import UTC, date, datetime
from itertools import pairwise
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from services.marketdata.calendars import NAMES, TOO_LONG, compute_sessions, sessions_between
from services.marketdata.domain.sessions import Hours, Session, sessions_of
from shared.contracts.markets import CURRENCIES, MARKETS
from shared.jobs.schedule.calendar import Market, Phase
from shared.storage.migrate import ROOT
from tests.unit.market_days import london, new_york, tokyo

EXCHANGES = [code for code, market in MARKETS.items() if not market.always_open and code != CURRENCIES]
PHASES = {"pre": Phase.PRE_MARKET, "regular": Phase.REGULAR, "post": Phase.AFTER_HOURS}


def sessions(code: str, first: str, last: str | None = None) -> list[Session]:
    return sessions_between(MARKETS[code], date.fromisoformat(first), date.fromisoformat(last or first))


def local(code: str, day: str) -> list[str]:
    """List the sessions of a day by the market's clock."""
    zone = ZoneInfo(MARKETS[code].timezone)
    return [
        f"{each.kind} {each.open_at.astimezone(zone):%H:%M}-{each.close_at.astimezone(zone):%H:%M}"
        for each in sessions(code, day)
    ]


def days(found: Iterable[Session]) -> list[str]:
    return sorted({str(each.day) for each in found})


@pytest.mark.parametrize(
    ("market", "first", "last"),
    [
        (new_york(), date(2026, 1, 1), date(2027, 1, 15)),
        (london(), date(2026, 1, 1), date(2027, 1, 15)),
        (tokyo(), date(2026, 11, 1), date(2027, 1, 15)),
    ],
    ids=lambda value: value.code if isinstance(value, Market) else str(value),
)
def test_the_sessions_of_a_year_are_those_that_the_exchange_published(market: Market, first: date, last: date) -> None:
    """They cover every day of New York and London from January 2026 into 2027, and Tokyo around the year's end."""
    published = [
        (each.day, each.phase, each.open_at, each.close_at) for each in market.sessions if first <= each.day <= last
    ]
    found = sessions_between(MARKETS[market.code], first, last)
    assert [(each.day, PHASES[each.kind], each.open_at, each.close_at) for each in found] == published


def test_thanksgiving_week_of_2025_has_a_holiday_and_a_half_day_whose_late_session_ends_at_five() -> None:
    """The library would end the late session with the early close, but the exchange does not."""
    assert local("XNYS", "2025-11-26") == ["pre 04:00-09:30", "regular 09:30-16:00", "post 16:00-20:00"]
    assert local("XNYS", "2025-11-27") == []
    assert local("XNYS", "2025-11-28") == ["pre 04:00-09:30", "regular 09:30-13:00", "post 13:00-17:00"]
    assert [each.early_close for each in sessions("XNYS", "2025-11-26", "2025-11-28")] == [False] * 3 + [True] * 3
    assert local("XNAS", "2025-11-28") == local("XNYS", "2025-11-28")


def test_good_friday_2026_is_a_holiday_in_the_west_and_a_trading_day_in_tokyo_and_shanghai() -> None:
    """Good Friday moves with Easter, so no weekday rule would find it."""
    closed = [code for code in EXCHANGES if not sessions(code, "2026-04-03")]
    assert sorted(closed) == sorted(set(EXCHANGES) - {"XTKS", "XSHG"})


@pytest.mark.parametrize(
    ("day", "new_york_opens", "london_opens"),
    [
        ("2026-03-06", 14, 8),
        ("2026-03-09", 13, 8),  # New York is three weeks ahead in spring
        ("2026-03-27", 13, 8),
        ("2026-03-30", 13, 7),
        ("2026-10-23", 13, 7),
        ("2026-10-26", 13, 8),  # and a week behind in autumn
        ("2026-10-30", 13, 8),
        ("2026-11-02", 14, 8),
    ],
)
def test_the_opening_keeps_to_the_markets_clock_when_it_changes(
    day: str, new_york_opens: int, london_opens: int
) -> None:
    """Both markets open at the same local time all year. In UTC the time moves, on different days."""
    opened = {
        code: next(each.open_at for each in sessions(code, day) if each.kind == "regular") for code in ("XNYS", "XLON")
    }
    assert opened["XNYS"] == datetime.fromisoformat(f"{day}T{new_york_opens}:30").replace(tzinfo=UTC)
    assert opened["XLON"] == datetime.fromisoformat(f"{day}T0{london_opens}:00").replace(tzinfo=UTC)


def test_a_midday_break_divides_the_day() -> None:
    """The break is closed, so it lies between two sessions."""
    assert local("XTKS", "2026-11-24") == ["regular 09:00-11:30", "regular 12:30-15:30"]
    assert local("XHKG", "2026-11-24") == ["regular 09:30-12:00", "regular 13:00-16:00"]
    assert local("XSHG", "2026-11-24") == ["regular 09:30-11:30", "regular 13:00-15:00"]


def test_a_half_day_in_hong_kong_has_no_afternoon() -> None:
    """The half days are those that the exchange announced for 2027."""
    short = [each for each in sessions("XHKG", "2027-01-01", "2027-12-31") if each.early_close]
    assert days(short) == ["2027-02-05", "2027-12-24", "2027-12-31"]
    assert local("XHKG", "2027-02-05") == ["regular 09:30-12:00"]


def test_london_closes_at_half_past_twelve_on_the_eves_of_christmas_and_new_year() -> None:
    """The rule holds for eves that are weekdays."""
    for day in ("2025-12-24", "2025-12-31", "2026-12-24", "2026-12-31"):
        assert local("XLON", day) == ["regular 08:00-12:30"]


@pytest.mark.parametrize(
    ("code", "last_day", "first_day", "closes"),
    [
        ("XNYS", "2026-12-31", "2027-01-04", "16:00"),
        ("XLON", "2026-12-31", "2027-01-04", "12:30"),
        ("XPAR", "2026-12-31", "2027-01-04", "14:05"),
        ("XETR", "2026-12-30", "2027-01-04", "14:00"),
        ("XASX", "2026-12-31", "2027-01-04", "14:10"),
        ("XTKS", "2026-12-30", "2027-01-04", "15:30"),
        ("XHKG", "2026-12-31", "2027-01-04", "12:00"),
    ],
)
def test_the_new_year_begins_after_the_old_one_closed(code: str, last_day: str, first_day: str, closes: str) -> None:
    """Each exchange has its own last trading day, half or whole."""
    assert days(sessions(code, last_day, first_day)) == [last_day, first_day]
    regular = [hours for hours in local(code, last_day) if hours.startswith("regular")]
    assert regular[-1].endswith(f"-{closes}")


@pytest.mark.parametrize("code", EXCHANGES)
def test_sessions_do_not_overlap_and_a_window_cuts_nothing_off(code: str) -> None:
    """A day has the same sessions in every window, by the market's own date."""
    year = sessions(code, "2026-06-01", "2027-06-30")
    assert all(one.close_at <= other.open_at for one, other in pairwise(year))
    assert all(each.open_at < each.close_at for each in year)
    assert len(days(year)) > 240
    zone = ZoneInfo(MARKETS[code].timezone)
    assert {each.open_at.astimezone(zone).date() - each.day for each in year} == {date.min - date.min}
    part = sessions(code, "2026-12-24", "2027-01-08")
    assert part == [each for each in year if date(2026, 12, 24) <= each.day <= date(2027, 1, 8)]


@pytest.mark.parametrize("code", EXCHANGES)
def test_a_market_and_its_calendar_have_the_same_clock(code: str) -> None:
    """The clocks agree in summer and in winter."""
    from pandas_market_calendars import get_calendar

    theirs, ours = get_calendar(NAMES.get(code, code)).tz, ZoneInfo(MARKETS[code].timezone)
    for month in (1, 7):
        noon = datetime(2026, month, 1, 12, tzinfo=UTC)
        assert noon.astimezone(theirs).utcoffset() == noon.astimezone(ours).utcoffset()


def test_a_late_opening_after_the_break_leaves_the_morning_out() -> None:
    """After a typhoon, for example, the calendar has an empty break at the open."""
    opens, closes = (datetime(2021, 6, 28, hour, 30, tzinfo=UTC) for hour in (5, 8))
    hours = Hours(date(2021, 6, 28), opens, closes, break_start=opens, break_end=opens)
    assert [(each.open_at, each.close_at) for each in sessions_of(MARKETS["XHKG"], hours)] == [(opens, closes)]


def test_the_known_markets_are_listed_under_their_codes_and_have_real_clocks() -> None:
    """Two of the markets never close."""
    assert all(market.code == code and ZoneInfo(market.timezone) for code, market in MARKETS.items())
    assert {code for code, market in MARKETS.items() if market.always_open} == {"DEMO", "24/7"}


def test_computing_sessions_leaves_no_pandas_in_the_process() -> None:
    """It would stay in the worker's memory for good, with 80 MB. The result is that of the library."""
    script = """
import json, sys
from datetime import date
from services.marketdata import jobs
from shared.contracts.markets import MARKETS
found = jobs.compute_sessions([MARKETS["XNYS"], MARKETS["XHKG"]], date(2026, 11, 26), date(2026, 11, 27))
print(json.dumps([[str(each) for each in found.sessions], 'pandas' in sys.modules]))
"""
    done = subprocess.run([sys.executable, "-c", script], check=True, cwd=ROOT, capture_output=True, text=True)
    expected = [*sessions("XNYS", "2026-11-26", "2026-11-27"), *sessions("XHKG", "2026-11-26", "2026-11-27")]
    assert json.loads(done.stdout) == [[str(each) for each in expected], False]


def test_calendars_that_cannot_be_computed_say_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The cause is the last line of the process. One that takes too long is ended, and after two no other is tried."""
    days = date(2026, 11, 26), date(2026, 11, 27)
    with monkeypatch.context() as patch:
        patch.setattr("services.marketdata.calendars.TIMEOUT_SECONDS", 0.01)
        found = compute_sessions([MARKETS[code] for code in ("XNYS", "XLON", "XTKS")], *days)
        assert found.failed == {"XNYS": TOO_LONG, "XLON": TOO_LONG, "XTKS": "there was no time left after the others"}
    monkeypatch.setattr("services.marketdata.calendars.ROOT", tmp_path)
    monkeypatch.delenv("PYTHONPATH", raising=False)
    failed = compute_sessions([MARKETS["XNYS"]], *days).failed["XNYS"]
    assert re.search(r"ended with code 1: .*No module named 'services'", failed)


def test_marketdata_starts_without_pandas() -> None:
    """Importing pandas takes seconds and 80 MB, so only the job that needs it imports it."""
    script = "import services.marketdata.service, sys; sys.exit('pandas' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)
