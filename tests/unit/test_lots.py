"""Lots are closed first in, first out, long or short, and no cent and no share is lost or gained."""

from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.orders import Side
from shared.exchange.lots import Average, Closed, Lot, closing_qty, cost_of, held, trade
from shared.money import CENT, ZERO
from tests.unit.trading_examples import ACCEPTED, facts


def lot(text: str, number: int = 1) -> Lot:
    """Ten shares that cost a thousand are ``"10 for 1000"``, short ones ``"-10 for -1000"``. ``number`` is the day."""
    qty, _, cost = text.split()
    return Lot(UUID(int=number), ACCEPTED + timedelta(days=number), Decimal(qty), Decimal(cost))


def lots(*texts: str) -> tuple[Lot, ...]:
    return tuple(lot(text, number) for number, text in enumerate(texts, start=1))


def traded(
    before: tuple[Lot, ...], side: Side, qty: str, amount: str, number: int = 9
) -> tuple[tuple[Lot, ...], tuple[Closed, ...]]:
    at = ACCEPTED + timedelta(days=number)
    return trade(before, side, Decimal(qty), Decimal(amount), fill_id=UUID(int=number), at=at)


def shape(open_lots: tuple[Lot, ...]) -> list[Any]:
    return [(lot.fill_id.int, lot.qty, lot.cost) for lot in open_lots if lot.qty]


@dataclass
class Ledger:
    """The sums of all trades, kept apart from the lots under test."""

    open: tuple[Lot, ...] = ()
    closed: list[Closed] = field(default_factory=list)
    cash: Decimal = ZERO
    qty: Decimal = ZERO
    number: int = 0

    def trade(self, side: Side, qty: Decimal, amount: Decimal) -> None:
        self.number += 1
        self.open, closed = traded(self.open, side, str(qty), str(amount), self.number)
        self.closed += closed
        self.cash += amount if side is Side.SELL else -amount
        self.qty += qty if side is Side.BUY else -qty


amounts = st.integers(min_value=0, max_value=10**9).map(lambda whole: whole * CENT)
whole = st.integers(min_value=1, max_value=9).map(Decimal)
fine = st.decimals(min_value=Decimal("1E-9"), max_value=10, places=9)
#: Most of these histories close over several lots, and go from long to short and back.
histories = st.lists(st.tuples(st.sampled_from(Side), st.one_of(whole, fine), amounts), min_size=5, max_size=30)


def played(history: list[tuple[Side, Decimal, Decimal]]) -> Ledger:
    ledger = Ledger()
    for trading in history:
        ledger.trade(*trading)
    return ledger


@given(histories)
def test_no_cent_is_lost_or_gained(history: list[tuple[Side, Decimal, Decimal]]) -> None:
    """Cash and the cost of open lots grow by the realized profit alone."""
    ledger = played(history)
    assert ledger.cash + cost_of(ledger.open) == sum((part.realized for part in ledger.closed), ZERO)


@given(histories)
def test_no_share_is_lost_or_gained(history: list[tuple[Side, Decimal, Decimal]]) -> None:
    """The position is the quantity bought less the quantity sold, to the ninth decimal."""
    ledger = played(history)
    assert held(ledger.open) == ledger.qty


@given(histories)
def test_all_open_lots_are_long_or_all_are_short(history: list[tuple[Side, Decimal, Decimal]]) -> None:
    """Their costs are whole cents of the same sign. A lot without shares has no cost."""
    ledger = played(history)
    assert len({lot.qty > 0 for lot in ledger.open if lot.qty}) <= 1
    for left in ledger.open:
        assert left.cost % CENT == 0
        assert left.qty * left.cost >= 0
        assert left.qty or not left.cost
    for part in ledger.closed:
        assert part.qty > 0
        assert part.cost >= 0
        assert part.proceeds >= 0
        assert part.cost % CENT == part.proceeds % CENT == 0


@given(histories)
def test_the_oldest_lot_is_closed_first(history: list[tuple[Side, Decimal, Decimal]]) -> None:
    """A lot is closed only when all older ones are empty."""
    ledger = played(history)
    opened = [part.lot.opened_at for part in ledger.closed]
    assert opened == sorted(opened)
    touched = [left.fill_id in {part.lot.fill_id for part in ledger.closed} for left in ledger.open]
    last = max((place for place, was in enumerate(touched) if was), default=0)
    assert not any(left.qty for left in ledger.open[:last])


@given(st.integers(min_value=0, max_value=29), histories)
def test_the_average_entry_price_is_that_of_a_weighted_average(begin: int, history: list[Any]) -> None:
    """The effect of any part of a history, on the average before it, gives the average that a plain replay does."""
    ledger, average, position, before, effect = Ledger(), Fraction(0), Fraction(0), Fraction(0), Average()
    for number, (side, qty, amount) in enumerate(history):
        if number == begin:
            before, effect = average, Average()
        lots_before = ledger.open
        ledger.trade(side, qty, amount)
        effect = effect.traded(lots_before, ledger.open)
        moved = Fraction(qty if side is Side.BUY else -qty)
        after = position + moved
        if position * moved >= 0:
            average = (average * abs(position) + Fraction(amount)) / abs(after)
        elif position * after < 0:  # the part of the amount that opens, as the lot has it
            average = Fraction(ledger.open[-1].cost) / after
        position = after
    if position:
        found = Fraction(effect.kept) * before + Fraction(effect.added)
        assert abs(found - average) <= abs(average) / 10**20


STRATEGY, OTHER = UUID(int=100), UUID(int=200)


@pytest.mark.parametrize(
    ("seller", "left"),
    [
        (None, [(2, STRATEGY, 9), (3, OTHER, 10)]),
        (STRATEGY, [(1, None, 9), (3, OTHER, 10)]),
        (OTHER, [(1, None, 9), (2, STRATEGY, 10)]),
    ],
)
def test_a_strategy_closes_its_own_lots_first(seller: UUID | None, left: list[Any]) -> None:
    """Ten shares each of a person, a strategy and another one: eleven are sold. The lots stay in their sequence."""
    owned = zip(lots("10 for 1000", "10 for 1000", "10 for 1000"), (None, STRATEGY, OTHER), strict=True)
    before = tuple(each._replace(strategy_id=owner) for each, owner in owned)
    sale: dict[str, Any] = {"fill_id": UUID(int=9), "at": ACCEPTED, "strategy_id": seller}
    after, closed = trade(before, Side.SELL, Decimal(11), Decimal(1100), **sale)
    assert [(lot.fill_id.int, lot.strategy_id, lot.qty) for lot in after if lot.qty] == left
    assert [lot.fill_id.int for lot in after] == [1, 2, 3]
    assert closed[0].lot.strategy_id == seller


def test_a_sale_over_two_lots_closes_the_first_and_a_part_of_the_second() -> None:
    """Fifteen of ten and ten shares: the second lot gives half of its cost, and the proceeds go by quantity."""
    left, closed = traded(lots("10 for 1000", "10 for 1100"), Side.SELL, "15", "1800")
    assert [(part.lot.fill_id.int, part.qty, part.cost, part.proceeds) for part in closed] == [
        (1, Decimal(10), Decimal(1000), Decimal(1200)),
        (2, Decimal(5), Decimal(550), Decimal(600)),
    ]
    assert shape(left) == [(2, Decimal(5), Decimal(550))]


def test_a_short_lot_is_closed_by_a_buy() -> None:
    """It was sold at 100 and bought back at 90, a profit of ten a share."""
    left, (closed,) = traded(lots("-10 for -1000"), Side.BUY, "4", "360")
    assert facts(closed.qty, closed.cost, closed.proceeds, closed.realized) == (4, 360, 400, 40)
    assert shape(left) == [(1, Decimal(-6), Decimal(-600))]


@pytest.mark.parametrize(
    ("before", "side", "after"),
    [("10 for 1000", Side.SELL, (9, -5, -600)), ("-10 for -1000", Side.BUY, (9, 5, 600))],
)
def test_a_trade_beyond_the_position_opens_the_other_side(before: str, side: Side, after: tuple[int, int, int]) -> None:
    """Fifteen against ten: two thirds of the money close, the rest is a new lot."""
    left, (closed,) = traded(lots(before), side, "15", "1800")
    assert closed.qty == 10
    assert shape(left) == [after]


def test_more_of_the_same_side_is_another_lot() -> None:
    """Nothing is closed or realized."""
    left, closed = traded(lots("-1 for -100"), Side.SELL, "2", "210")
    assert closed == ()
    assert shape(left) == [(1, Decimal(-1), Decimal(-100)), (9, Decimal(-2), Decimal(-210))]


@pytest.mark.parametrize(("side", "sign"), [(Side.SELL, 1), (Side.BUY, -1)])
def test_the_last_part_takes_the_remaining_cents(side: Side, sign: int) -> None:
    """Thirds of ten are 3.33, then half of 6.67, then the rest, for a short lot as well."""
    open_lots, bases = lots(f"{3 * sign} for {10 * sign}"), []
    for _ in range(3):
        open_lots, (closed,) = traded(open_lots, side, "1", "4")
        bases.append(closed.cost if sign > 0 else closed.proceeds)
    assert bases == [Decimal("3.33"), Decimal("3.34"), Decimal("3.33")]
    assert held(open_lots) == cost_of(open_lots) == 0


def test_two_cents_of_proceeds_over_four_lots_stay_two() -> None:
    """Rounding each half cent by itself would make four."""
    _, closed = traded(lots("1 for 1", "1 for 1", "1 for 1", "1 for 1"), Side.SELL, "4", "0.02")
    assert [part.proceeds for part in closed] == [CENT, ZERO, CENT, ZERO]


def test_an_empty_lot_is_skipped() -> None:
    """It stays in the list without shares."""
    left, closed = traded(lots("0 for 0", "2 for 20"), Side.SELL, "2", "30")
    assert [part.lot.fill_id.int for part in closed] == [2]
    assert held(left) == 0


@pytest.mark.parametrize(
    ("position", "side", "closing"),
    [("10", Side.SELL, 7), ("5", Side.SELL, 5), ("-5", Side.SELL, 0), ("-5", Side.BUY, 5), ("5", Side.BUY, 0)],
)
def test_only_the_other_side_of_a_position_closes_it(position: str, side: Side, closing: int) -> None:
    """Seven shares are traded. Those beyond the position open a new one."""
    assert closing_qty(Decimal(position), side, Decimal(7)) == closing
