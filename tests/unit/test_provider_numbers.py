"""Numbers and waits as providers write them, bars between two polls, and quotes that come together."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from services.marketdata.domain.coalesce import coalesce
from services.marketdata.domain.day_figures import DayFigures, traded_between
from services.marketdata.providers.numbers import decimal_of, positive, shortest, time_of
from services.marketdata.providers.provider import name_of_key
from services.marketdata.providers.retry_after import retry_after
from tests.component.provider_server import numbers
from tests.component.scripted_prices import made_up_quote

AT = datetime(2024, 6, 5, 15, tzinfo=UTC)
SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("written", "number"),
    [
        (142.24, "142.24"),
        (142.24000549316406, "142.24"),
        (1.0884299278259277, "1.0884299"),
        (71.27000000000001, "71.27"),
        (0.1, "0.1"),
        (5, "5"),
        ("411.2300", "411.2300"),
        (0.0000123456789, "0.000012346"),
        (63012.457, "63012.457"),
    ],
)
def test_a_number_has_the_digits_that_were_meant(written: object, number: str) -> None:
    """JSON's floats come from floats of 32 bits, and from sums of floats. No price has more than nine decimals."""
    assert str(shortest(written)) == number


@pytest.mark.parametrize("written", [float("nan"), float("inf"), "None", "-", "", None, True, [], {}, 1e300, "1e999"])
def test_what_is_no_number_is_missing(written: object) -> None:
    assert (decimal_of(written), shortest(written), positive(written)) == (None, None, None)


@pytest.mark.parametrize("written", [0, -1, "0.0", 1e-12])
def test_a_price_is_above_zero(written: object) -> None:
    assert positive(written) is None


def test_a_time_is_one_of_a_price() -> None:
    assert time_of(1717599600) == AT
    assert [time_of(each) for each in (0, None, "soon", 10**15)] == [None] * 4


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "120"}, 120),
        ({"Retry-After": "Wed, 05 Jun 2024 15:01:00 GMT", "Date": "Wed, 05 Jun 2024 15:00:00 GMT"}, 60),
        ({"Retry-After": "Wed, 05 Jun 2024 14:00:00 GMT", "Date": "Wed, 05 Jun 2024 15:00:00 GMT"}, 0),
        ({"Retry-After": "9999999999"}, 86_400),
        ({"Retry-After": "Wed, 05 Jun 2024 15:01:00 GMT"}, None),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "-5"}, None),
        ({}, None),
    ],
)
def test_a_wait_is_by_the_servers_own_clock(headers: dict[str, str | None], seconds: float | None) -> None:
    """Seconds, or a date. A wait is at most a day."""
    assert retry_after(headers) == seconds


def test_the_name_of_a_key_does_not_show_it() -> None:
    assert (name_of_key(""), len(name_of_key("secret")), name_of_key("secret") == name_of_key("other")) == (
        "",
        8,
        False,
    )


def figures(last: str, high: str | None, low: str | None, volume: str | None, *, seconds: int = 0) -> DayFigures:
    high_, low_, volume_ = (None if each is None else Decimal(each) for each in (high, low, volume))
    return DayFigures(date(2024, 6, 5), AT + seconds * SECOND, Decimal(last), high_, low_, volume_)


def test_a_bar_between_two_polls_has_what_is_new() -> None:
    """An old high may be from any time of the day. A new one was reached between the polls."""
    before = figures("101", "105", "99", "7000")
    after = figures("102", "105", "98", "8000", seconds=60)
    traded = traded_between(before, after)
    assert (traded.open, traded.high, traded.low, traded.volume) == numbers("101 102 98 1000")
    assert traded.start == AT


def test_without_figures_of_the_same_day_a_bar_is_its_price() -> None:
    """Nor from figures that are newer, or repeated. A volume that fell was corrected, and is not negative."""
    after = figures("102", "105", "98", "8000")
    for before in (None, after, figures("1", "1", "1", "1", seconds=5)):
        traded = traded_between(before, after)
        assert (traded.open, traded.high, traded.volume) == numbers("102 102 0")
        assert traded.start is None
    assert traded_between(figures("101", None, None, "9000", seconds=-1), after).volume == 0


def test_quotes_that_come_together_are_one_of_their_symbol() -> None:
    """The newest, with the bar of all. Repeated and older ones are dropped."""
    first, second = made_up_quote("AAPL", "100", AT), made_up_quote("AAPL", "103", AT + SECOND)
    third = made_up_quote("AAPL", "102", AT + 2 * SECOND)
    old, other = made_up_quote("AAPL", "1", AT - SECOND), made_up_quote("IBM", "5", AT)
    merged, untouched = coalesce([first, second, second, old, third, third, other])
    assert (merged.open, merged.high, merged.low, merged.close, merged.volume) == numbers("100 103 100 102 300")
    assert (merged.quoted_at, merged.bid, untouched) == (third.quoted_at, third.bid, other)
