"""Rounding never pays: no sequence of trades at one constant price gains anything."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.accounts import Commission
from shared.exchange import costs
from shared.exchange.fx import Rate
from shared.exchange.margin import daily_interest
from shared.exchange.matching.liquidity import Liquidity
from shared.money import CENT, ZERO, cents_down, cents_up
from tests.unit.execution_examples import book_of, executed
from tests.unit.trading_examples import ACCOUNT, MARGIN, facts, order, quote

NINTH = Decimal("1E-9")
#: Fractions of a cent's worth and whole shares, at prices from a hundredth of a cent on.
sizes = st.integers(1, 10**6).map(lambda units: units * NINTH) | st.integers(1, 200).map(Decimal)
levels = st.integers(1, 2_000_000).map(lambda units: units * Decimal("0.0001"))
moneys = st.integers(100, 20_000).map(lambda units: f"${units * CENT}")
trades = st.tuples(st.sampled_from(["buy", "sell"]), sizes | moneys, st.lists(sizes, min_size=1, max_size=4))
commissions = st.sampled_from([{}, {"commission": {"kind": "percent", "rate": "0.1"}}])


@given(levels, st.none() | levels, st.lists(trades, max_size=12), commissions)
def test_no_sequence_of_trades_at_one_price_gains(
    price: Decimal, at: Decimal | None, steps: list[tuple[str, Any, list[Decimal]]], fills: dict[str, Any]
) -> None:
    """In fills of any size, long and short, for shares or for money, at home and converted at one rate."""
    rate, cash = at or Decimal(1), Decimal(1_000_000)
    book = book_of(str(cash), fills={"participation": "1", **fills}, **MARGIN)
    if at is not None:
        book.rates = {("EUR", "USD"): Rate(at, at, at)}
    number = 0
    for side, size, parts in steps:
        terms = f"{side} {size if isinstance(size, str) else format(size, 'f')} AAPL market"
        known = {"currency": "EUR"} if at is not None else {}
        current = order(terms, number + 1, **known)
        for part in parts:
            number += 1
            book.liquidity = Liquidity()
            seen = quote(f"AAPL {price}/{price} {price}", ask_size=part, bid_size=part, sequence=number)
            executed([current], book, seen)
            current = book.orders[current.key]
        now = book.accounts[ACCOUNT].cash + book.held(current) * price * rate
        assert now <= cash
        cash = now


@pytest.mark.parametrize(
    ("amount", "up", "down"),
    [("0.001", "0.01", "0"), ("0.005", "0.01", "0"), ("1.00", "1", "1"), ("-0.001", "0", "-0.01")],
)
def test_cash_is_rounded_against_the_trader(amount: str, up: str, down: str) -> None:
    """Up where it is paid, down where it is got, and what is owed grows."""
    assert (cents_up(Decimal(amount)), cents_down(Decimal(amount))) == (Decimal(up), Decimal(down))


def test_the_smallest_rest_is_sold_for_nothing() -> None:
    """Its proceeds are below a cent. The position is closed, and costs nothing more."""
    book = book_of("0", "0.00004 for 0.01")
    (fill,) = executed([order("sell 0.00004 AAPL market")], book, "AAPL 100/100 100").fills
    assert facts(fill.amount, book.held(fill.order), book.accounts[ACCOUNT].cash) == (0, 0, 0)


def test_small_fills_and_loans_do_not_escape_fees_and_interest() -> None:
    """A part of a cent is a cent. Nothing is nothing."""
    percent = Commission(kind="percent", rate=Decimal("0.1"))
    one = Decimal(1)
    assert costs.fee(percent, qty=one, amount=one, filled=one, charged=ZERO) == CENT
    loan = {"short_value": ZERO, "loan_rate": Decimal(1), "borrow_rate": ZERO}
    assert [daily_interest(cash=-cash, **loan) for cash in (one, ZERO)] == [CENT, 0]
