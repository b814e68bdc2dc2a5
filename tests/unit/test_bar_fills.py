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
from shared.exchange.trading_days import ALWAYS_OPEN
from tests.unit.trading_examples import ACCEPTED, QUOTED, order, quote

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


@pytest.mark.parametrize(
    ("terms", "limit"),
    [("buy 10 AAPL limit 102", "102"), ("buy 10 AAPL limit 100", "100"), ("sell 10 AAPL limit 98", "98")],
)
def test_a_limit_that_rested_is_reached_before_the_open_lies_beyond_it(terms: str, limit: str) -> None:
    """The trades between two bars would have been with it, so it gains nothing from the open."""
    assert fill(terms, rests=True) == (limit, "range")


@pytest.mark.parametrize("terms", ["buy 10 AAPL limit 102", "sell 10 AAPL limit 98"])
def test_a_limit_beyond_which_the_market_opened_fills_at_the_open(terms: str) -> None:
    """Its session opened since the price before, or trading resumed: nobody traded on the way."""
    opened = ALWAYS_OPEN._replace(opened_at=ACCEPTED + timedelta(milliseconds=1))
    asked = order(terms, rests=True, active_at=ACCEPTED - timedelta(hours=1))
    resumed: dict[str, Any] = {"since": None, "bar_start": ACCEPTED}
    for fields, hours in (({}, opened), (resumed, ALWAYS_OPEN)):
        found = match(asked, quote(BAR, **fields), RULES, on_bar=True, hours=hours)
        assert (found.price, found.stage) == (Decimal(100), Stage.OPEN)


@pytest.mark.parametrize(
    ("terms", "on", "expected"),
    [
        ("buy 10 AAPL limit 102", BAR, ("101", "quote")),  # as a market order
        ("sell 10 AAPL limit 98", BAR, ("99", "quote")),
        ("buy 10 AAPL limit 100.5", BAR, ("100.5", "range")),  # the market ran away, and had been through its limit
        ("buy 10 AAPL limit 102", "AAPL 100 of 100 105 96", ("100.0100", "open")),  # no quote at all
        ("buy 10 AAPL limit 100.005", "AAPL 100 of 100 105 96", ("100.005", "open")),
        ("buy 10 AAPL limit 102", "AAPL 99/ 100 of 100 105 96", ("102", "range")),
    ],
)
def test_a_limit_that_was_marketable_when_it_came_fills_as_a_market_order(
    terms: str, on: str, expected: tuple[str, str]
) -> None:
    """It fills at the quote, or within its limit where the quote has left it behind."""
    assert fill(terms, on) == expected


@pytest.mark.parametrize("terms", ["buy 10 AAPL limit 100", "sell 10 AAPL limit 100"])
def test_a_limit_equal_to_the_open_is_touched_and_not_traded_through(terms: str) -> None:
    """Also over a gap."""
    hours = ALWAYS_OPEN._replace(opened_at=ACCEPTED + timedelta(milliseconds=1))
    on = quote("AAPL 99/101 100 of 100 100 100", since=ACCEPTED)
    for each in (ALWAYS_OPEN, hours):
        assert match(order(terms, rests=True), on, RULES, on_bar=True, hours=each).price is None


def test_a_bar_counts_by_its_own_start() -> None:
    """An order of the evening sees the first bar of the next day, although the update before came ahead of it."""
    evening = ACCEPTED - timedelta(hours=18)
    for terms in ("buy 10 AAPL limit 97", "sell 10 AAPL stop 97"):
        late = match(order(terms), quote(BAR, since=evening), RULES, on_bar=True)
        own = match(order(terms), quote(BAR, since=evening, bar_start=ACCEPTED), RULES, on_bar=True)
        assert (late.price, own.price) == (None, Decimal(97))
    gapped = match(order("sell 10 AAPL stop 101"), quote(BAR, since=evening, bar_start=ACCEPTED), RULES, on_bar=True)
    assert (gapped.price, gapped.stage) == (Decimal(100), Stage.OPEN)


def test_an_order_sees_the_last_bar_of_its_session() -> None:
    """The bar started before the order's end, and is quoted at it or later. The quote itself is too late."""
    for quoted_at in (QUOTED, QUOTED + timedelta(seconds=30)):
        on = quote(BAR, at=quoted_at, since=ACCEPTED, bar_start=ACCEPTED)
        for terms, price in (("buy 10 AAPL limit 97", 97), ("sell 10 AAPL stop 97", 97), ("buy 10 AAPL market", None)):
            assert match(order(terms, expires_at=QUOTED), on, RULES, on_bar=True).price == price
        assert match(order("buy 10 AAPL limit 97", expires_at=ACCEPTED), on, RULES, on_bar=True).price is None


def test_a_bar_without_a_start_of_its_own_must_end_with_the_order() -> None:
    """Its low may have been traded after that."""
    asked = order("buy 10 AAPL limit 97", expires_at=QUOTED)
    assert match(asked, quote(BAR, at=QUOTED, since=ACCEPTED), RULES, on_bar=True).price == 97
    late = quote(BAR, at=QUOTED + timedelta(seconds=1), since=ACCEPTED)
    assert match(asked, late, RULES, on_bar=True).price is None


@pytest.mark.parametrize("terms", ["buy 10 AAPL limit 97 ioc", "buy 10 AAPL limit 97 fok"])
def test_an_order_that_must_fill_at_once_sees_no_bar(terms: str) -> None:
    """The bar's low came after it would have ended."""
    assert fill(terms) == (None, "quote")


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
        ("sell 10 AAPL trailing_stop 4", "99", ("96", "range")),  # it followed the open before the low came
        ("sell 10 AAPL trailing_stop 5", "100", ("99", "quote")),  # it followed to 105, and the last is 100
        ("sell 10 AAPL trailing_stop 5", "110", ("100", "open")),
        ("sell 10 AAPL trailing_stop 6", "100", (None, "quote")),
        ("sell 10 AAPL trailing_stop 5%", "100", (None, "quote")),  # 105 less a twentieth is 99.75
        ("buy 10 AAPL trailing_stop 4", "100", ("104", "range")),
        ("buy 10 AAPL trailing_stop 5", "101", ("105", "range")),  # 106 before it followed the open
        ("buy 10 AAPL trailing_stop 5", "99", ("104", "range")),
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
            assert found.price in {asked.limit_price, on.ask if side is Side.BUY else on.bid} or not quoted
        else:
            assert low <= found.price <= high
        if asked.limit_price is not None:
            assert found.price <= asked.limit_price if side is Side.BUY else found.price >= asked.limit_price
