"""A limit order that was marketable when it came never rests: it gets the quote, not its own limit."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from shared.exchange.market_rules import MarketRules
from shared.exchange.matching.matching import match
from tests.unit.trading_examples import QUOTED, order, quote

CAME = QUOTED - timedelta(minutes=2)
#: A bar without a trade beyond the ask, in continuous trading, after another update that the order has seen.
SECOND: dict[str, Any] = {"since": QUOTED - timedelta(minutes=1), "volume": Decimal(0)}


@pytest.mark.parametrize(
    ("text", "second", "at"),
    [
        ("buy 10 AAPL limit 101", "AAPL 97.90/98.10 98", "98.10"),
        ("sell 10 AAPL limit 95", "AAPL 97.90/98.10 98", "97.90"),
    ],
)
def test_the_rest_of_a_marketable_order_gets_the_next_quote(text: str, second: str, at: str) -> None:
    """The first quote had too few shares. Nobody pays three dollars above the ask for that."""
    came = order(text, accepted_at=CAME, active_at=CAME, filled_qty=Decimal(4), rests=False)
    assert match(came, quote(second, **SECOND), MarketRules(), on_bar=False).price == Decimal(at)


def test_a_marketable_order_gets_the_first_usable_quote() -> None:
    """The first update had nobody on the ask."""
    came = order("buy 10 AAPL limit 101", accepted_at=CAME, active_at=CAME, rests=False)
    first = quote("AAPL 97.90/98.10 98", at=QUOTED - timedelta(minutes=1), ask_size=Decimal(0))
    waits = match(came, first, MarketRules(), on_bar=False)
    assert waits.price is None
    assert match(waits.order, quote("AAPL 97.90/98.10 98", **SECOND), MarketRules(), on_bar=False).price == Decimal(
        "98.10"
    )


def test_an_order_that_came_before_any_quote_and_filled_in_part_gets_the_next_quote() -> None:
    """Its first fill was at the market, so it does not rest."""
    came = order("buy 10 AAPL limit 101", accepted_at=CAME, active_at=CAME)
    first = match(came, quote("AAPL 97.90/98.10 98", at=QUOTED - timedelta(minutes=1)), MarketRules(), on_bar=False)
    assert first.price == Decimal("98.10")
    second = match(first.order, quote("AAPL 97.90/98.10 98", **SECOND), MarketRules(), on_bar=False)
    assert second.price == Decimal("98.10")
