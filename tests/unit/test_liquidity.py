"""The liquidity of one update, and the part of it that our orders may consume."""

from decimal import Decimal
from typing import Any

import pytest

from shared.contracts.accounts import FillModel, Slippage
from shared.contracts.prices import Price
from shared.exchange.matching.liquidity import Liquidity
from shared.exchange.matching.matching import Match, Stage
from shared.money import ZERO
from tests.unit.trading_examples import order, quote

HALF = FillModel(participation=Decimal("0.5"))
BUY, SELL = order("buy 10 AAPL market"), order("sell 10 AAPL market")


def market(**fields: Any) -> Price:
    sizes = {"ask_size": Decimal(100), "bid_size": Decimal(60), "volume": Decimal(1000), **fields}
    return quote("AAPL 99/101 100", **sizes)


def there(
    liquidity: Liquidity, match: Match, wanted: str, *, share: str = "0.5", price: Price | None = None
) -> Decimal:
    return liquidity.available(match, price or market(), Decimal(wanted), Decimal(share))


@pytest.mark.parametrize(
    ("match", "most"),
    [
        (Match(BUY), 50),
        (Match(SELL), 30),
        (Match(BUY, stage=Stage.OPEN), 500),
        (Match(SELL, stage=Stage.RANGE), 500),
    ],
)
def test_a_share_of_the_quote_s_size_or_of_the_bar_s_volume_is_available(match: Match, most: int) -> None:
    """It is half of the size at the ask or the bid, and inside the bar half of its volume."""
    assert there(Liquidity(), match, "10000") == most
    assert there(Liquidity(), match, "7") == 7


def test_a_quote_without_sizes_gives_a_share_of_the_volume() -> None:
    """Without a volume it gives nothing."""
    unsized = {"ask_size": None, "bid_size": None}
    assert there(Liquidity(), Match(BUY), "10000", price=market(**unsized)) == 500
    assert there(Liquidity(), Match(BUY), "10000", price=market(**unsized, volume=ZERO)) == 0


def test_consumed_liquidity_is_not_available_to_the_next_order() -> None:
    """The other side and the bar are pools of their own."""
    liquidity = Liquidity()
    liquidity.consume(Match(BUY), market(), Decimal(40), HALF)
    assert there(liquidity, Match(BUY), "40") == 10
    assert there(liquidity, Match(SELL), "40") == 30
    assert there(liquidity, Match(BUY, stage=Stage.RANGE), "40") == 40
    liquidity.consume(Match(BUY), market(), Decimal(10), HALF)
    assert there(liquidity, Match(BUY), "40") == 0
    assert liquidity.consumed == {("AAPL", "ask"): Decimal(50), ("AAPL", "volume"): Decimal(50)}
    assert liquidity.touched == {("AAPL", "ask"), ("AAPL", "volume")}


def test_liquidity_consumed_by_earlier_transactions_counts() -> None:
    """It is written again only if more is consumed. An account with a smaller share finds nothing left."""
    liquidity = Liquidity({("AAPL", "ask"): Decimal(45)})
    assert there(liquidity, Match(BUY), "40") == 5
    assert there(liquidity, Match(BUY), "40", share="0.1") == 0
    assert not liquidity.touched


def test_whole_orders_get_whole_shares() -> None:
    """A fractional order gets the available quantity to the ninth decimal."""
    odd = market(ask_size=Decimal("7.5"))
    assert there(Liquidity(), Match(BUY), "10", price=odd) == 3
    assert there(Liquidity(), Match(BUY), "10.5", price=odd) == Decimal("3.75")
    assert there(Liquidity(), Match(BUY), "10.5", share="0.3333333333", price=odd) == Decimal("2.499999999")


def test_a_fill_that_slips_by_the_volume_consumes_volume_alone() -> None:
    """It has no limit of participation, so it takes nothing from those who have."""
    liquidity = Liquidity()
    by_volume = FillModel(slippage=Slippage(kind="volume_share", rate=Decimal("0.1")))
    liquidity.consume(Match(BUY), market(), Decimal(40), by_volume)
    liquidity.consume(Match(SELL), market(), Decimal(5), by_volume)
    assert liquidity.consumed == {("AAPL", "volume"): Decimal(45)}
    assert liquidity.taken(market()) == 45
    assert there(liquidity, Match(BUY), "40") == 40
