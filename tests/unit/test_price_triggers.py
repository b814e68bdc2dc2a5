"""The index of price triggers misses no price that affects an order."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.orders import OrderType, Side, TimeInForce
from shared.contracts.prices import Price
from shared.exchange.market_rules import MarketRules
from shared.exchange.matching.matching import Match, match
from shared.exchange.matching.triggers import TriggerDirection, price_trigger
from shared.exchange.order import Order
from shared.exchange.trading_days import Hours
from tests.unit.price_index import concerned, followed
from tests.unit.trading_examples import ACCEPTED, QUOTED, order, quote

EVERY = Decimal("Infinity")


@pytest.mark.parametrize(
    ("terms", "fields", "trigger_direction", "trigger_price"),
    [
        ("buy 1 AAPL limit 90", {}, "below", "90"),
        ("sell 1 AAPL limit 110", {}, "above", "110"),
        ("buy 1 AAPL stop 110", {}, "above", "110"),
        ("sell 1 AAPL stop 90", {}, "below", "90"),
        ("buy 1 AAPL stop_limit 110 111", {}, "above", "110"),
        ("buy 1 AAPL stop_limit 110 111", {"triggered": True}, "below", "111"),
        ("sell 1 AAPL stop_limit 90 89", {}, "below", "90"),
        ("sell 1 AAPL stop_limit 90 89", {"triggered": True}, "above", "89"),
        ("sell 1 AAPL trailing_stop 5", {"hwm": Decimal(100)}, "below", "95"),
        ("buy 1 AAPL trailing_stop 5%", {"hwm": Decimal(100)}, "above", "105"),
    ],
)
def test_a_resting_order_is_triggered_at_its_price(
    terms: str, fields: dict[str, Any], trigger_direction: str, trigger_price: str
) -> None:
    """A limit is on its good side, a stop on the other. After its stop was reached, the limit counts."""
    assert price_trigger(order(terms, **fields)) == (TriggerDirection(trigger_direction), Decimal(trigger_price))


@pytest.mark.parametrize(
    ("terms", "fields"),
    [
        ("buy 1 AAPL market", {}),
        ("sell 1 AAPL stop 90", {"triggered": True}),
        ("sell 1 AAPL trailing_stop 5", {}),
        ("buy 1 AAPL limit 90 ioc", {}),
        ("sell 1 AAPL limit 110 fok", {}),
    ],
)
def test_every_price_concerns_an_order_that_waits_for_none(terms: str, fields: dict[str, Any]) -> None:
    """It is a market order, must fill at once, or has no best price to follow yet."""
    assert price_trigger(order(terms, **fields)) == (TriggerDirection.BELOW, EVERY)


@pytest.mark.parametrize("terms", ["buy 1 AAPL market opg", "sell 1 AAPL limit 90 cls"])
def test_no_price_concerns_an_order_for_an_auction(terms: str) -> None:
    """It is on neither side of the index, however good its limit is."""
    waiting = order(terms)
    assert price_trigger(waiting) == (TriggerDirection.AUCTION, EVERY)
    for last in ("1", "100", "10000"):
        assert not concerned(waiting, quote(f"AAPL {last}/{last} {last} of 100 10000 1"), on_bar=True)


levels = st.integers(min_value=9_700, max_value=10_300).map(lambda cents: Decimal(cents) / 100)
_SIZES = st.sampled_from([None, Decimal(0), Decimal(100)])
KINDS = (
    "market",
    "limit {a}",
    "stop {a}",
    "stop_limit {a} {b}",
    "trailing_stop 1.5",
    "trailing_stop 1.25%",
    "limit {a} ioc",
    "limit {a} fok",
)


@st.composite
def orders(draw: st.DrawFn) -> Order:
    terms = draw(st.sampled_from(KINDS)).format(a=draw(levels), b=draw(levels))
    asked = order(f"{draw(st.sampled_from(Side))} 1 AAPL {terms}", hwm=draw(st.none() | levels))
    waits = asked.type in {OrderType.STOP, OrderType.STOP_LIMIT, OrderType.TRAILING_STOP}
    more: dict[str, Any] = {"hwm": asked.hwm, "triggered": waits and draw(st.booleans()), "rests": draw(st.booleans())}
    extended = asked.type is OrderType.LIMIT and asked.time_in_force is TimeInForce.GTC and draw(st.booleans())
    return order(f"{asked.side} 1 AAPL {terms}", extended_hours=extended, **more)


@st.composite
def prices(draw: st.DrawFn) -> Price:
    """A bar that began with, before or after the order, and a quote with both sides, one or none."""
    bar = draw(st.lists(levels, min_size=4, max_size=4))
    first, last, low, high = bar[0], bar[1], min(bar), max(bar)
    bid, ask = (draw(st.sampled_from(["", str(last - away), str(last + away)])) for away in (Decimal("0.05"),) * 2)
    times = st.sampled_from([None, ACCEPTED - timedelta(1), ACCEPTED, QUOTED - timedelta(milliseconds=1)])
    sizes: dict[str, Any] = {"bid_size": draw(_SIZES), "ask_size": draw(_SIZES)}
    since, start = draw(times), draw(times)
    return quote(f"AAPL {bid}/{ask} {last} of {first} {high} {low}", since=since, bar_start=start, **sizes)


@st.composite
def sessions(draw: st.DrawFn) -> Hours:
    """A regular session lies in an extended one."""
    bar, quoted = draw(st.booleans()), draw(st.booleans())
    opened_at = draw(st.sampled_from([None, ACCEPTED, QUOTED - timedelta(milliseconds=1)]))
    return Hours(bar, bar or draw(st.booleans()), quoted, quoted or draw(st.booleans()), opened_at, opened_at)


@given(orders(), prices(), st.booleans(), sessions())
def test_a_price_that_changes_an_order_is_found_by_the_index(
    order: Order, price: Price, on_bar: bool, hours: Hours
) -> None:
    """The index may find an order for nothing, and never misses one."""
    found = match(order, price, MarketRules(), on_bar=on_bar, hours=hours)
    if found.price is not None or found.order.triggered != order.triggered:
        assert concerned(order, price, on_bar=on_bar, hours=hours)


@given(orders(), prices(), st.booleans(), sessions())
def test_a_trailing_stop_that_is_not_triggered_only_follows(
    order: Order, price: Price, on_bar: bool, hours: Hours
) -> None:
    """The index's own update lets all of them follow in one statement."""
    if order.type is not OrderType.TRAILING_STOP or order.hwm is None:
        return
    if not concerned(order, price, on_bar=on_bar, hours=hours):
        left = followed(order, price, on_bar=on_bar, hours=hours)
        assert match(order, price, MarketRules(), on_bar=on_bar, hours=hours) == Match(left)
