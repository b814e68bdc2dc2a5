"""Trailing stops follow the market on its good side, and are triggered on the other."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.orders import Side
from shared.exchange.market_rules import MarketRules
from shared.exchange.matching.matching import follow, match, stop_of
from tests.unit.trading_examples import facts, order, quote

RULES = MarketRules()


@pytest.mark.parametrize(
    ("terms", "lasts", "stop"),
    [
        ("sell 10 AAPL trailing_stop 5", ["100", "120", "110"], "115"),
        ("sell 10 AAPL trailing_stop 5%", ["100", "120", "110"], "114"),
        ("buy 10 AAPL trailing_stop 5", ["100", "80", "90"], "85"),
        ("buy 10 AAPL trailing_stop 5%", ["100", "80", "90"], "84"),
    ],
)
def test_a_trailing_stop_follows_the_best_price(terms: str, lasts: list[str], stop: str) -> None:
    """It follows the market and never goes back, by an amount or a percentage, on both sides."""
    trailing = order(terms)
    for last in lasts[:2]:
        found = match(trailing, quote(f"AAPL {last}"), RULES, on_bar=False)
        assert found.price is None
        trailing = found.order
    assert trailing.hwm == Decimal(lasts[1])
    assert stop_of(trailing) == Decimal(stop)
    found = match(trailing, quote(f"AAPL {lasts[2]}/{lasts[2]} {lasts[2]}"), RULES, on_bar=False)
    assert (found.price, found.takes_liquidity, found.order.triggered) == (Decimal(lasts[2]), True, True)


def test_a_trailing_stop_waits_for_its_first_price() -> None:
    """Before the first price there is nothing to follow, and so no stop."""
    trailing = order("sell 10 AAPL trailing_stop 5")
    assert stop_of(trailing) is None
    found = match(trailing, quote("AAPL 100"), RULES, on_bar=False)
    assert facts(found.price, found.order.hwm) == (None, 100)


def test_a_trail_wider_than_the_price_is_never_reached() -> None:
    """A stop below zero is never reached."""
    trailing = order("sell 10 AAPL trailing_stop 200", hwm=Decimal(100))
    assert match(trailing, quote("AAPL 0.01"), RULES, on_bar=False).price is None


@given(st.sampled_from(Side), st.lists(st.integers(min_value=9_000, max_value=11_000), min_size=1, max_size=20))
def test_a_trailing_stop_never_moves_away_from_the_market(side: Side, cents: list[int]) -> None:
    """The stop of a sell only rises and that of a buy only falls."""
    trailing, before = order(f"{side} 1 AAPL trailing_stop 2.5%"), None
    for price in cents:
        trailing = follow(trailing, Decimal(price) / 100)
        stop = stop_of(trailing)
        assert stop is not None
        assert before is None or (stop <= before if side is Side.BUY else stop >= before)
        before = stop


def test_only_a_trailing_stop_follows() -> None:
    """The stop of any other order stays."""
    assert follow(order("sell 1 AAPL stop 95"), Decimal(200)) == order("sell 1 AAPL stop 95")
