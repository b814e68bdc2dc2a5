"""Phases of New York, London and Tokyo: half days, holidays, breaks, daylight-saving changes and a year's end."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.jobs.schedule.calendar import Market, Phase
from tests.unit.market_days import at, london, new_york, tokyo

MARKETS = {market.code: market for market in (new_york(), london(), tokyo())}
ALWAYS = Market("DEMO", ZoneInfo("UTC"), always_open=True)

moments = st.datetimes(datetime(2026, 1, 1), datetime(2027, 1, 14), timezones=st.just(UTC))  # noqa: DTZ001 - made aware


@pytest.mark.parametrize(
    ("code", "moment", "phase"),
    [
        ("XNYS", "2026-11-24 03:59:59.999999", Phase.CLOSED),
        ("XNYS", "2026-11-24 04:00", Phase.PRE_MARKET),
        ("XNYS", "2026-11-24 09:30", Phase.REGULAR),
        ("XNYS", "2026-11-24 16:00", Phase.AFTER_HOURS),
        ("XNYS", "2026-11-24 20:00", Phase.CLOSED),
        ("XNYS", "2026-11-26 11:00", Phase.HOLIDAY),  # Thanksgiving
        ("XNYS", "2026-11-27 13:00", Phase.AFTER_HOURS),  # a half day
        ("XNYS", "2026-11-27 17:00", Phase.CLOSED),
        ("XNYS", "2026-11-28 11:00", Phase.WEEKEND),
        ("XNYS", "2026-03-06 09:29", Phase.PRE_MARKET),  # before and after the clocks go forward
        ("XNYS", "2026-03-09 09:30", Phase.REGULAR),
        ("XNYS", "2026-10-30 15:59", Phase.REGULAR),  # before and after they go back
        ("XNYS", "2026-11-02 15:59", Phase.REGULAR),
        ("XNYS", "2026-12-31 15:59", Phase.REGULAR),
        ("XNYS", "2026-12-31 23:59", Phase.CLOSED),
        ("XNYS", "2027-01-01 00:00", Phase.HOLIDAY),
        ("XLON", "2026-03-27 08:00", Phase.REGULAR),
        ("XLON", "2026-03-30 08:00", Phase.REGULAR),
        ("XLON", "2026-10-26 07:59", Phase.CLOSED),
        ("XLON", "2026-12-24 12:30", Phase.CLOSED),
        ("XLON", "2026-12-28 10:00", Phase.HOLIDAY),
        ("XTKS", "2026-11-24 11:30", Phase.CLOSED),  # the midday break
        ("XTKS", "2026-11-24 12:30", Phase.REGULAR),
        ("XTKS", "2026-11-23 10:00", Phase.HOLIDAY),
        ("XTKS", "2026-11-22 23:59", Phase.WEEKEND),
        ("XTKS", "2027-01-01 10:00", Phase.HOLIDAY),
    ],
)
def test_a_moment_lies_in_a_phase_of_its_market(code: str, moment: str, phase: Phase) -> None:
    market = MARKETS[code]
    assert market.phase_at(at(market, moment)) is phase


def test_the_same_moment_is_another_day_elsewhere() -> None:
    """Sunday evening in New York is Monday, a trading day, in Tokyo."""
    moment = datetime(2026, 11, 30, 1, 0, tzinfo=UTC)
    assert new_york().phase_at(moment) is Phase.WEEKEND
    assert tokyo().phase_at(moment) is Phase.REGULAR


def test_a_market_without_sessions_is_closed_and_one_without_a_close_is_open() -> None:
    unknown = Market("XPAR", ZoneInfo("Europe/Paris"))
    assert unknown.phase_at(datetime(2026, 11, 24, 12, tzinfo=UTC)) is Phase.HOLIDAY
    assert ALWAYS.phase_at(datetime(2026, 11, 28, 3, tzinfo=UTC)) is Phase.REGULAR


@given(st.sampled_from([*MARKETS.values(), ALWAYS]), moments, st.integers(min_value=1, max_value=240))
def test_phases_follow_each_other_without_gap_or_overlap(market: Market, begin: datetime, hours: int) -> None:
    """Each moment's phase is that of its span."""
    end = begin + timedelta(hours=hours)
    spans = list(market.spans(begin, end))
    assert (spans[0].begin, spans[-1].end) == (begin, end)
    assert all(one.end == other.begin for one, other in pairwise(spans))
    for span in spans:
        middle = span.begin + (span.end - span.begin) / 2
        assert market.phase_at(span.begin) is market.phase_at(middle) is span.phase


def test_a_market_that_never_closes_opens_and_closes_at_its_midnight() -> None:
    """Midnights go by its own clock, also on days of 23 and 25 hours. One at the end does not count."""
    for zone in ("UTC", "America/New_York"):
        market = Market("DEMO", ZoneInfo(zone), always_open=True)
        for first, last in (("2026-03-07 00:00", "2026-03-10 00:00"), ("2026-10-31 00:00", "2026-11-03 00:00")):
            begin, end = at(market, first), at(market, last)
            midnights = [at(market, f"{(begin.date() + timedelta(days=number))} 00:00") for number in range(3)]
            assert market.opens(begin, end) == market.closes(begin, end) == midnights
    assert ALWAYS.closes(at(ALWAYS, "2026-11-24 00:01"), at(ALWAYS, "2026-11-24 23:59")) == []
