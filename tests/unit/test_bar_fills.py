"""Fills between two quotes, at the bar's open and inside its range, for accounts that fill on bars."""

from datetime import timedelta
from decimal import Decimal
from itertools import product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.orders import Side
from shared.exchange.market_rules import MarketRules
from shared.exchange.matching.matching import Match, Stage, match
from tests.unit.trading_examples import ACCEPTED, order, quote

RULES = MarketRules()
#: It opened at 100, went from 96 to 105 and is quoted at 99 to 101 now.
BAR = "AAPL 99/101 100 of 100 105 96"


def matched(terms: str, on: str = BAR, **fields: Any) -> Match:
    since = fields.pop("since", ACCEPTED)
    return match(order(terms, **fields), quote(on, since=since), RULES, on_bar=True)


def fill(terms: str, on: str = BAR, **fields: Any) -> tuple[str | None, str]:
    found = matched(terms, on, **fields)
    return (None if found.price is None else str(found.price)), found.stage.name.lower()


@pytest.mark.parametrize(
    ("terms", "price"),
    [
        ("buy 10 AAPL limit 97", "97"),
        ("buy 10 AAPL limit 96.01", "96.01"),
        ("sell 10 AAPL limit 104", "104"),
        ("sell 10 AAPL limit 104.99", "104.99"),
    ],
)
def test_a_limit_that_was_traded_through_fills_at_its_limit(terms: str, price: str) -> None:
    """It fills although the quote at the end of the bar does not reach it."""
    assert fill(terms) == (price, "range")


@pytest.mark.parametrize("terms", ["buy 10 AAPL limit 96", "sell 10 AAPL limit 105"])
def test_a_limit_that_was_only_touched_waits(terms: str) -> None:
    """Other orders at that price were there before it."""
    assert fill(terms) == (None, "quote")


@pytest.mark.parametrize("terms", ["buy 10 AAPL limit 102", "buy 10 AAPL limit 100", "sell 10 AAPL limit 98"])
def test_a_limit_within_the_open_fills_at_the_open(terms: str) -> None:
    """The open is the better price, and lies between the bar's low and high."""
    assert fill(terms) == ("100", "open")


@pytest.mark.parametrize(("terms", "price"), [("buy 10 AAPL stop 104", "104"), ("sell 10 AAPL stop 97", "97")])
def test_a_stop_inside_the_bar_fills_at_its_stop(terms: str, price: str) -> None:
    """Reaching the stop is enough, and the order does not wait for the bar's end."""
    assert fill(terms) == (price, "range")
    assert matched(terms).takes_liquidity
    assert fill(terms.replace("104", "105").replace("97", "96"))[1] == "range"


@pytest.mark.parametrize("terms", ["buy 10 AAPL stop 98", "buy 10 AAPL stop 100", "sell 10 AAPL stop 103"])
def test_a_stop_that_was_gapped_through_fills_at_the_open(terms: str) -> None:
    """Nobody traded at the stop itself."""
    assert fill(terms) == ("100", "open")


@pytest.mark.parametrize("terms", ["buy 10 AAPL stop 105.01", "sell 10 AAPL stop 95.99"])
def test_a_stop_outside_of_the_bar_waits(terms: str) -> None:
    """The bar did not reach it."""
    assert fill(terms) == (None, "quote")
    assert not matched(terms).order.triggered


@pytest.mark.parametrize(
    ("terms", "expected"),
    [
        ("buy 10 AAPL stop_limit 103 104", ("103", "range")),  # the limit allows what the stop asks for
        ("buy 10 AAPL stop_limit 103 102", ("101", "quote")),  # beyond its stop: only the quote surely comes later
        ("buy 10 AAPL stop_limit 103 100.5", (None, "quote")),  # triggered, and waits for its limit
        ("buy 10 AAPL stop_limit 99 101", ("100", "open")),  # gapped through, and within its limit
        ("buy 10 AAPL stop_limit 99 97", ("97", "range")),  # gapped through, and traded through afterwards
        ("buy 10 AAPL stop_limit 99 96", (None, "quote")),  # gapped through, and only touched afterwards
        ("sell 10 AAPL stop_limit 97 96", ("97", "range")),
        ("sell 10 AAPL stop_limit 97 98", ("99", "quote")),
        ("sell 10 AAPL stop_limit 101 104", ("104", "range")),
    ],
)
def test_a_stop_limit_inside_the_bar(terms: str, expected: tuple[str | None, str]) -> None:
    """The sequence of prices is unknown, so the worse case is assumed. All of these are triggered."""
    assert fill(terms) == expected
    assert matched(terms).order.triggered


@pytest.mark.parametrize(
    ("terms", "hwm", "expected"),
    [
        ("sell 10 AAPL trailing_stop 3", "100", ("97", "range")),  # its stop is checked before it follows the high
        ("sell 10 AAPL trailing_stop 5", "100", ("99", "quote")),  # it followed to 105, and the last is 100
        ("sell 10 AAPL trailing_stop 5", "110", ("100", "open")),
        ("sell 10 AAPL trailing_stop 6", "100", (None, "quote")),
        ("sell 10 AAPL trailing_stop 5%", "100", (None, "quote")),  # 105 less a twentieth is 99.75
        ("buy 10 AAPL trailing_stop 4", "100", ("104", "range")),
        ("buy 10 AAPL trailing_stop 4", "101", ("105", "range")),
        ("buy 10 AAPL trailing_stop 6", "100", (None, "quote")),
    ],
)
def test_a_trailing_stop_inside_the_bar(terms: str, hwm: str, expected: tuple[str | None, str]) -> None:
    """Its old stop is checked first, then it follows the bar's best price, then the last price is checked."""
    assert fill(terms, hwm=Decimal(hwm)) == expected


def test_a_trailing_stop_keeps_the_best_price_of_the_bar() -> None:
    """The price is kept although the bar's end is worse."""
    assert matched("sell 10 AAPL trailing_stop 20", hwm=Decimal(100)).order.hwm == 105
    assert matched("buy 10 AAPL trailing_stop 20", hwm=Decimal(100)).order.hwm == 96


@pytest.mark.parametrize("side", Side)
def test_a_market_order_takes_the_quote_where_there_is_one(side: Side) -> None:
    """On a bar alone it fills at the open, half an assumed spread worse, within the bar."""
    terms, assumed = f"{side} 10 AAPL market", {"buy": "100.0100", "sell": "99.9900"}
    assert fill(terms) == ({"buy": "101", "sell": "99"}[side], "quote")
    assert fill(terms, "AAPL 100 of 100 105 96") == (assumed[side], "open")
    assert fill(terms, "AAPL 100 of 100 100 100") == ("100", "open")


@pytest.mark.parametrize("terms", ["buy 10 AAPL limit 97", "sell 10 AAPL stop 97", "buy 10 AAPL stop 104"])
def test_a_bar_that_began_before_the_order_does_not_count(terms: str) -> None:
    """The low may be older than the order. The quote at the bar's end is newer."""
    before = ACCEPTED - timedelta(microseconds=1)
    assert fill(terms, since=before) == (None, "quote")
    assert fill(terms, since=None) == (None, "quote")
    assert fill(terms)[1] == "range"


@pytest.mark.parametrize("terms", ["buy 10 AAPL limit 97", "sell 10 AAPL stop 97"])
def test_the_bar_does_not_count_for_an_account_that_fills_on_quotes(terms: str) -> None:
    """Its fill model uses quotes alone."""
    assert match(order(terms), quote(BAR), RULES, on_bar=False).price is None


levels = st.integers(min_value=9_000, max_value=11_000).map(lambda cents: Decimal(cents) / 100)
KINDS = ["market", "limit {a}", "stop {a}", "stop_limit {a} {b}", "trailing_stop 3", "trailing_stop 2.5%"]


@given(bar=st.lists(levels, min_size=4, max_size=4), a=levels, b=levels, hwm=levels, quoted=st.booleans())
def test_a_fill_lies_in_its_bar_or_on_its_quote_and_within_its_limit(
    bar: list[Decimal], a: Decimal, b: Decimal, hwm: Decimal, *, quoted: bool
) -> None:
    """This holds for every bar and order."""
    first, last, low, high = bar[0], bar[1], min(bar), max(bar)
    sides = f"{last - Decimal('0.05')}/{last + Decimal('0.05')} " if quoted else ""
    on = quote(f"AAPL {sides}{last} of {first} {high} {low}")
    for side, kind in product(Side, KINDS):
        asked = order(f"{side} 1 AAPL {kind.format(a=a, b=b)}", hwm=hwm)
        found = match(asked, on, RULES, on_bar=True)
        if found.price is None:
            continue
        if found.stage is Stage.QUOTE:
            assert found.price == (on.ask if side is Side.BUY else on.bid) or not quoted
        else:
            assert low <= found.price <= high
        if asked.limit_price is not None:
            assert found.price <= asked.limit_price if side is Side.BUY else found.price >= asked.limit_price
