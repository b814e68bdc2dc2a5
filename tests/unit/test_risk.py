"""What is checked before an order is accepted, and what it reserves."""

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.orders.domain.matching import MarketRules, execution_price
from services.orders.domain.order import Account
from services.orders.domain.risk import Listing, Refusal, refuse, reserve_for, unknown_symbol
from shared.contracts.orders import Side
from shared.money import CENT, ZERO, cents
from tests.unit.trading_examples import ACCOUNT, order, quote, submission

LISTING = Listing(tradable=True, ask=Decimal("100.10"), last=Decimal(100))
UNQUOTED = Listing(tradable=True, ask=None, last=Decimal(100))
UNPRICED = Listing(tradable=True, ask=None, last=None)


def account(cash: str, reserved: str = "0") -> Account:
    return Account(ACCOUNT, Decimal(cash), Decimal(reserved), sequence=1)


def refusal_of(
    terms: str, *, cash: str = "0", reserved: str = "0", listing: Listing = LISTING, available: str = "0"
) -> Refusal | None:
    return refuse(submission(terms), listing, account(cash, reserved), available_qty=Decimal(available))


@pytest.mark.parametrize(
    ("terms", "listing", "reserved"),
    [
        ("buy 10 AAPL limit 99.50", LISTING, "995.00"),
        ("buy 10 AAPL limit 99.50", UNPRICED, "995.00"),
        ("buy 10 AAPL market", LISTING, "1011.01"),
        ("buy 10 AAPL market", UNQUOTED, "1010.00"),
        ("buy 10 AAPL market", UNPRICED, "0.00"),
        ("buy 10 AAPL stop 105", LISTING, "1060.50"),
        ("buy 0.333333333 AAPL limit 99.99", LISTING, "33.33"),
        ("buy 0.5 AAPL limit 0.01", LISTING, "0.01"),
        ("sell 10 AAPL market", LISTING, "0"),
        ("sell 10 AAPL limit 99.50", LISTING, "0"),
        ("sell 10 AAPL stop 99.50", LISTING, "0"),
    ],
)
def test_a_buy_reserves_what_it_may_cost(terms: str, listing: Listing, reserved: str) -> None:
    """A limit its limit; a market or stop order its reference price and one percent; a sell nothing."""
    assert reserve_for(submission(terms), listing) == Decimal(reserved)


@pytest.mark.parametrize(("cash", "reserved"), [("995.00", "0"), ("1995", "1000")])
def test_exactly_enough_buying_power_is_enough(cash: str, reserved: str) -> None:
    """What other orders have reserved is not there; to the cent."""
    assert refusal_of("buy 10 AAPL limit 99.50", cash=cash, reserved=reserved) is None
    short = str(Decimal(cash) - CENT)
    refusal = refusal_of("buy 10 AAPL limit 99.50", cash=short, reserved=reserved)
    assert refusal == Refusal("insufficient_buying_power", "insufficient buying power (needed: 995, available: 994.99)")


def test_a_market_buy_needs_its_allowance_too() -> None:
    """Enough for the ask is not enough, since it may fill above it."""
    refusal = refusal_of("buy 10 AAPL market", cash="1001.00")
    assert refusal is not None
    assert refusal.reason == "insufficient_buying_power"
    assert refusal_of("buy 10 AAPL market", cash="1011.01") is None


def test_a_market_buy_before_the_first_price_is_checked_when_it_fills() -> None:
    """There is no made-up price, so there is nothing to compare with."""
    assert refusal_of("buy 10 AAPL market", cash="0", listing=UNPRICED) is None


@pytest.mark.parametrize("kind", ["market", "limit 99.50", "stop 99.50"])
def test_only_held_and_unpromised_shares_can_be_sold(kind: str) -> None:
    """There is no selling short; the cash in the account does not matter."""
    assert refusal_of(f"sell 1.5 AAPL {kind}", available="1.5") is None
    assert refusal_of(f"sell 1.5 AAPL {kind}", cash="1000000", available="1.499999999") == Refusal(
        "insufficient_shares", "insufficient qty available for order (requested: 1.5, available: 1.499999999)"
    )


@pytest.mark.parametrize("terms", ["buy 10 AAPL market", "sell 10 AAPL market"])
def test_an_instrument_that_is_not_traded_is_refused_first(terms: str) -> None:
    """Even where cash and shares would be missing as well."""
    halted = Listing(tradable=False, ask=Decimal("100.10"), last=Decimal(100))
    assert refusal_of(terms, listing=halted) == Refusal("not_tradable", "symbol AAPL is not tradable")


def test_an_unknown_symbol_is_refused_by_its_name() -> None:
    """A misspelling is seen in the answer."""
    assert unknown_symbol("APPL") == Refusal("unknown_symbol", "symbol APPL is not an instrument here")


def test_a_refusal_writes_numbers_as_people_do() -> None:
    """A thousand is 1000 and not 1E+3."""
    refusal = refusal_of("buy 1E+3 AAPL limit 1E+2", cash="1E+4")
    assert refusal is not None
    assert refusal.message.endswith("(needed: 100000, available: 10000)")


@given(
    st.decimals(min_value=Decimal("1E-9"), max_value=10**6, places=9),
    st.decimals(min_value=Decimal("0.0001"), max_value=10**5, places=4),
    st.decimals(min_value=Decimal("0.0001"), max_value=10**5, places=4),
)
def test_a_limit_buy_never_costs_more_than_it_reserved(qty: Decimal, limit: Decimal, ask: Decimal) -> None:
    """To the cent, wherever in its limit it fills: what was accepted can be paid."""
    terms = f"{Side.BUY} {qty} AAPL limit {limit}"
    price = execution_price(order(terms), quote(f"AAPL /{ask} {ask}"), MarketRules())
    assert price is None or cents(qty * price) <= reserve_for(submission(terms), LISTING)


@given(
    st.integers(min_value=0, max_value=10**6),
    st.integers(min_value=0, max_value=10**6),
    st.decimals(min_value=Decimal("1E-9"), max_value=1000, places=9),
    st.sampled_from(["market", "limit 99.50", "stop 105"]),
)
def test_what_is_accepted_leaves_buying_power_at_or_above_zero(
    cash: int, reserved: int, qty: Decimal, kind: str
) -> None:
    """An account never promises more than it has."""
    owner = Account(ACCOUNT, cash * CENT, min(cash, reserved) * CENT, sequence=1)
    command = submission(f"buy {qty} AAPL {kind}")
    accepted = refuse(command, LISTING, owner, available_qty=ZERO) is None
    assert accepted == (reserve_for(command, LISTING) <= owner.buying_power)
