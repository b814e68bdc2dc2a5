"""The periods of reports: days, weeks and months by the clock of a market, without a gap and without an overlap."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from shared.reports.periods import INSTANT, REGULAR, PeriodKind, period_around, period_before
from shared.reports.words import counted, quantity, title

NEW_YORK = ZoneInfo("America/New_York")
#: March 2026 without weekends. The clocks change on the 8th.
DAYS = [day for n in range(60) if (day := date(2026, 2, 15) + timedelta(days=n)).weekday() < 5]


@pytest.mark.parametrize("kind", REGULAR)
def test_each_period_begins_where_the_one_before_ends(kind: PeriodKind) -> None:
    """Over a change of the clocks too: no moment is in none or in two."""
    period = period_around(kind, date(2026, 3, 20), DAYS, NEW_YORK)
    while period.first > date(2026, 2, 20):
        before = period_before(period, DAYS, NEW_YORK)
        assert (before.end + INSTANT, before.last + timedelta(days=1)) == (period.begin, period.first)
        for day in (before.first, before.last):
            assert period_around(kind, day, DAYS, NEW_YORK) == before
        period = before


def test_a_weekend_belongs_to_the_next_trading_day() -> None:
    """Its days are 24 hours but for that on which the clocks change."""
    period = period_around(PeriodKind.DAILY, date(2026, 3, 8), DAYS, NEW_YORK)
    assert (period.first, period.last) == (date(2026, 3, 7), date(2026, 3, 9))
    assert (period.begin, period.end) == (
        datetime(2026, 3, 7, 5, tzinfo=UTC),
        datetime(2026, 3, 10, 4, tzinfo=UTC) - INSTANT,
    )


def test_a_day_beyond_the_known_trading_days_stands_for_itself() -> None:
    for day in (date(2020, 1, 5), date(2030, 1, 5)):
        period = period_around(PeriodKind.DAILY, day, DAYS, NEW_YORK)
        assert (period.first, period.last) == (day, day)


@pytest.mark.parametrize(
    ("period", "first", "last", "expected"),
    [
        ("daily", "2026-11-28", "2026-11-30", "Daily report, 30 November 2026"),
        ("weekly", "2026-11-23", "2026-11-29", "Weekly report, 23 to 29 November 2026"),
        ("weekly", "2026-11-30", "2026-12-06", "Weekly report, 30 November 2026 to 6 December 2026"),
        ("monthly", "2026-11-01", "2026-11-30", "Monthly report, November 2026"),
        ("custom", "2026-11-01", "2026-11-01", "Report, 1 November 2026"),
    ],
)
def test_a_title_names_the_days(period: str, first: str, last: str, expected: str) -> None:
    assert title({"period": period, "first_day": first, "last_day": last}) == expected


def test_counts_and_quantities_read_well() -> None:
    assert [counted(number, "trade") for number in (0, 1, 1200)] == ["0 trades", "1 trade", "1,200 trades"]
    assert [quantity(each) for each in ("1000.500", "10", "0.000000001", None)] == ["1,000.5", "10", "0.000000001", "-"]
