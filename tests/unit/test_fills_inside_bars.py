"""No order fills inside of a bar at a price that the bar did not have."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from shared.exchange.market_rules import MarketRules
from shared.exchange.matching.matching import Stage, match
from tests.unit.trading_examples import QUOTED, order, quote

#: A bar with a start of its own, in continuous trading: no session opened since the update before.
CONTINUOUS: dict[str, Any] = {"since": QUOTED - timedelta(minutes=2), "bar_start": QUOTED - timedelta(minutes=1)}
EARLIER: dict[str, Any] = {"accepted_at": QUOTED - timedelta(minutes=5), "active_at": QUOTED - timedelta(minutes=5)}


@pytest.mark.parametrize(
    ("text", "bar", "at"),
    [
        ("buy 10 AAPL limit 101", "AAPL 100 of 99 100 98", "100"),
        ("sell 10 AAPL limit 95", "AAPL 97 of 98 99 96", "96"),
        ("buy 10 AAPL stop_limit 97 101", "AAPL 100 of 99 100 98", "100"),
        ("buy 10 AAPL limit 101", "AAPL 100.90/101.10 100 of 99 100 98", "100"),
        ("buy 10 AAPL limit 101", "AAPL 99.90/ 100 of 99 100 98", "100"),
    ],
)
def test_a_limit_beyond_the_whole_bar_fills_at_the_worst_price_in_it(text: str, bar: str, at: str) -> None:
    """The rest of a partly filled order waits beyond the market: a buy pays at most the high, a sale gets the low."""
    waits = order(text, filled_qty=Decimal(4), rests=True, triggered="stop" in text, **EARLIER)
    found = match(waits, quote(bar, **CONTINUOUS), MarketRules(), on_bar=True)
    assert (found.price, found.stage) == (Decimal(at), Stage.RANGE)


def test_a_limit_beyond_the_whole_bar_fills_on_the_quote_that_reaches_it() -> None:
    """The bar never traded at the limit, so the fill names the quote, as the books demand."""
    waits = order("buy 10 AAPL limit 101", rests=True, **EARLIER)
    found = match(waits, quote("AAPL 99.90/100.10 100 of 99 100 98", **CONTINUOUS), MarketRules(), on_bar=True)
    assert (found.price, found.stage) == (Decimal(101), Stage.QUOTE)
