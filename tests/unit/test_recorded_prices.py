"""The recorded daily prices: what the file holds, how splits are spliced, what is refused."""

from datetime import date
from decimal import Decimal
from itertools import pairwise

import pytest

from services.marketdata.domain.recorded import RecordedDay, UnreadableRecording, recorded_bars
from services.marketdata.domain.splits import SPLITS, split_factor, split_price
from services.marketdata.providers.replay import recording

HEADER = "symbol,date,open,high,low,close,volume"
JUMP = Decimal("0.25")


def bar_on(symbol: str, day: date) -> RecordedDay:
    return next(bar for bar in recording()[symbol] if bar.date == day)


def split_days() -> list[tuple[str, date]]:
    return [(symbol, split.first_day) for symbol, splits in SPLITS.items() for split in splits]


def change(before: Decimal, after: Decimal) -> Decimal:
    return abs(after / before - 1)


def test_the_recording_holds_every_row_of_its_source() -> None:
    """The source has 12 154 rows of five symbols."""
    counts = {symbol: len(bars) for symbol, bars in recording().items()}
    assert counts == {"AAPL": 3270, "FB": 196, "GOOG": 2148, "IBM": 3270, "MSFT": 3270}
    assert sum(counts.values()) == 12_154


def test_days_rise_and_every_bar_holds_its_prices() -> None:
    """Open and close lie within low and high after the splices too."""
    for bars in recording().values():
        assert all(before.date < after.date for before, after in pairwise(bars))
        assert all(0 < bar.low <= min(bar.open, bar.close) for bar in bars)
        assert all(max(bar.open, bar.close) <= bar.high for bar in bars)


@pytest.mark.parametrize(("symbol", "day"), split_days())
def test_the_series_is_continuous_over_a_split(symbol: str, day: date) -> None:
    """The first bar at the new price joins the last one before it."""
    before, after = next(pair for pair in pairwise(recording()[symbol]) if pair[1].date == day)
    assert change(before.close, after.open) < JUMP
    assert change(before.close, after.close) < JUMP


@pytest.mark.parametrize(("symbol", "day"), split_days())
def test_each_split_day_is_the_first_at_the_new_price(symbol: str, day: date) -> None:
    """As traded, the price halved between the day before and the day in the table, not a day earlier or later."""
    before, after = next(pair for pair in pairwise(recording()[symbol]) if pair[1].date == day)
    as_traded = before.close * split_factor(symbol, before.date) / split_factor(symbol, after.date)
    assert change(as_traded, 2 * after.open) < Decimal("0.03")


def test_a_real_crash_is_not_taken_for_a_split() -> None:
    """AAPL lost half of its value on 2000-09-29. Both days carry the same factor."""
    before, after = bar_on("AAPL", date(2000, 9, 28)), bar_on("AAPL", date(2000, 9, 29))
    assert (before.close, after.close) == (Decimal("53.5") / 2, Decimal("25.75") / 2)


def test_prices_before_both_splits_are_quarters_and_volumes_fourfold() -> None:
    """AAPL's first bar closed at 130.31 on 9 616 100 shares. The figures are exact."""
    bar = bar_on("AAPL", date(2000, 3, 1))
    assert (bar.open, bar.close, bar.volume) == (Decimal("29.64"), Decimal("32.5775"), Decimal(38_464_400))


def test_prices_after_the_last_split_are_as_recorded() -> None:
    """The digits of the source stay, trailing zeros included."""
    assert str(bar_on("MSFT", date(2003, 2, 18)).open) == "24.62"
    assert str(bar_on("IBM", date(2013, 3, 1)).close) == "202.91"


def test_no_price_has_more_than_four_decimals() -> None:
    """Four decimals are the finest that prices are quoted in."""
    prices = {
        price for bars in recording().values() for bar in bars for price in (bar.open, bar.high, bar.low, bar.close)
    }
    assert all(price == round(price, 4) for price in prices)


def test_a_split_price_is_exact_where_four_decimals_hold_it() -> None:
    """Only what would be finer is rounded, to the even neighbour."""
    assert split_price(Decimal("130.31"), 4) == Decimal("32.5775")
    assert str(split_price(Decimal("120.0"), 4)) == "30.0"
    assert split_price(Decimal("28.5351"), 2) == Decimal("14.2676")
    assert split_price(Decimal("28.5349"), 2) == Decimal("14.2674")


def test_symbols_without_splits_keep_their_prices() -> None:
    """A symbol that the table does not name has the factor 1."""
    assert split_factor("IBM", date(2000, 3, 1)) == 1


def test_text_lines_become_bars() -> None:
    """Any iterable of CSV lines will do."""
    bars = recorded_bars([HEADER, "FB,2012-05-18,42.05,45.0,38.0,38.2318,573576400"])
    figures = (Decimal("42.05"), Decimal("45.0"), Decimal("38.0"), Decimal("38.2318"), Decimal(573576400))
    assert bars == {"FB": (RecordedDay("FB", date(2012, 5, 18), *figures),)}


@pytest.mark.parametrize(
    "row",
    [
        "FB,2012-05-18,42,45,38,38",
        "FB,18.05.2012,42,45,38,38,100",
        "FB,2012-05-18,42,45,38,dear,100",
        "FB,2012-05-18,42,45,NaN,38,100",
        "FB,2012-05-18,42,45,38,38,NaN",
        "FB,2012-05-18,42,45,39,38,100",
        "FB,2012-05-18,42,41,38,38,100",
        "FB,2012-05-18,42,45,0,38,100",
        "FB,2012-05-18,42,45,38,38,-1",
        "FB,2012-05-17,42,45,38,38,100",
    ],
)
def test_a_bad_row_is_refused_with_its_line(row: str) -> None:
    """A missing field, a strange date or number, an impossible bar, a day out of order."""
    with pytest.raises(UnreadableRecording, match="line 3"):
        recorded_bars([HEADER, "FB,2012-05-17,42,45,38,38,100", row])


@pytest.mark.parametrize("lines", [[], ["symbol,date,close"]])
def test_a_strange_header_is_refused(lines: list[str]) -> None:
    """Columns are read by place, so the header must be the one that is expected."""
    with pytest.raises(UnreadableRecording, match="line 1"):
        recorded_bars(lines)
