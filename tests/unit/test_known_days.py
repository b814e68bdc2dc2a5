"""Days that a calendar has wrong, days that are only foreseen, and calendars that differ from a second source."""

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from services.marketdata.calendars import compute_sessions, sessions_between
from services.marketdata.domain import holidays
from services.marketdata.domain.differences import EVERY_DAY, Calendars, Difference, Kind
from services.marketdata.domain.known_days import CORRECTIONS
from shared.contracts.markets import MARKETS, KnownMarket
from shared.jobs.schedule.example_markets import example_market

NOWHERE = KnownMarket("XXXX", "An exchange without a calendar", "UTC")
YEAR = [date(2024, 1, 1) + timedelta(number) for number in range(366)]


@pytest.fixture(scope="module")
def computed() -> Calendars:
    """Days of September 2024 to January 2025, and a calendar that fails between two that do not."""
    markets = [MARKETS["XHKG"], NOWHERE, MARKETS["XASX"], MARKETS["XPAR"], MARKETS["24/5"]]
    return compute_sessions(markets, date(2024, 9, 2), date(2025, 1, 3))


def of(computed: Calendars, market: str) -> Mapping[str, Difference]:
    return {str(each.day): each for each in computed.differences if each.market == market}


@pytest.mark.parametrize(
    ("market", "day"),
    [
        ("XHKG", "2020-10-13"),  # typhoons and black rain
        ("XHKG", "2021-10-13"),
        ("XHKG", "2023-07-17"),
        ("XHKG", "2023-09-01"),
        ("XHKG", "2023-09-08"),
        ("XHKG", "2024-09-06"),
        ("XHKG", "2021-04-06"),  # the day after Easter Monday
        ("XNYS", "2012-10-29"),  # hurricane Sandy
        ("XNYS", "2012-10-30"),
        ("XNYS", "2018-12-05"),  # days of mourning
        ("XNYS", "2025-01-09"),
        ("XNAS", "2025-01-09"),
        ("XLON", "2022-09-19"),
        ("XTKS", "2020-10-01"),  # system failure
        ("XASX", "2022-09-22"),
    ],
)
def test_an_unplanned_closure_has_no_sessions(market: str, day: str) -> None:
    """The week has its other days."""
    closed = date.fromisoformat(day)
    assert sessions_between(MARKETS[market], closed, closed) == []
    week = sessions_between(MARKETS[market], closed.replace(day=1), closed.replace(day=28))
    assert len({session.day for session in week}) > 12


@pytest.mark.parametrize(
    ("day", "hours"),
    [
        ("2019-07-31", ["09:30-12:00", "13:00-13:55"]),
        ("2020-08-19", ["13:30-16:00"]),
        ("2021-06-28", ["13:30-16:00"]),
        ("2022-08-25", ["13:00-16:00"]),
        ("2022-11-02", ["09:30-12:00", "13:00-13:55"]),
        ("2023-10-09", ["14:00-16:00"]),
        ("2023-10-10", ["09:30-12:00", "13:00-16:00"]),
    ],
)
def test_a_typhoon_takes_the_morning_or_the_rest_of_the_day(day: str, hours: list[str]) -> None:
    """The library has whole days. A day that ended early says so."""
    zone = ZoneInfo("Asia/Hong_Kong")
    found = sessions_between(MARKETS["XHKG"], date.fromisoformat(day), date.fromisoformat(day))
    assert [f"{s.open_at.astimezone(zone):%H:%M}-{s.close_at.astimezone(zone):%H:%M}" for s in found] == hours
    assert {session.early_close for session in found} == {hours[-1].endswith("13:55")}


def test_every_correction_has_a_reason_and_a_source() -> None:
    """A correction is a closure, or has another time."""
    for (market, _), correction in CORRECTIONS.items():
        assert market in MARKETS
        assert correction.reason
        assert correction.source
        assert correction.closed != bool(correction.open_at or correction.close_at)


@pytest.mark.parametrize(
    ("market", "day", "forecast"),
    [
        ("XNYS", "2028-07-03", False),
        ("XNYS", "2029-07-03", True),
        ("XHKG", "2027-02-05", False),
        ("XHKG", "2028-02-01", True),
        ("XSHG", "2026-12-31", False),
        ("XSHG", "2027-01-04", True),
        ("24/5", "2029-07-03", False),
    ],
)
def test_a_day_that_the_exchange_has_not_announced_is_a_forecast(market: str, day: str, forecast: bool) -> None:
    """New York announces three years, China one."""
    (first, *_) = sessions_between(MARKETS[market], date.fromisoformat(day), date.fromisoformat(day))
    assert first.forecast is forecast


def test_currencies_trade_from_sunday_to_friday_evening_in_new_york() -> None:
    """Each day begins the evening before, and Christmas is closed. The clocks change on November 1."""
    week = sessions_between(MARKETS["24/5"], date(2026, 10, 30), date(2026, 11, 3))
    assert [(str(s.day), s.open_at, s.close_at) for s in week] == [
        ("2026-10-30", datetime(2026, 10, 29, 21, tzinfo=UTC), datetime(2026, 10, 30, 21, tzinfo=UTC)),
        ("2026-11-02", datetime(2026, 11, 1, 22, tzinfo=UTC), datetime(2026, 11, 2, 22, tzinfo=UTC)),
        ("2026-11-03", datetime(2026, 11, 2, 22, tzinfo=UTC), datetime(2026, 11, 3, 22, tzinfo=UTC)),
    ]
    assert sessions_between(MARKETS["24/5"], date(2026, 12, 25), date(2026, 12, 27)) == []


def test_one_calendar_that_fails_does_not_stop_the_others(computed: Calendars) -> None:
    """The failed one is named with its cause, and those after it are computed and compared."""
    assert list(computed.failed) == ["XXXX"]
    assert "ended with code 1: KeyError: 'XXXX'" in computed.failed["XXXX"]
    assert {session.market for session in computed.sessions} == {"XHKG", "XASX", "XPAR", "24/5"}
    assert computed.unchecked == {"24/5": "there is no second source"}
    assert of(computed, "XASX")


def test_calendars_are_held_against_a_second_source(computed: Calendars) -> None:
    """It trades on the day of typhoon Yagi, and has no half days. Ours is known to be right on both."""
    differences = of(computed, "XHKG")
    yagi, eve = differences["2024-09-06"], differences["2024-12-24"]
    assert (yagi.kind, yagi.open_at, yagi.other_open_at) == (
        Kind.TRADING_DAY,
        None,
        datetime(2024, 9, 6, 1, 30, tzinfo=UTC),
    )
    assert yagi.known is not None
    assert "Yagi" in yagi.known
    assert (eve.kind, eve.close_at, eve.other_close_at) == (
        Kind.HOURS,
        datetime(2024, 12, 24, 4, tzinfo=UTC),
        datetime(2024, 12, 24, 8, tzinfo=UTC),
    )
    assert eve.known == "XHKG has half days, which the second source lacks"
    assert of(computed, "XPAR") == {}


def test_a_difference_of_every_day_is_reported_once(computed: Calendars) -> None:
    """Sydney's closing auction is ten minutes after regular trading, and only one source counts it in."""
    (usual,) = of(computed, "XASX").values()
    assert (usual.kind, usual.day, usual.known) == (Kind.USUAL_HOURS, date(2024, 9, 2), EVERY_DAY)


@pytest.mark.parametrize("market", sorted(holidays.HOLIDAYS))
def test_published_holidays_and_the_library_agree_from_2022_to_2029(market: str) -> None:
    """They are the second source of exchanges that only one library has."""
    first, last = date(2022, 1, 1), date(2029, 12, 31)
    ours = {session.day for session in sessions_between(MARKETS[market], first, last)}
    assert ours == set(holidays.trading_days(market, first, last))


def test_the_hours_that_schedules_are_checked_with_are_those_of_the_markets(computed: Calendars) -> None:
    """A schedule that comes is refused otherwise. Fixed holidays have no sessions in either."""
    for code in ("XHKG", "XASX", "XPAR", "24/5"):
        market = example_market(code)
        of_market = [each for each in computed.sessions if each.market == code]
        usual = {
            (each.open_at.astimezone(market.zone).time(), each.close_at.astimezone(market.zone).time())
            for each in of_market
        }
        known = {
            (each.open_at.astimezone(market.zone).time(), each.close_at.astimezone(market.zone).time())
            for each in market.sessions
        }
        assert (len(of_market) > 80, usual - known) == (True, set())
        fixed = _without_trading(session.day for session in market.sessions) - _without_trading(
            session.day for session in of_market
        )
        assert {day for day in fixed if day[0] in {9, 10, 11, 12}} == set(), code


def _without_trading(days: Iterable[date]) -> set[tuple[int, int]]:
    """The days of the year that are on none of these days."""
    return {(day.month, day.day) for day in YEAR} - {(day.month, day.day) for day in days}
