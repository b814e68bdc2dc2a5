"""Intervals as people write them."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.jobs.schedule.interval import LONGEST, InvalidInterval, format_interval, parse_interval


@pytest.mark.parametrize(
    ("text", "interval"),
    [
        ("5s", timedelta(seconds=5)),
        ("1m", timedelta(minutes=1)),
        ("10m", timedelta(minutes=10)),
        ("1h", timedelta(hours=1)),
        ("1d", timedelta(days=1)),
        ("366d", LONGEST),
        ("999999s", timedelta(seconds=999_999)),
    ],
)
def test_a_number_and_a_unit_is_an_interval(text: str, interval: timedelta) -> None:
    """Seconds, minutes, hours and days, up to a year."""
    assert parse_interval(text) == interval


@pytest.mark.parametrize(
    "text",
    ["", "5", "s", "0s", "05s", "-5s", "+5s", "1.5h", "5 s", "5S", "1h30m", "10min", " 5s", "5s\n", "1w", "\u0665s"],
)
def test_anything_else_is_rejected_and_quoted(text: str) -> None:
    """The error quotes the text and shows a valid interval."""
    with pytest.raises(InvalidInterval) as refused:
        parse_interval(text)
    assert repr(text) in str(refused.value)
    assert "such as 10m" in str(refused.value)


@pytest.mark.parametrize("text", ["367d", "8785h", "527041m", "999999d"])
def test_more_than_a_year_is_rejected(text: str) -> None:
    """Such an interval is a mistake: its slots would never come."""
    with pytest.raises(InvalidInterval, match="longer than 366 days"):
        parse_interval(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(1, "1s"), (60, "1m"), (90, "90s"), (3600, "1h"), (5400, "90m"), (86_400, "1d"), (90_000, "25h")],
)
def test_an_interval_is_formatted_in_its_largest_whole_unit(seconds: int, text: str) -> None:
    """An hour is 1h, and ninety seconds are 90s."""
    assert format_interval(timedelta(seconds=seconds)) == text


@given(st.integers(min_value=1, max_value=999_999), st.sampled_from("smhd"))
def test_a_formatted_interval_parses_to_itself(number: int, unit: str) -> None:
    """Formatting and parsing are inverse."""
    try:
        interval = parse_interval(f"{number}{unit}")
    except InvalidInterval:
        assert unit in "mhd"
    else:
        assert parse_interval(format_interval(interval)) == interval
