"""The crossover of two averages: it enters once, sells the whole position, and always gives a reason."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.strategy.domain.sma_crossover import Decision, Holding, Rules, decide
from shared.contracts.strategy import Action

RULES = Rules(fast=2, slow=4, order_qty=Decimal(10), max_position_qty=Decimal(25))
NOTHING = Holding(Decimal(0))
RISING = "100 100 102 104"
FALLING = "104 104 102 100"

quantities = st.integers(min_value=0, max_value=100).map(Decimal)
holdings = st.builds(Holding, quantities, quantities, quantities)
series = st.lists(st.integers(min_value=1, max_value=200).map(Decimal), max_size=12)


def decided(closes: str, holding: Holding = NOTHING, rules: Rules = RULES) -> Decision:
    return decide([Decimal(close) for close in closes.split()], holding, rules)


@pytest.mark.parametrize("closes", ["", "100", "100 102 104"])
def test_it_waits_until_there_are_enough_bars(closes: str) -> None:
    """The slow average of fewer bars would be another average."""
    count = len(closes.split())
    assert decided(closes) == Decision(Action.HOLD, f"{count} of 4 bars so far")


def test_it_enters_while_the_fast_average_is_above() -> None:
    """With 103 above 101.5 and no holding it buys one order's quantity."""
    assert decided(RISING) == Decision(Action.BUY, "fast average 103 above slow 101.5", Decimal(10))


def test_it_sells_everything_while_the_fast_average_is_below() -> None:
    """It sells the whole holding."""
    assert decided(FALLING, Holding(Decimal("12.5"))) == Decision(
        Action.SELL, "fast average 101 below slow 102.5", Decimal("12.5")
    )


@pytest.mark.parametrize("holding", [NOTHING, Holding(Decimal(10))])
def test_it_does_nothing_while_the_averages_are_equal(holding: Holding) -> None:
    """Equal averages are no reason to trade."""
    assert decided("100 102 100 102", holding) == Decision(Action.HOLD, "the averages are equal at 101")


def test_averages_with_endless_decimals_are_still_equal() -> None:
    """A third is shown with four decimals, but compared with all of them."""
    rules = Rules(fast=3, slow=6, order_qty=Decimal(1), max_position_qty=Decimal(1))
    assert decided("1 0 0 0 0 1", rules=rules) == Decision(Action.HOLD, "the averages are equal at 0.3333")


def test_it_enters_only_once() -> None:
    """While it is long or its order is open, a rising market changes nothing."""
    assert decided(RISING, Holding(Decimal(10))) == Decision(
        Action.HOLD, "fast average 103 above slow 101.5, already long 10"
    )
    assert decided(RISING, Holding(Decimal(0), buying=Decimal(10))) == Decision(
        Action.HOLD, "fast average 103 above slow 101.5, an order for 10 is open"
    )


def test_it_never_goes_beyond_the_position_limit() -> None:
    """If an order's quantity is larger, the limit counts."""
    rules = Rules(fast=2, slow=4, order_qty=Decimal(10), max_position_qty=Decimal(3))
    assert decided(RISING, rules=rules).qty == 3


def test_with_nothing_to_sell_it_holds() -> None:
    """It never sells short in a falling market."""
    assert decided(FALLING) == Decision(Action.HOLD, "fast average 101 below slow 102.5, nothing to sell")


def test_it_does_not_sell_the_same_shares_twice() -> None:
    """While its sell order is open, it sells only the shares beyond it."""
    assert decided(FALLING, Holding(Decimal(10), selling=Decimal(10))) == Decision(
        Action.HOLD, "fast average 101 below slow 102.5, an order to sell is open"
    )
    assert decided(FALLING, Holding(Decimal(10), selling=Decimal(4))).qty == 6


def test_only_the_latest_bars_count() -> None:
    """Bars before the slow window do not count."""
    assert decided(f"1 1 1 1 {RISING}") == decided(f"900 900 {RISING}") == decided(RISING)


@given(series, holdings)
def test_every_call_returns_a_decision_with_a_reason(closes: list[Decimal], holding: Holding) -> None:
    """A trade has a quantity, and a decision to hold has none."""
    decision = decide(closes, holding, RULES)
    assert decision.reason
    assert (decision.qty > 0) == (decision.action is not Action.HOLD)


@given(series, holdings)
def test_no_decision_exceeds_the_limit_or_the_free_shares(closes: list[Decimal], holding: Holding) -> None:
    """It buys only without a holding and within the limit, and sells exactly the free shares."""
    decision = decide(closes, holding, RULES)
    if decision.action is Action.BUY:
        assert holding.qty + holding.buying + decision.qty <= RULES.max_position_qty
    if decision.action is Action.SELL:
        assert decision.qty == holding.qty - holding.selling


@given(series, holdings)
def test_the_same_input_gives_the_same_decision(closes: list[Decimal], holding: Holding) -> None:
    """A repeated run must decide the same."""
    assert decide(closes, holding, RULES) == decide(tuple(closes), holding, RULES)


@given(st.lists(st.integers(min_value=1, max_value=200).map(Decimal), min_size=4, max_size=12))
def test_it_sells_its_shares_when_the_market_turns(closes: list[Decimal]) -> None:
    """The mirrored market gives the opposite decision."""
    mirrored = [201 - close for close in closes]
    wish = decide(closes, NOTHING, RULES).action
    opposite = decide(mirrored, Holding(Decimal(10)), RULES).action
    assert (wish is Action.BUY) == (opposite is Action.SELL)
