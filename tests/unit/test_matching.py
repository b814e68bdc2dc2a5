"""The price at which an order fills on a quote, and the quotes on which it may fill at all."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.orders import Side
from shared.contracts.prices import Price
from shared.exchange.market_rules import MarketRules
from shared.exchange.matching.matching import Match, Stage, buy_price, match, oldest_fresh, quote_counts, sell_price
from shared.exchange.order import Order
from shared.exchange.trading_days import Hours
from tests.unit.trading_examples import ACCEPTED, QUOTED, order, quote

RULES = MarketRules(max_quote_age=timedelta(seconds=120), half_spread=Decimal("0.0001"))
EVER = timedelta(days=1)
MICROSECOND = timedelta(microseconds=1)

cent_prices = st.decimals(min_value=Decimal("0.02"), max_value=10**6, places=2)


def matched(terms: str, on: str, **fields: Any) -> Match:
    """The match of the order with a quote, for an account that fills on quotes alone."""
    return match(order(terms, **fields), quote(on), RULES, on_bar=False)


def usable(price: Price, asked: Order, at: datetime, rules: MarketRules) -> bool:
    """The quote is fresh when it becomes known, and counts for the order."""
    return price.quoted_at >= oldest_fresh(at, rules) and quote_counts(asked, price)


def price_of(terms: str, on: str) -> Decimal | None:
    return matched(terms, on).price


@pytest.mark.parametrize(
    ("terms", "price"),
    [
        ("buy 10 AAPL market", "100.10"),
        ("sell 10 AAPL market", "99.90"),
        ("buy 10 AAPL limit 100.11", "100.10"),
        ("buy 10 AAPL limit 100.10", "100.10"),
        ("buy 10 AAPL limit 100.09", None),
        ("sell 10 AAPL limit 99.91", None),
        ("sell 10 AAPL limit 99.90", "99.90"),
        ("sell 10 AAPL limit 99.89", "99.90"),
        ("buy 10 AAPL stop 100.01", None),
        ("buy 10 AAPL stop 100.00", "100.10"),
        ("buy 10 AAPL stop 99.99", "100.10"),
        ("sell 10 AAPL stop 100.01", "99.90"),
        ("sell 10 AAPL stop 100.00", "99.90"),
        ("sell 10 AAPL stop 99.99", None),
    ],
)
def test_a_buy_pays_the_ask_and_a_sell_gets_the_bid(terms: str, price: str | None) -> None:
    """A limit waits for the side that it trades on, a stop for the last trade. Neither fills at its own price."""
    assert price_of(terms, on="AAPL 99.90/100.10 100.00") == (Decimal(price) if price else None)


@pytest.mark.parametrize(
    ("terms", "price"),
    [
        ("buy 10 AAPL limit 150", "100.10"),
        ("sell 10 AAPL limit 50", "99.90"),
        ("buy 10 AAPL stop 90", "100.10"),
        ("sell 10 AAPL stop 110", "99.90"),
    ],
)
def test_an_order_whose_price_was_gapped_through_fills_at_the_market(terms: str, price: str) -> None:
    """A limit gets the better price, a stop the worse one."""
    assert price_of(terms, on="AAPL 99.90/100.10 100.00") == Decimal(price)


@pytest.mark.parametrize(
    ("terms", "last", "triggered", "price"),
    [
        ("buy 10 AAPL stop_limit 101 102", "100.99", False, None),
        ("buy 10 AAPL stop_limit 101 102", "101", True, "101.10"),
        ("buy 10 AAPL stop_limit 101 101.05", "101", True, None),
        ("sell 10 AAPL stop_limit 99 98", "99.01", False, None),
        ("sell 10 AAPL stop_limit 99 98", "99", True, "98.90"),
        ("sell 10 AAPL stop_limit 99 98.95", "99", True, None),
    ],
)
def test_a_stop_limit_is_a_limit_once_its_stop_is_reached(
    terms: str, last: str, *, triggered: bool, price: str | None
) -> None:
    """It may then wait for its limit, and its stop no longer matters."""
    half = Decimal("0.10")
    found = matched(terms, f"AAPL {Decimal(last) - half}/{Decimal(last) + half} {last}")
    assert (found.order.triggered, found.price, found.takes_liquidity) == (triggered, price and Decimal(price), False)
    back = match(found.order, quote("AAPL 99.95/100.05 100"), RULES, on_bar=False)
    waiting = {"buy": Decimal("100.05"), "sell": Decimal("99.95")}[found.order.side]
    assert back.price == ((waiting if price else found.order.limit_price) if triggered else None)


def test_a_stop_that_was_reached_is_a_market_order() -> None:
    """Its rest fills although the price is back on the other side of the stop."""
    triggered = order("sell 10 AAPL stop 99", triggered=True)
    assert match(triggered, quote("AAPL 105/106 105"), RULES, on_bar=False).price == 105


@pytest.mark.parametrize(("terms", "takes"), [("market", True), ("stop 90", True), ("limit 150", False)])
def test_only_an_order_that_takes_liquidity_may_slip(terms: str, *, takes: bool) -> None:
    """A limit is a guarantee of the price."""
    found = matched(f"buy 10 AAPL {terms}", "AAPL 99/101 100")
    assert (found.takes_liquidity, found.stage) == (takes, Stage.QUOTE)


@pytest.mark.parametrize(
    ("terms", "price"),
    [
        ("buy 10 AAPL market", "100.01"),
        ("sell 10 AAPL market", "99.99"),
        ("buy 10 AAPL limit 100.01", "100.01"),
        ("buy 10 AAPL limit 100.00", None),
        ("sell 10 AAPL limit 99.99", "99.99"),
        ("sell 10 AAPL limit 100.00", None),
        ("buy 10 AAPL stop 100.00", "100.01"),
        ("sell 10 AAPL stop 100.00", "99.99"),
    ],
)
def test_without_a_quote_half_an_assumed_spread_stands_in(terms: str, price: str | None) -> None:
    """It is a basis point on each side of the last trade."""
    assert price_of(terms, on="AAPL 100") == (Decimal(price) if price else None)


def test_the_assumed_price_is_rounded_against_the_trader() -> None:
    """33.3333 ± a basis point is 33.33663333 and 33.32996667."""
    assert price_of("buy 1 AAPL market", on="AAPL 33.3333") == Decimal("33.3367")
    assert price_of("sell 1 AAPL market", on="AAPL 33.3333") == Decimal("33.3299")


def test_the_assumed_spread_is_a_setting() -> None:
    """Here it is twenty basis points on each side of 100."""
    rules = MarketRules(half_spread=Decimal("0.002"))
    assert buy_price(quote("AAPL 100"), rules) == Decimal("100.20")
    assert sell_price(quote("AAPL 100"), rules) == Decimal("99.80")


@pytest.mark.parametrize(
    ("on", "sizes", "bought_at", "sold_at"),
    [
        ("AAPL 99.90/ 100", {}, None, "99.90"),  # nobody sells
        ("AAPL /100.10 100", {}, "100.10", None),  # nobody buys
        ("AAPL 100.11/100.10 100", {}, None, None),  # crossed
        ("AAPL 100.10/100.10 100", {}, "100.10", "100.10"),  # locked: both are offers that stand
        ("AAPL 99.90/100.10 100", {"ask_size": 0}, None, "99.90"),
        ("AAPL 99.90/100.10 100", {"bid_size": 0}, "100.10", None),
        ("AAPL 99.90/100.10 100", {"bid_size": 1, "ask_size": 1}, "100.10", "99.90"),
    ],
)
@pytest.mark.parametrize("kind", ["market", "limit {far}", "stop 100", "market ioc"])
def test_nothing_fills_on_a_side_that_is_not_offered(
    on: str, sizes: dict[str, int], bought_at: str | None, sold_at: str | None, kind: str
) -> None:
    """The last trade stands in only where the provider has no quote at all."""
    known: dict[str, Any] = {name: Decimal(size) for name, size in sizes.items()}
    on_quote = quote(on, **known)
    for side, far, at in (("buy", "200", bought_at), ("sell", "50", sold_at)):
        found = match(order(f"{side} 1 AAPL {kind.format(far=far)}"), on_quote, RULES, on_bar=False)
        assert found.price == (None if at is None else Decimal(at))
        if kind == "market ioc":
            assert found.usable == (at is not None), "it waits for a quote that it can fill on"


@pytest.mark.parametrize(
    ("fields", "since", "price"),
    [
        ({}, None, "94"),  # the quote was not known when it came
        ({}, ACCEPTED, "94"),  # it was marketable when it came, and this is the first quote after it
        ({}, ACCEPTED + MICROSECOND, "95"),  # another quote passed
        ({"rests": False}, ACCEPTED + MICROSECOND, "94"),  # it was marketable, and could not fill on the other quote
        ({"rests": True}, ACCEPTED, "95"),
        ({"rests": True}, None, "95"),
    ],
)
@pytest.mark.parametrize("on_bar", [True, False])
def test_a_limit_that_rested_fills_at_its_limit(
    fields: dict[str, Any], since: datetime | None, price: str, *, on_bar: bool
) -> None:
    """On the way to the better quote somebody sold to it."""
    found = match(order("buy 1 AAPL limit 95", **fields), quote("AAPL 93/94 94", since=since), RULES, on_bar=on_bar)
    assert found.price == Decimal(price)
    sale = match(order("sell 1 AAPL limit 105", **fields), quote("AAPL 106/107 106", since=since), RULES, on_bar=on_bar)
    assert sale.price == {"94": 106, "95": 105}[price]


def test_an_order_that_must_fill_at_once_never_rests() -> None:
    """The quote that it meets is the market that it came to."""
    asked = order("buy 1 AAPL limit 95 ioc", rests=True)
    assert match(asked, quote("AAPL 93/94 94"), RULES, on_bar=True).price == 94


def test_a_stop_limit_rests_from_the_price_after_its_trigger() -> None:
    """In the update that triggers it, it comes to the market anew."""
    asked = order("buy 1 AAPL stop_limit 101 102", rests=True)
    triggered = match(asked, quote("AAPL 102.5/103 101"), RULES, on_bar=False)
    assert triggered.price is None
    assert match(triggered.order, quote("AAPL 99/100 100"), RULES, on_bar=False).price == 102
    assert match(asked, quote("AAPL 101/101.5 101"), RULES, on_bar=False).price == Decimal("101.5")


OUTSIDE, EXTENDED = Hours(False, False, False, False), Hours(False, True, False, True)


@pytest.mark.parametrize("hours", [OUTSIDE, EXTENDED])
@pytest.mark.parametrize("kind", ["market", "limit 150", "stop 90", "trailing_stop 1", "limit 150 ioc"])
def test_outside_of_its_session_an_order_neither_fills_nor_triggers_nor_trails(kind: str, hours: Hours) -> None:
    """It waits for the next session."""
    asked = order(f"buy 1 AAPL {kind}", hwm=Decimal(110))
    on = quote("AAPL 99/101 100 of 100 120 80", since=ACCEPTED, bar_start=ACCEPTED)
    found = match(asked, on, RULES, on_bar=True, hours=hours)
    assert (found.price, found.order) == (None, asked)
    assert not (kind.endswith("ioc") and found.usable)


def test_with_extended_hours_a_limit_order_fills_outside_of_the_regular_session() -> None:
    """It fills before the open and after the close, and not at night."""
    asked = order("buy 1 AAPL limit 101", extended_hours=True)
    assert match(asked, quote("AAPL 99/101 100"), RULES, on_bar=True, hours=EXTENDED).price == 101
    assert match(asked, quote("AAPL 99/101 100"), RULES, on_bar=True, hours=OUTSIDE).price is None


@pytest.mark.parametrize(("late", "ends"), [(-MICROSECOND, False), (timedelta(0), True), (EVER, True)])
def test_a_late_quote_ends_an_order_that_must_fill_at_once(late: timedelta, *, ends: bool) -> None:
    """It does not fill on it, however good it is."""
    asked = order("buy 1 AAPL market ioc", expires_at=QUOTED - late)
    found = match(asked, quote("AAPL 99/101 100"), RULES, on_bar=True)
    assert found.usable
    assert (found.price is None) == ends


@given(st.decimals(min_value=Decimal("0.0001"), max_value=10**6, places=4))
def test_the_assumed_spread_encloses_the_last_price(last: Decimal) -> None:
    """The price is never better than the market for the trader, and at most one step worse than assumed."""
    price, tick = quote(f"AAPL {last}"), Decimal("0.0001")
    bought, sold = buy_price(price, RULES), sell_price(price, RULES)
    assert bought is not None and last <= bought <= last * (1 + RULES.half_spread) + tick  # noqa: PT018
    assert sold is not None and last >= sold >= last * (1 - RULES.half_spread) - tick  # noqa: PT018


@pytest.mark.parametrize("last", ["0.0001", "0.00001234"])
def test_shares_are_never_given_away(last: str) -> None:
    """An instrument at a hundredth of a cent trades at about that price, not at zero."""
    price = quote(f"AAPL {last}")
    assert 0 < (sell_price(price, RULES) or 0) <= Decimal(last)
    assert Decimal(last) <= (buy_price(price, RULES) or 0) <= 2 * Decimal(last)


@given(cent_prices, cent_prices, cent_prices, st.sampled_from(Side))
def test_a_limit_is_never_broken(bid: Decimal, spread: Decimal, limit: Decimal, side: Side) -> None:
    """On any quote it fills at its limit or better, and always when it can."""
    at = price_of(f"{side} 1 AAPL limit {limit}", on=f"AAPL {bid}/{bid + spread} {bid}")
    if side is Side.BUY:
        assert at == (bid + spread if bid + spread <= limit else None)
    else:
        assert at == (bid if bid >= limit else None)


KINDS = ["market", "limit {at}", "stop {at}", "stop_limit {at} {at}", "trailing_stop 0.01"]


@given(cent_prices, cent_prices, st.sampled_from(Side), st.sampled_from(KINDS))
def test_a_fill_lies_on_its_quote(bid: Decimal, at: Decimal, side: Side, kind: str) -> None:
    """No order of any kind fills at a price that was not quoted."""
    ask = bid + Decimal("0.02")
    found = matched(f"{side} 1 AAPL {kind.format(at=at)}", f"AAPL {bid}/{ask} {bid}", hwm=at)
    assert found.price in {None, ask if side is Side.BUY else bid}


@pytest.mark.parametrize(
    ("after", "may_fill"),
    [(-EVER, False), (timedelta(0), False), (MICROSECOND, True), (EVER, True)],
)
def test_a_quote_must_be_newer_than_the_order(after: timedelta, *, may_fill: bool) -> None:
    """The order could not have traded on a price from before it."""
    at = ACCEPTED + after
    assert usable(quote("AAPL 100", at=at), order("buy 1 AAPL market"), max(at, ACCEPTED), RULES) == may_fill


@pytest.mark.parametrize(
    ("age", "may_fill"),
    [(timedelta(0), True), (RULES.max_quote_age, True), (RULES.max_quote_age + MICROSECOND, False), (EVER, False)],
)
def test_a_stale_quote_fills_nothing(age: timedelta, *, may_fill: bool) -> None:
    """Orders wait while the provider is down."""
    assert usable(quote("AAPL 100"), order("buy 1 AAPL market"), QUOTED + age, RULES) == may_fill


@pytest.mark.parametrize(
    ("expires_in", "may_fill"),
    [(MICROSECOND, True), (timedelta(0), False), (-MICROSECOND, False)],
)
def test_an_order_fills_on_no_quote_after_its_session(expires_in: timedelta, *, may_fill: bool) -> None:
    """A quote at the closing time itself is too late."""
    day_order = order("buy 1 AAPL market", expires_at=QUOTED + expires_in)
    assert usable(quote("AAPL 100"), day_order, QUOTED, RULES) == may_fill


def test_a_quote_from_the_session_fills_although_it_is_seen_after_it() -> None:
    """The quote's own time counts, not the arrival of its message."""
    day_order = order("buy 1 AAPL market", expires_at=QUOTED + MICROSECOND)
    assert usable(quote("AAPL 100"), day_order, QUOTED + timedelta(seconds=30), RULES)


def test_an_order_without_an_end_waits_for_ever() -> None:
    """It is good till canceled."""
    at = ACCEPTED + 300 * EVER
    assert usable(quote("AAPL 100", at=at), order("buy 1 AAPL market"), at, RULES)


def test_an_order_that_has_not_reached_the_market_fills_on_no_quote() -> None:
    """With latency only quotes after the order's arrival count."""
    slow = order("buy 1 AAPL market", active_at=QUOTED)
    assert not usable(quote("AAPL 100"), slow, QUOTED, RULES)
    assert usable(quote("AAPL 100", at=QUOTED + MICROSECOND), slow, QUOTED + MICROSECOND, RULES)
