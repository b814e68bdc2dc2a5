"""The effect of splits and dividends on lots, open orders and cash."""

from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.orders import OrderClass, OrderStatus
from shared.exchange.corporate_actions import (
    FilledSince,
    Split,
    dividend,
    pay_fraction,
    reduce_order,
    split_lots,
    split_orders,
)
from shared.exchange.fx import SAME, Rate
from shared.exchange.lots import Lot, cost_of, held
from shared.exchange.order import Leg, Order
from tests.unit.execution_examples import lot
from tests.unit.trading_examples import ACCEPTED, facts, order

ONE_FOR_THREE, ONE_FOR_TEN, TWO, FOUR = Split(1, 3), Split(1, 10), Split(2, 1), Split(4, 1)
LATER = ACCEPTED + timedelta(hours=1)
ENTRY: dict[str, Any] = {"order_class": OrderClass.BRACKET, "order_group": UUID(int=7)}
EXIT: dict[str, Any] = {**ENTRY, "held_for_orders": Decimal(10)}


def split(asked: Order, by: Split, since: FilledSince | None = None, holds: str = "1000000") -> Order:
    """The order, which stays open, after the split."""
    found = split_orders([asked], by, LATER, {asked.account_id: Decimal(holds)}, since)
    assert found.ending == []
    return found.adjusted[0] if found.adjusted else asked


def test_a_split_makes_more_shares_of_the_same_cost() -> None:
    """Only lots from before it change, long and short. A later lot counts new shares already."""
    late = lot("10 for 250", 3)._replace(opened_at=ACCEPTED)
    after = split_lots((lot("10 for 1000", 1), lot("0 for 0", 2), late), FOUR, ACCEPTED)
    assert [facts(each.qty, each.cost) for each in after] == [(40, 1000), (0, 0), (10, 250)]
    assert split_lots((lot("-10 for -1000"),), FOUR, ACCEPTED)[0].qty == -40


def test_one_for_three_leaves_a_third_exactly() -> None:
    """The numbers of shares are whole, so no digit of a ratio is missing."""
    assert split_lots((lot("300 for 3000"),), ONE_FOR_THREE, ACCEPTED)[0].qty == 100


shares = st.decimals(min_value=Decimal("0.1"), max_value=1000, places=9)
splits = st.builds(Split, st.integers(1, 50), st.integers(1, 50))


@given(st.lists(shares, min_size=1, max_size=6), splits)
def test_a_split_position_equals_a_split_lot_of_the_same_size(qtys: list[Decimal], by: Split) -> None:
    """Rounding many lots loses no more than rounding one, so an order for the whole position can still fill."""
    lots = tuple(lot(f"{qty} for 100", number) for number, qty in enumerate(qtys, start=1))
    after = split_lots(lots, by, ACCEPTED)
    (whole,) = split_lots((lot(f"{sum(qtys)} for 100"),), by, ACCEPTED)
    assert held(after) == whole.qty
    assert cost_of(after) == cost_of(lots)


@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(0, 40)), min_size=1, max_size=5), splits, st.integers(-200, 200)
)
def test_closing_orders_never_hold_more_than_the_position(
    sizes: list[tuple[int, int]], by: Split, position: int
) -> None:
    """Whatever they held before and whatever was filled since: also where the figures contradict each other."""
    orders = [
        order(f"sell {qty} AAPL limit 100", held_for_orders=Decimal(qty), id=UUID(int=number))
        for number, (qty, _) in enumerate(sizes)
    ]
    since = FilledSince({each.key: Decimal(late) for each, (_, late) in zip(orders, sizes, strict=True)})
    held_after = split_lots((lot(f"{position} for {position}"),), by, ACCEPTED)[0].qty if position else Decimal(0)
    after = split_orders(orders, by, LATER, {orders[0].account_id: held_after}, since)
    assert sum(each.held_for_orders for each in after.adjusted) <= abs(held_after)
    assert all(each.qty is not None and 0 < each.held_for_orders <= each.qty for each in after.adjusted)
    assert len(after.adjusted) + len(after.ending) <= len(orders)


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
    after = split(asked, FOUR)
    assert (after.limit_price, after.stop_price, after.trail_price, after.hwm) == prices
    assert facts(after.qty, after.held_for_orders, after.trail_percent) == (40, 40, asked.trail_percent)


@pytest.mark.parametrize(
    ("text", "prices"),
    [
        ("buy 10 AAPL limit 100", ("33.33", None)),
        ("sell 10 AAPL limit 100", ("33.34", None)),
        ("sell 10 AAPL stop 100", (None, "33.33")),
        ("buy 10 AAPL stop 100", (None, "33.34")),
        ("sell 10 AAPL stop_limit 100 98", ("32.66", "33.33")),
        ("buy 10 AAPL stop_limit 100 101", ("33.67", "33.34")),
        ("buy 10 AAPL limit 2", ("0.6666", None)),
        ("buy 10 AAPL limit 0.0002", ("0.0001", None)),
    ],
)
def test_a_price_is_rounded_to_the_tick_away_from_the_market(text: str, prices: tuple[str | None, ...]) -> None:
    """Rounding fills or triggers nothing. Below one dollar a tick has four decimals (SEC Rule 612)."""
    after = split(order(text), Split(3, 1))
    wanted = tuple(None if price is None else Decimal(price) for price in prices)
    assert (after.limit_price, after.stop_price) == wanted


def test_a_trailing_stop_keeps_its_distance_in_ticks() -> None:
    """Of a sell the best price is rounded down and the trail up, so its stop is never too high."""
    after = split(order("sell 10 AAPL trailing_stop 10", hwm=Decimal(100), held_for_orders=Decimal(10)), Split(3, 1))
    assert facts(after.hwm, after.trail_price) == (Decimal("33.33"), Decimal("3.34"))


def test_the_filled_part_of_an_order_does_not_change() -> None:
    """Four of ten have filled, and the open six become twelve."""
    after = split(order("sell 10 AAPL limit 100", filled_qty=Decimal(4), held_for_orders=Decimal(6)), TWO)
    assert facts(after.qty, after.filled_qty, after.held_for_orders) == (16, 4, 12)


def test_a_part_that_was_filled_at_new_prices_is_of_new_shares() -> None:
    """Three of ten old shares were sold as new ones, and seventeen of the twenty are left."""
    asked = order("sell 10 AAPL limit 100", filled_qty=Decimal(3), held_for_orders=Decimal(7))
    after = split(asked, TWO, FilledSince({asked.key: Decimal(3)}))
    assert facts(after.qty, after.open_qty(Decimal(1)), after.held_for_orders) == (20, 17, 17)


@pytest.mark.parametrize(
    ("text", "qty"), [("sell 10 AAPL limit 100", 3), ("sell 10 AAPL limit 100 day", "3.333333333")]
)
def test_whole_shares_stay_whole(text: str, qty: object) -> None:
    """The fraction is no longer held for any order. A day order may have a fraction."""
    after = split(order(text, held_for_orders=Decimal(10)), ONE_FOR_THREE)
    assert after.qty == after.held_for_orders == Decimal(str(qty))


def test_an_order_that_is_split_to_nothing_ends() -> None:
    """A third of two shares is not a whole share. The order keeps the quantity that it had."""
    asked = order("buy 2 AAPL limit 100")
    after = split_orders([asked], ONE_FOR_THREE, LATER, {})
    assert after.adjusted == []
    assert [facts(each.qty) for each in after.ending] == [(2,)]


def test_a_notional_order_is_for_the_same_money() -> None:
    """The price after the split determines its shares."""
    assert split(order("buy $1000 AAPL market"), FOUR) == order("buy $1000 AAPL market")


def test_an_order_that_came_after_the_split_is_of_new_shares() -> None:
    """Nothing of it changes."""
    late = order("buy 10 AAPL limit 25", accepted_at=LATER)
    assert split(late, FOUR) == late


def test_the_shares_that_an_entry_bought_stay_held_for_its_exits() -> None:
    """Eight of ten became sixteen, although only four are left to buy."""
    entry = order("buy 10 AAPL limit 100", **ENTRY, filled_qty=Decimal(8), held_for_orders=Decimal(8))
    after = split(entry, TWO)
    assert facts(after.qty, after.held_for_orders, after.open_qty(Decimal(50))) == (12, 16, 4)


def test_shares_that_an_entry_bought_at_new_prices_are_not_split() -> None:
    """Two of its five shares were bought before the split took effect."""
    entry = order("buy 10 AAPL limit 100", **ENTRY, filled_qty=Decimal(5), held_for_orders=Decimal(5))
    since = FilledSince({entry.key: Decimal(3)}, {(entry.account_id, UUID(int=7)): Decimal(3)})
    after = split(entry, TWO, since, holds="7")
    assert facts(after.held_for_orders, after.open_qty(Decimal(1))) == (7, 13)


@pytest.mark.parametrize("filled", ["3", "0"])
def test_an_entry_that_is_split_to_nothing_leaves_its_exits_what_it_bought(filled: str) -> None:
    """A tenth of the open two shares is not a share, so the entry ends. Three tenths of a share were bought."""
    bought = Decimal(filled)
    entry = order("buy 5 AAPL limit 10", **ENTRY, id=UUID(int=1), filled_qty=bought, held_for_orders=bought)
    leg = {**ENTRY, "leg": Leg.STOP_LOSS, "status": OrderStatus.HELD, "id": UUID(int=2)}
    waiting = order("sell 5 AAPL stop 5", **leg)
    after = split_orders([waiting, entry], ONE_FOR_TEN, LATER, {entry.account_id: bought / 10})
    (ending, *rest) = after.ending
    assert facts(ending.qty, ending.held_for_orders) == (5, bought / 10)
    if bought:
        assert [facts(each.qty, each.stop_price) for each in after.adjusted] == [(bought / 10, 50)]
    else:
        assert [each.id for each in rest] == [waiting.id]


def test_exits_hold_the_fractions_that_a_split_makes() -> None:
    """A gtc exit may not be for a fraction otherwise. Here it protects the shares that are there."""
    profit = order("sell 3 AAPL limit 20", **EXIT | {"held_for_orders": Decimal(3)}, leg=Leg.TAKE_PROFIT)
    assert facts(split(profit, ONE_FOR_TEN).qty) == (Decimal("0.3"),)


def test_exits_of_shares_that_were_bought_at_new_prices_are_not_split() -> None:
    """The entry filled in whole after the split took effect. Its exits, accepted with it, are of new shares."""
    profit = order("sell 10 AAPL limit 120", **EXIT, leg=Leg.TAKE_PROFIT)
    group = profit.account_id, UUID(int=7)
    after = split(profit, TWO, FilledSince(entered={group: Decimal(10)}))
    assert facts(after.qty, after.held_for_orders, after.limit_price) == (10, 10, 60)
    after = split(profit, TWO, FilledSince(entered={group: Decimal(6)}))
    assert facts(after.qty, after.held_for_orders) == (14, 14)


def test_two_exits_are_reduced_alike() -> None:
    """One of them holds the shares for both."""
    profit = order("sell 10 AAPL limit 120", **EXIT, leg=Leg.TAKE_PROFIT, id=UUID(int=1))
    stop = order("sell 10 AAPL stop 80", **EXIT | {"held_for_orders": Decimal(0)}, leg=Leg.STOP_LOSS, id=UUID(int=2))
    after = split_orders([profit, stop], TWO, LATER, {profit.account_id: Decimal(15)})
    assert [facts(each.qty, each.held_for_orders) for each in after.adjusted] == [(15, 15), (15, 0)]


@pytest.mark.parametrize(
    ("qty", "cash", "left"), [("100", "9.99", "33"), ("-100", "-10.00", "-33"), ("99", None, "33")]
)
def test_a_fraction_of_a_share_is_paid_in_cash(qty: str, cash: str | None, left: str) -> None:
    """A third of a share at 29.99 is 9.99666: rounded down for who gets it, and up for who owes it."""
    before = (lot(f"{qty} for {qty}"),)
    after = split_lots(before, ONE_FOR_THREE, ACCEPTED)
    paid = pay_fraction(before, after, Decimal("29.99"), SAME, UUID(int=5), ACCEPTED)
    assert (None if paid is None else str(paid.cash)) == cash
    if paid is not None:
        assert held(paid.lots) == Decimal(left)
        realized = sum(part.realized for part in paid.closed)
        assert paid.cash + cost_of(paid.lots) - cost_of(after) == realized


def test_a_position_with_a_fraction_keeps_fractions() -> None:
    """Its holder trades fractions of shares."""
    before = (lot("100.5 for 1000"),)
    after = split_lots(before, ONE_FOR_THREE, ACCEPTED)
    assert pay_fraction(before, after, Decimal(30), SAME, UUID(int=5), ACCEPTED) is None


@pytest.mark.parametrize(
    ("text", "limit", "stop"),
    [
        ("buy 10 AAPL limit 97", "92", None),
        ("sell 10 AAPL stop 97", None, "92"),
        ("sell 10 AAPL stop_limit 97 96", "91", "92"),
        ("buy 10 AAPL stop 103", None, "103"),
        ("buy 10 AAPL stop_limit 103 104", "104", "103"),
        ("sell 10 AAPL limit 103", "103", None),
        ("buy 10 AAPL limit 3", "0.0001", None),
    ],
)
def test_a_dividend_reduces_buy_limits_and_sell_stops(text: str, limit: str | None, stop: str | None) -> None:
    """The orders below the market, by the dividend of 5. Source: FINRA Rule 5330."""
    after = reduce_order(order(text), Decimal(5))
    prices = tuple(None if price is None else Decimal(price) for price in (limit, stop))
    assert (after.limit_price, after.stop_price) == prices


@pytest.mark.parametrize(("amount", "limit"), [("0.255", "96.74"), ("0.01", "96.99"), ("0.009", "97")])
def test_a_reduced_price_is_rounded_down_to_the_tick(amount: str, limit: str) -> None:
    """A dividend below a cent reduces nothing (FINRA Rule 5330)."""
    assert reduce_order(order("buy 10 AAPL limit 97"), Decimal(amount)).limit_price == Decimal(limit)


def test_a_trailing_stop_goes_down_with_the_dividend() -> None:
    """So does the best price that it follows."""
    assert reduce_order(order("sell 10 AAPL trailing_stop 8", hwm=Decimal(100)), Decimal(5)).hwm == 95


@pytest.mark.parametrize("known", [{"do_not_reduce": True}, ENTRY, {**EXIT, "leg": Leg.STOP_LOSS}])
def test_some_orders_are_not_reduced(known: dict[str, Any]) -> None:
    """Those that say so, and complex ones, which Alpaca sends as do not reduce."""
    asked = order("sell 10 AAPL stop 97", **known)
    assert reduce_order(asked, Decimal(5)) == asked


@pytest.mark.parametrize(
    ("qty", "cash"), [("10", "2.35"), ("-10", "-2.35"), ("0", "0"), ("0.5", "0.11"), ("-0.5", "-0.12")]
)
def test_a_dividend_is_cash_for_each_share(qty: str, cash: str) -> None:
    """A short seller owes it. It is rounded to the cent, against the holder."""
    assert dividend(Decimal(qty), Decimal("0.235"), SAME) == Decimal(cash)


@pytest.mark.parametrize(("qty", "cash"), [("10", "2.35"), ("-10", "-2.59"), ("0", "0")])
def test_a_dividend_in_another_currency_is_converted(qty: str, cash: str) -> None:
    """Income is converted at the bid, debt at the ask."""
    assert dividend(Decimal(qty), Decimal("0.235"), Rate(Decimal("1.1"), Decimal(1), Decimal("1.05"))) == Decimal(cash)


def test_a_lot_keeps_its_strategy_and_its_day() -> None:
    """A round trip that ends after a split began before it."""
    before: Lot = lot("10 for 1000")
    (after,) = split_lots((before,), TWO, ACCEPTED)
    assert after == before._replace(qty=Decimal(20))
