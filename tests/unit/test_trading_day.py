"""The trading day that a summary is of: after a close, at midnight, by hand, over a weekend, and when it comes late."""

from datetime import UTC, date, datetime, timedelta

import pytest

from services.valuation.domain.trading_day import NoTradingDay, TradingDay, trading_day
from shared.jobs.schedule.calendar import Market
from tests.unit.market_days import at, new_york
from tests.unit.test_calendar import ALWAYS

SOON = timedelta(minutes=5)


def day_of(market: Market, now: str, slot: str | None = None) -> TradingDay:
    moment = at(market, now)
    closes = market.closes(moment - timedelta(days=30), moment + timedelta(days=1))
    return trading_day(closes, at(market, slot) if slot else None, moment, market.zone)


def test_a_slot_after_the_close_is_of_the_day_that_closed() -> None:
    """It lasts from the close before, so that nothing between two days is left out. A half day ends at its close."""
    market = new_york()
    friday = day_of(market, "2026-11-27 13:05", slot="2026-11-27 13:05")
    assert friday.day == date(2026, 11, 27)
    assert (friday.begin, friday.end) == (at(market, "2026-11-25 16:00"), at(market, "2026-11-27 13:00"))
    monday = day_of(market, "2026-11-30 16:05", slot="2026-11-30 16:05")
    assert (monday.day, monday.begin) == (date(2026, 11, 30), friday.end)


def test_a_market_that_never_closes_has_days_from_midnight_to_midnight() -> None:
    """Just after midnight it is yesterday that is summed up, also over a year's end."""
    new_year = day_of(ALWAYS, "2027-01-01 00:05", slot="2027-01-01 00:05")
    assert new_year.day == date(2026, 12, 31)
    assert (new_year.begin, new_year.end) == (at(ALWAYS, "2026-12-31 00:00"), at(ALWAYS, "2027-01-01 00:00"))


@pytest.mark.parametrize(
    ("now", "day", "begins", "ends"),
    [
        ("2026-11-24 11:00", (2026, 11, 24), "2026-11-23 16:00", "2026-11-24 11:00"),
        ("2026-11-24 18:00", (2026, 11, 24), "2026-11-23 16:00", "2026-11-24 16:00"),
        ("2026-11-28 11:00", (2026, 11, 27), "2026-11-25 16:00", "2026-11-27 13:00"),
        ("2026-11-30 02:00", (2026, 11, 30), "2026-11-27 13:00", "2026-11-30 02:00"),
    ],
)
def test_a_manual_run_summarizes_today_while_the_market_has_yet_to_close(
    now: str, day: tuple[int, int, int], begins: str, ends: str
) -> None:
    """Else the latest day that closed: in the evening, at the weekend."""
    market = new_york()
    found = day_of(market, now)
    assert (found.day, found.begin, found.end) == (date(*day), at(market, begins), at(market, ends))
    assert found.until == at(market, now)


def test_a_late_run_counts_the_values_of_now_until_another_day_has_closed() -> None:
    """After that, what an account is worth now belongs to the later day. The day keeps its values up to its slot."""
    market = new_york()
    slot = "2026-11-24 16:05"
    assert day_of(market, "2026-11-25 09:00", slot).until == at(market, "2026-11-25 09:00")
    assert day_of(market, "2026-11-25 16:00", slot).until == at(market, slot)


def test_a_slot_before_the_first_known_close_has_no_day() -> None:
    """The day of the first known close begins one day before it."""
    close = datetime(2026, 11, 24, 21, tzinfo=UTC)
    with pytest.raises(NoTradingDay, match="update_sessions"):
        trading_day([close], None, close - SOON, UTC)
    assert trading_day([close], close + SOON, close + SOON, UTC).begin == close - timedelta(days=1)
