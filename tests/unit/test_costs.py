"""The costs of a fill beyond its price, commission and slippage, with an example of each model."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.accounts import Commission, Slippage
from shared.contracts.orders import Side
from shared.exchange.costs import Worse, fee, rounded, slipped
from shared.money import CENT, ZERO
from tests.unit.trading_examples import quote

FREE = Commission()
PER_SHARE = Commission(kind="per_share", rate=Decimal("0.005"), minimum=Decimal(1))
PERCENT = Commission(kind="percent", rate=Decimal("0.25"))


def fees(model: Commission, *parts: tuple[str, str]) -> list[Decimal]:
    """The fee of each fill of an order, given as (quantity, amount)."""
    filled = amount = charged = ZERO
    found = []
    for qty, money in parts:
        filled, amount = filled + Decimal(qty), amount + Decimal(money)
        found.append(fee(model, qty=Decimal(qty), amount=amount, filled=filled, charged=charged))
        charged += found[-1]
    return found


def test_an_account_without_commission_pays_no_fee() -> None:
    """It pays no minimum either."""
    assert fees(FREE, ("10", "1000")) == [ZERO]
    assert fees(Commission(kind="zero", minimum=Decimal(5)), ("10", "1000")) == [ZERO]


@pytest.mark.parametrize(
    ("model", "qty", "amount", "due"),
    [(PER_SHARE, "1000", "99", "5.00"), (PER_SHARE, "1", "99", "1.00"), (PERCENT, "10", "1002", "2.51")],
)
def test_commission_by_kind(model: Commission, qty: str, amount: str, due: str) -> None:
    """Half a cent a share with a minimum of a dollar, and a quarter of a percent, rounded to the cent."""
    assert fees(model, (qty, amount)) == [Decimal(due)]


def test_a_minimum_counts_once_for_an_order() -> None:
    """The first fill pays the minimum. The next ones pay nothing until more is due."""
    assert fees(PER_SHARE, ("100", "9"), ("99", "9"), ("2", "9"), ("200", "9")) == [1, 0, CENT, 1]


def test_an_order_without_fills_costs_nothing() -> None:
    """It does not pay the minimum either."""
    assert fee(PER_SHARE, qty=ZERO, amount=ZERO, filled=ZERO, charged=ZERO) == 0


parts = st.lists(st.tuples(st.integers(1, 10**6), st.integers(0, 10**9)), min_size=1, max_size=8)
models = st.sampled_from([PER_SHARE, PERCENT, Commission(kind="percent", rate=Decimal("0.1"), minimum=Decimal(3))])


@given(parts, models)
def test_many_fills_cost_as_much_as_one(filled: list[tuple[int, int]], model: Commission) -> None:
    """This holds to the cent, however the order is divided."""
    as_parts = fees(model, *((str(qty), str(cents * CENT)) for qty, cents in filled))
    as_whole = fees(model, (str(sum(qty for qty, _ in filled)), str(sum(cents for _, cents in filled) * CENT)))
    assert sum(as_parts) == sum(as_whole)
    assert all(each >= 0 and each % CENT == 0 for each in as_parts)


def slip(
    kind: str, rate: str, side: Side, *, qty: str = "10", on: str = "AAPL 99/101 100", in_bar: bool = False
) -> Worse:
    price = quote(on, volume=Decimal(100))
    at = Decimal(101) if side is Side.BUY else Decimal(99)
    model = Slippage.model_validate({"kind": kind, "rate": rate})
    return slipped(model, side, at, price, Decimal(qty), in_bar=in_bar)


@pytest.mark.parametrize(
    ("kind", "rate", "bought_at", "sold_at"),
    [
        ("none", "10", "101", "99"),
        ("fixed", "10", "101.101", "98.901"),  # ten basis points
        ("spread", "0.25", "101.5", "98.5"),  # a quarter of two dollars
        ("volume_share", "0.1", "101.101", "98.901"),  # a tenth of (a tenth of the volume)²
    ],
)
def test_slippage_by_kind(kind: str, rate: str, bought_at: str, sold_at: str) -> None:
    """A buy pays more and a sell gets less. The difference is kept beside the price."""
    bought, sold = slip(kind, rate, Side.BUY), slip(kind, rate, Side.SELL)
    assert (bought.price, sold.price) == (Decimal(bought_at), Decimal(sold_at))
    assert (bought.slippage, sold.slippage) == (Decimal(bought_at) - 101, 99 - Decimal(sold_at))


def test_slippage_by_spread_needs_a_quote() -> None:
    """Without a quote there is no spread."""
    assert slip("spread", "0.25", Side.BUY, on="AAPL 99/ 100").slippage == 0


@pytest.mark.parametrize("side", Side)
def test_a_crossed_quote_has_no_spread(side: Side) -> None:
    """An order that fills inside of the bar gets no better price from it."""
    assert slip("spread", "0.25", side, on="AAPL 101/99 100") == slip("none", "0", side, on="AAPL 101/99 100")


def test_the_share_of_the_volume_is_at_most_one() -> None:
    """An order for ten times the volume slips as one for the volume. So does an order without a known volume."""
    whole = slip("volume_share", "0.1", Side.BUY, qty="100")
    assert whole.price == Decimal("111.1")
    assert slip("volume_share", "0.1", Side.BUY, qty="1000") == whole
    model = Slippage(kind="volume_share", rate=Decimal("0.1"))
    assert slipped(model, Side.BUY, Decimal(101), quote("AAPL 100"), Decimal(1), in_bar=False) == whole


def test_inside_a_bar_a_price_slips_no_further_than_its_range() -> None:
    """Nobody traded beyond the bar's high or its low."""
    on = "AAPL 99/101 100 of 100 101.05 98.95"
    assert slip("fixed", "100", Side.BUY, on=on, in_bar=True) == Worse(Decimal("101.05"), Decimal("0.05"))
    assert slip("fixed", "100", Side.SELL, on=on, in_bar=True) == Worse(Decimal("98.95"), Decimal("0.05"))
    assert slip("fixed", "100", Side.BUY, on=on).price == Decimal("102.01")


@pytest.mark.parametrize(
    ("price", "bought_at", "sold_at"),
    [
        ("33.33335", "33.3334", "33.3333"),
        ("1.00001", "1.0001", "1.0000"),
        ("0.0000123456", "0.000012346", "0.000012345"),
    ],
)
def test_a_price_is_rounded_to_its_step_against_the_trader(price: str, bought_at: str, sold_at: str) -> None:
    """Prices have four decimals, and nine below a price of one."""
    assert rounded(Decimal(price), Side.BUY) == Decimal(bought_at)
    assert rounded(Decimal(price), Side.SELL) == Decimal(sold_at)


@given(st.decimals(min_value=Decimal("1E-9"), max_value=10**6, places=9), st.integers(0, 1000), st.sampled_from(Side))
def test_slippage_is_never_in_the_traders_favour_and_leaves_a_price(at: Decimal, rate: int, side: Side) -> None:
    """The slippage equals the difference of the prices, and the price stays above zero."""
    worse = slipped(Slippage(kind="fixed", rate=Decimal(rate)), side, at, quote("AAPL 1"), Decimal(1), in_bar=False)
    assert worse.price > 0
    assert worse.slippage == (worse.price - at if side is Side.BUY else at - worse.price) >= 0
