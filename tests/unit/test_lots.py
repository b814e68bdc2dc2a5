"""Lots: first in first out, and no cent and no share is lost or invented."""

from dataclasses import dataclass, field
from datetime import timedelta
from decimal import Decimal
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.orders.domain.lots import Closed, InsufficientShares, Lot, cost_of, held, sell
from shared.money import CENT, ZERO
from tests.unit.trading_examples import ACCEPTED


def lot(text: str, number: int = 1) -> Lot:
    """``"10 for 1000"``: ten shares that cost a thousand, bought on the day of that number."""
    qty, _, cost = text.split()
    return Lot(UUID(int=number), ACCEPTED + timedelta(days=number), Decimal(qty), Decimal(cost))


def lots(*texts: str) -> tuple[Lot, ...]:
    return tuple(lot(text, number) for number, text in enumerate(texts, start=1))


@dataclass
class Ledger:
    """What went in and out, kept apart from the lots under test."""

    open: tuple[Lot, ...] = ()
    closed: list[Closed] = field(default_factory=list)
    paid: Decimal = ZERO
    received: Decimal = ZERO
    bought: Decimal = ZERO
    sold: Decimal = ZERO

    def buy(self, qty: Decimal, amount: Decimal) -> None:
        number = len(self.open) + 1
        self.open += (Lot(UUID(int=number), ACCEPTED + timedelta(days=number), qty, amount),)
        self.paid += amount
        self.bought += qty

    def sell(self, share: Decimal, amount: Decimal) -> None:
        """Sell that share of what is held, if it is anything."""
        qty = (held(self.open) * share).quantize(Decimal("1E-9"))
        if qty:
            self.open, closed = sell(self.open, qty, amount)
            self.closed += closed
            self.received += amount
            self.sold += qty


amounts = st.integers(min_value=0, max_value=10**9).map(lambda whole: whole * CENT)
buys = st.tuples(st.just("buy"), st.decimals(min_value=Decimal("1E-9"), max_value=10**6, places=9), amounts)
sells = st.tuples(st.just("sell"), st.sampled_from(["0.000001", "0.1", "0.333333", "0.999", "1"]).map(Decimal), amounts)
#: Long enough that most of them sell over several lots.
histories = st.lists(st.one_of(buys, sells), min_size=5, max_size=30)


def played(history: list[tuple[str, Decimal, Decimal]]) -> Ledger:
    ledger = Ledger()
    for what, number, amount in history:
        if what == "buy":
            ledger.buy(number, amount)
        else:
            ledger.sell(number, amount)
    return ledger


@given(histories)
def test_no_cent_is_lost_or_invented(history: list[tuple[str, Decimal, Decimal]]) -> None:
    """What was paid is in open lots or in closed ones, what was received is in closed ones."""
    ledger = played(history)
    assert cost_of(ledger.open) + sum((part.cost for part in ledger.closed), ZERO) == ledger.paid
    assert sum((part.proceeds for part in ledger.closed), ZERO) == ledger.received


@given(histories)
def test_no_share_is_lost_or_invented(history: list[tuple[str, Decimal, Decimal]]) -> None:
    """What was bought is held or was sold, to the ninth decimal."""
    ledger = played(history)
    assert held(ledger.open) == ledger.bought - ledger.sold
    assert sum((part.qty for part in ledger.closed), ZERO) == ledger.sold


@given(histories)
def test_lots_hold_whole_cents_and_never_less_than_nothing(history: list[tuple[str, Decimal, Decimal]]) -> None:
    """Also after many partial sales; a lot without shares has no cost left."""
    ledger = played(history)
    for part in ledger.closed:
        assert part.qty > 0
        assert part.cost >= 0
        assert part.proceeds >= 0
        assert part.cost % CENT == part.proceeds % CENT == 0
    for left in ledger.open:
        assert left.qty >= 0
        assert left.cost >= 0
        assert left.cost % CENT == 0
        assert left.qty or not left.cost


@given(histories)
def test_what_was_bought_first_is_sold_first(history: list[tuple[str, Decimal, Decimal]]) -> None:
    """A lot is touched only when all before it are empty."""
    ledger = played(history)
    opened = [part.lot.opened_at for part in ledger.closed]
    assert opened == sorted(opened)
    touched = [left.qty != original for left, original in zip(ledger.open, bought_qtys(history), strict=True)]
    last = max((place for place, was in enumerate(touched) if was), default=0)
    assert not any(left.qty for left in ledger.open[:last])


def bought_qtys(history: list[tuple[str, Decimal, Decimal]]) -> list[Decimal]:
    return [qty for what, qty, _ in history if what == "buy"]


def test_a_sale_over_two_lots_closes_both_in_parts() -> None:
    """15 of 10 and 10: the first whole, of the second half its cost; the proceeds by quantity."""
    left, closed = sell(lots("10 for 1000", "10 for 1100"), Decimal(15), Decimal(1800))
    assert [(part.lot.fill_id.int, part.qty, part.cost, part.proceeds) for part in closed] == [
        (1, Decimal(10), Decimal(1000), Decimal(1200)),
        (2, Decimal(5), Decimal(550), Decimal(600)),
    ]
    assert [(lot.qty, lot.cost) for lot in left] == [(Decimal(0), Decimal(0)), (Decimal(5), Decimal(550))]


def test_the_last_part_takes_the_cents_that_are_left() -> None:
    """Thirds of ten: 3.33, then half of 6.67, then the rest."""
    open_lots, costs = lots("3 for 10"), []
    for _ in range(3):
        open_lots, (closed,) = sell(open_lots, Decimal(1), Decimal(4))
        costs.append(closed.cost)
    assert costs == [Decimal("3.33"), Decimal("3.34"), Decimal("3.33")]
    assert held(open_lots) == cost_of(open_lots) == 0


def test_two_cents_of_proceeds_over_four_lots_stay_two() -> None:
    """Rounding each half cent by itself would make four, and the last part would owe the difference."""
    _, closed = sell(lots("1 for 1", "1 for 1", "1 for 1", "1 for 1"), Decimal(4), 2 * CENT)
    assert [part.proceeds for part in closed] == [CENT, ZERO, CENT, ZERO]


def test_an_emptied_lot_is_passed_over() -> None:
    """It stays in the list with nothing in it, and gives nothing."""
    left, closed = sell(lots("0 for 0", "2 for 20"), Decimal(2), Decimal(30))
    assert [part.lot.fill_id.int for part in closed] == [2]
    assert held(left) == 0


@pytest.mark.parametrize("open_lots", [(), lots("1 for 10"), lots("0.5 for 5", "0.5 for 5")])
def test_more_than_is_held_cannot_be_sold(open_lots: tuple[Lot, ...]) -> None:
    """Both figures are in the message."""
    with pytest.raises(InsufficientShares, match=rf"^1\.000000001 to sell, {held(open_lots)} held$"):
        sell(open_lots, Decimal("1.000000001"), Decimal(10))
