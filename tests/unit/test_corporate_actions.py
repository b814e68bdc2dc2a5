"""The effect of splits and dividends on lots, open orders and cash."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.orders import OrderClass
from shared.exchange.corporate_actions import dividend, split_lots, split_order
from shared.exchange.fx import SAME, Rate
from shared.exchange.lots import Lot, cost_of, held
from shared.exchange.order import Order
from tests.unit.execution_examples import lot
from tests.unit.trading_examples import ACCEPTED, facts, order

THIRD = Decimal("0.333333333")


def split(asked: Order, ratio: str) -> Order:
    found = split_order(asked, Decimal(ratio))
    assert found is not None
    return found


def test_a_split_makes_more_shares_of_the_same_cost() -> None:
    """Only lots from before it change, long and short. A later lot counts new shares already."""
    late = lot("10 for 250", 3)._replace(opened_at=ACCEPTED)
    after = split_lots((lot("10 for 1000", 1), lot("0 for 0", 2), late), Decimal(4), ACCEPTED)
    assert [facts(each.qty, each.cost) for each in after] == [(40, 1000), (0, 0), (10, 250)]
    assert split_lots((lot("-10 for -1000"),), Decimal(4), ACCEPTED)[0].qty == -40


shares = st.decimals(min_value=Decimal("0.1"), max_value=1000, places=9)


@given(st.lists(shares, min_size=1, max_size=6), st.sampled_from([THIRD, Decimal("1.5"), Decimal("0.1"), Decimal(7)]))
def test_a_split_position_equals_a_split_lot_of_the_same_size(qtys: list[Decimal], ratio: Decimal) -> None:
    """Rounding many lots loses no more than rounding one, so an order for the whole position can still fill."""
    lots = tuple(lot(f"{qty} for 100", number) for number, qty in enumerate(qtys, start=1))
    after = split_lots(lots, ratio, ACCEPTED)
    (whole,) = split_lots((lot(f"{sum(qtys)} for 100"),), ratio, ACCEPTED)
    assert held(after) == whole.qty
    assert cost_of(after) == cost_of(lots)
    asked = order(f"sell {sum(qtys)} AAPL limit 100 day", held_for_orders=Decimal(sum(qtys)))
    assert split(asked, str(ratio)).held_for_orders <= held(after)


@pytest.mark.parametrize(
    ("text", "known", "prices"),
    [
        ("buy 10 AAPL limit 100", {}, (25, None, None, None)),
        ("sell 10 AAPL stop_limit 96 92", {}, (23, 24, None, None)),
        ("sell 10 AAPL trailing_stop 8", {"hwm": Decimal(120)}, (None, None, 2, 30)),
        ("sell 10 AAPL trailing_stop 8%", {"hwm": Decimal(120)}, (None, None, None, 30)),
    ],
)
def test_an_open_order_keeps_its_value(text: str, known: dict[str, Any], prices: tuple[Any, ...]) -> None:
    """It is for four times the shares at a quarter of each price. A percentage is unchanged."""
    asked = order(text, held_for_orders=Decimal(10), **known)
    after = split(asked, "4")
    assert (after.limit_price, after.stop_price, after.trail_price, after.hwm) == prices
    assert facts(after.qty, after.held_for_orders, after.trail_percent) == (40, 40, asked.trail_percent)


def test_the_filled_part_of_an_order_does_not_change() -> None:
    """Four of ten have filled, and the open six become twelve."""
    after = split(order("sell 10 AAPL limit 100", filled_qty=Decimal(4), held_for_orders=Decimal(6)), "2")
    assert facts(after.qty, after.filled_qty, after.held_for_orders) == (16, 4, 12)


@pytest.mark.parametrize(("text", "qty"), [("sell 10 AAPL limit 100", 3), ("sell 10 AAPL limit 100 day", "3.33333333")])
def test_whole_shares_stay_whole(text: str, qty: object) -> None:
    """The fraction is no longer held for any order. A day order may have a fraction."""
    after = split(order(text, held_for_orders=Decimal(10)), str(THIRD))
    assert after.qty == after.held_for_orders == Decimal(str(qty))


def test_an_order_that_is_split_to_nothing_ends() -> None:
    """A third of two shares is not a whole share."""
    assert split_order(order("buy 2 AAPL limit 100"), THIRD) is None


def test_a_notional_order_is_for_the_same_money() -> None:
    """The price after the split determines its shares."""
    assert split(order("buy $1000 AAPL market"), "4") == order("buy $1000 AAPL market")


def test_the_shares_that_an_entry_bought_stay_held_for_its_exits() -> None:
    """Eight of ten became sixteen, although only four are left to buy."""
    entry = order(
        "buy 10 AAPL limit 100", order_class=OrderClass.BRACKET, filled_qty=Decimal(8), held_for_orders=Decimal(8)
    )
    after = split(entry, "2")
    assert facts(after.qty, after.held_for_orders, after.open_qty(Decimal(50))) == (12, 16, 4)


@pytest.mark.parametrize(("qty", "cash"), [("10", "2.35"), ("-10", "-2.35"), ("0", "0"), ("0.5", "0.12")])
def test_a_dividend_is_cash_for_each_share(qty: str, cash: str) -> None:
    """A short seller owes it. It is rounded to the cent."""
    assert dividend(Decimal(qty), Decimal("0.235"), SAME) == Decimal(cash)


@pytest.mark.parametrize(("qty", "cash"), [("10", "2.35"), ("-10", "-2.59"), ("0", "0")])
def test_a_dividend_in_another_currency_is_converted(qty: str, cash: str) -> None:
    """Income is converted at the bid, debt at the ask."""
    assert dividend(Decimal(qty), Decimal("0.235"), Rate(Decimal("1.1"), Decimal(1), Decimal("1.05"))) == Decimal(cash)


def test_a_lot_keeps_its_strategy_and_its_day() -> None:
    """A round trip that ends after a split began before it."""
    before: Lot = lot("10 for 1000")
    (after,) = split_lots((before,), Decimal(2), ACCEPTED)
    assert after == before._replace(qty=Decimal(20))
