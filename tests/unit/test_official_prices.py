"""The first and the last trade of a trading day: which bar has them, and which only seems to."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from services.marketdata.domain.official import NEAR, Bar, TradingDay, first_trade, just_over
from shared.contracts.official_prices import AuctionKind

OPEN, CLOSE = datetime(2026, 11, 27, 14, 30, tzinfo=UTC), datetime(2026, 11, 27, 18, tzinfo=UTC)
DAY = TradingDay("XNYS", date(2026, 11, 27), OPEN, CLOSE)
BEFORE = TradingDay("XNYS", date(2026, 11, 25), OPEN - timedelta(2), CLOSE - timedelta(2))
SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)


def bar(since: datetime, until: datetime | None = None, volume: int = 100) -> Bar:
    return Bar("AAPL", Decimal(101), Decimal(volume), since, until or since + MINUTE, "test")


@pytest.mark.parametrize(
    ("found", "is_first"),
    [
        (bar(OPEN - SECOND), False),  # some of it was traded before the open
        (bar(OPEN), True),
        (bar(OPEN + 30 * SECOND), True),
        (bar(OPEN + 30 * SECOND, volume=0), False),  # nothing was traded
        (bar(OPEN + NEAR - SECOND), True),
        (bar(OPEN + NEAR), False),  # nobody looked when the market opened
        (bar(OPEN + MINUTE, CLOSE + SECOND), False),  # the feed was away all day
        (bar(CLOSE + MINUTE), False),
        (bar(OPEN - timedelta(1)), False),  # a holiday
    ],
)
def test_the_first_trade_is_the_open_of_the_first_bar_in_the_session(found: Bar, *, is_first: bool) -> None:
    """It begins at the open or soon after it, and something was traded."""
    official = first_trade(found, [BEFORE, DAY])
    assert (official is not None) == is_first
    if official is not None:
        assert (official.symbol, official.kind, official.day) == ("AAPL", AuctionKind.OPEN, DAY.day)
        assert (official.price, official.held_at, official.volume) == (Decimal(101), found.since, None)


@pytest.mark.parametrize(
    ("found", "day"),
    [
        (bar(CLOSE - MINUTE, CLOSE), None),  # a price at the close is one of the session
        (bar(CLOSE - MINUTE, CLOSE + SECOND), DAY),
        (bar(CLOSE, CLOSE + MINUTE), DAY),
        (bar(CLOSE + SECOND, CLOSE + MINUTE), None),
        (bar(BEFORE.close_at - MINUTE, OPEN), BEFORE),  # over a holiday
        (bar(BEFORE.close_at - MINUTE, CLOSE + MINUTE), DAY),
    ],
)
def test_a_day_is_over_with_the_first_price_after_its_close(found: Bar, day: TradingDay | None) -> None:
    """Once: with the price before which there was none after it."""
    assert just_over(found, [BEFORE, DAY]) == day
