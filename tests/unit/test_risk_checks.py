"""The checks before an order is accepted, with an example of each reason."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.contracts.orders import Side
from shared.contracts.reasons import RejectReason
from shared.exchange.acceptance.pre_trade import Exposure, Halt, Instrument
from shared.exchange.acceptance.risk_checks import DUPLICATE, refuse, unknown_symbol
from shared.exchange.acceptance.sizing import size_up
from shared.exchange.market_rules import MarketRules
from shared.exchange.matching.matching import match
from shared.exchange.order import Account
from shared.exchange.refusal import Refusal
from shared.money import CENT, cents
from tests.unit.trading_examples import ACCOUNT, INSTRUMENT, MARGIN, account, order, quote, submission

UNQUOTED = Instrument(tradable=True, last=Decimal(100))
UNPRICED = Instrument(tradable=True)
HALTED = replace(INSTRUMENT, halt=Halt(datetime(2026, 11, 23, 15, 4, 5, tzinfo=UTC), "news pending"))
RICH = account("100000", **MARGIN)


def exposure(held: str = "0", held_for_orders: str = "0", **fields: Any) -> Exposure:
    return Exposure(Decimal(held), Decimal(held_for_orders), **fields)


def refusal_of(
    terms: str, owner: Account = RICH, known: Exposure | None = None, *, instrument: Instrument = INSTRUMENT
) -> Refusal | None:
    asked, held = submission(terms), known or exposure()
    size = size_up(asked, instrument, owner, held)
    return refuse(asked, size, instrument, owner, held, owner.settings.limits)


def reason_of(terms: str, owner: Account = RICH, known: Exposure | None = None, **fields: Any) -> str | None:
    refusal = refusal_of(terms, owner, known, **fields)
    return None if refusal is None else refusal.reason


def needed(
    terms: str, instrument: Instrument = INSTRUMENT, known: Exposure | None = None, owner: Account = RICH
) -> Decimal:
    return size_up(submission(terms), instrument, owner, known or exposure()).needed


@pytest.mark.parametrize(
    ("terms", "instrument", "reserved"),
    [
        ("buy 10 AAPL limit 99.50", INSTRUMENT, "995.00"),
        ("buy 10 AAPL limit 99.50", UNPRICED, "995.00"),
        ("buy 10 AAPL market", INSTRUMENT, "1011.01"),
        ("buy 10 AAPL market", UNQUOTED, "1010.00"),
        ("buy 10 AAPL market", UNPRICED, "0.00"),
        ("buy 10 AAPL stop 105", INSTRUMENT, "1060.50"),
        ("buy 10 AAPL stop_limit 105 106", INSTRUMENT, "1060"),
        ("buy 10 AAPL trailing_stop 5", UNQUOTED, "1060.50"),
        ("buy 10 AAPL trailing_stop 5%", UNQUOTED, "1060.50"),
        ("buy 0.333333333 AAPL limit 99.99", INSTRUMENT, "33.33"),
        ("buy 0.5 AAPL limit 0.01", INSTRUMENT, "0.01"),
        ("buy $1000 AAPL market", INSTRUMENT, "1000"),
        ("buy $1000 AAPL market", UNPRICED, "1000"),
        ("sell 10 AAPL market", INSTRUMENT, "1031.03"),
        ("sell 10 AAPL limit 90", INSTRUMENT, "1031.03"),
        ("sell 10 AAPL limit 110", INSTRUMENT, "1100"),
        ("sell 10 AAPL stop 90", UNQUOTED, "1030"),
    ],
)
def test_opening_a_position_needs_its_worst_likely_cost(terms: str, instrument: Instrument, reserved: str) -> None:
    """A limit order needs its limit, a market order one percent more, a short sale its limit or 3 % above the ask."""
    assert needed(terms, instrument) == Decimal(reserved)


@pytest.mark.parametrize(
    ("terms", "held", "held_for_orders", "reserved"),
    [
        ("sell 10 AAPL market", "10", "0", "0"),
        ("sell 10 AAPL limit 110", "10", "4", "440"),
        ("buy 10 AAPL market", "-10", "0", "0"),
        ("buy 10 AAPL limit 99.50", "-4", "0", "597"),
        ("buy 10 AAPL limit 99.50", "-4", "4", "995"),
        ("buy 10 AAPL limit 99.50", "10", "0", "995"),
    ],
)
def test_closing_a_position_needs_no_buying_power(terms: str, held: str, held_for_orders: str, reserved: str) -> None:
    """Only the shares beyond the free position need any."""
    assert needed(terms, known=exposure(held, held_for_orders)) == Decimal(reserved)


@pytest.mark.parametrize(("cash", "reserved"), [("995.00", "0"), ("1995", "1000")])
def test_exactly_enough_buying_power_is_enough(cash: str, reserved: str) -> None:
    """Cash reserved by other orders does not count, to the cent."""
    assert refusal_of("buy 10 AAPL limit 99.50", account(cash, reserved)) is None
    short = account(str(Decimal(cash) - CENT), reserved)
    refusal = refusal_of("buy 10 AAPL limit 99.50", short)
    assert refusal == Refusal(
        RejectReason.INSUFFICIENT_BUYING_POWER, "insufficient buying power (needed: 995, available: 994.99)"
    )


@pytest.mark.parametrize(
    ("owner", "power"),
    [
        (account("1000"), "1000"),
        (account("1000", "300"), "700"),
        (account("1000", **MARGIN), "2000"),
        (account("-500", long="1500", **MARGIN), "500"),  # 1,000 of equity, 1,500 held
        (account("2000", short="-1000", **MARGIN), "1000"),  # the proceeds of a short sale do not belong to the owner
        (account("2000", "400", short="-1000", **MARGIN), "600"),
        (account("-900", long="1500", **MARGIN), "-300"),
    ],
)
def test_buying_power_is_a_multiple_of_equity_less_positions(owner: Account, power: str) -> None:
    """Long and short positions count alike, and so do the reservations of open orders."""
    assert owner.buying_power == Decimal(power)


def test_an_account_without_buying_power_may_close_its_positions() -> None:
    """It closes long and short positions and opens none."""
    under = account("-1400", long="1500", **MARGIN)
    assert reason_of("sell 15 AAPL market", under, exposure("15")) is None
    assert reason_of("buy 15 AAPL market", under, exposure("-15")) is None
    assert reason_of("buy 1 AAPL limit 1", under, exposure("15")) == "insufficient_buying_power"


def test_a_market_buy_before_the_first_price_is_checked_when_it_fills() -> None:
    """No price is made up, so there is nothing to check against."""
    assert refusal_of("buy 10 AAPL market", account("0"), instrument=UNPRICED) is None


@pytest.mark.parametrize("kind", ["market", "limit 99.50", "stop 99.50"])
def test_without_short_selling_only_free_shares_can_be_sold(kind: str) -> None:
    """The account's cash does not matter."""
    assert refusal_of(f"sell 1.5 AAPL {kind}", account("0"), exposure("4", "2.5")) is None
    assert refusal_of(f"sell 1.5 AAPL {kind}", account("1000000"), exposure("4", "2.500000001")) == Refusal(
        RejectReason.INSUFFICIENT_SHARES,
        "insufficient qty available for order (requested: 1.5, available: 1.499999999)",
        {"available": "1.499999999", "existing_qty": "4", "held_for_orders": "2.500000001", "symbol": "AAPL"},
    )


LOSSES: dict[str, Any] = {"limits": {"max_daily_loss": "0.1", "max_drawdown": "0.2"}}


@pytest.mark.parametrize(
    ("terms", "settings", "known", "reason"),
    [
        ("buy 1 AAPL market", {"trading_blocked": True}, {}, "trading_blocked"),
        ("buy 1 AAPL market", {"limits": {"blocked_symbols": ["AAPL"]}}, {}, "symbol_blocked"),
        ("buy 1 AAPL market", {"limits": {"allowed_symbols": ["IBM"]}}, {}, "symbol_not_allowed"),
        ("sell 1 AAPL market", {"shorting": False}, {}, "insufficient_shares"),
        ("sell 10 AAPL limit 110 oco 110/95", {}, {"held": "9"}, "insufficient_shares"),
        ("sell 1.5 AAPL market", {}, {}, "fractional_short"),
        ("sell $1000 AAPL market", {}, {}, "fractional_short"),
        ("sell 10.5 AAPL market", {}, {"held": "10"}, "fractional_short"),
        ("buy 10 AAPL market bracket 110/95", {}, {"held": "-1"}, "closing_entry"),
        ("sell 10 AAPL market oto /105", {}, {"held": "1"}, "closing_entry"),
        ("buy 1 AAPL market", {"limits": {"orders_per_minute": 3}}, {"recent": 3}, "too_many_orders"),
        ("buy 11 AAPL market", {"limits": {"max_order_qty": "10"}}, {}, "order_too_large"),
        ("buy 10 AAPL limit 101", {"limits": {"max_order_notional": "1009.99"}}, {}, "order_too_large"),
        ("buy 1 AAPL limit 110.01", {"limits": {"price_collar": "0.1"}}, {}, "price_collar"),
        ("sell 1 AAPL limit 89.99", {"limits": {"price_collar": "0.1"}}, {"held": "1"}, "price_collar"),
        ("buy 6 AAPL market", {"limits": {"max_position_qty": "10"}}, {"held": "5"}, "position_limit"),
        ("sell 6 AAPL market", {"limits": {"max_position_qty": "10"}}, {"held": "-5"}, "position_limit"),
        ("buy 6 AAPL limit 100", {"limits": {"max_position_notional": "1099"}}, {"held": "5"}, "position_limit"),
        ("buy 51 AAPL limit 100", {"limits": {"max_position_share": "0.05"}}, {}, "position_limit"),
        ("buy 1 AAPL market", LOSSES, {"day_start": Decimal(111_112)}, "daily_loss"),
        ("buy 1 AAPL market", LOSSES, {"peak": Decimal(125_001)}, "drawdown"),
        ("buy 2000 AAPL market", {}, {}, "insufficient_buying_power"),
    ],
)
def test_each_check_has_its_reason(terms: str, settings: dict[str, Any], known: dict[str, Any], reason: str) -> None:
    """The account has 100,000 and may borrow and sell short by default."""
    assert reason_of(terms, account("100000", **{**MARGIN, **settings}), exposure(**known)) == reason


@pytest.mark.parametrize(
    ("terms", "settings", "known"),
    [
        ("buy 1 AAPL market", {"limits": {"orders_per_minute": 3}}, {"recent": 2}),
        ("buy 10 AAPL market", {"limits": {"max_order_qty": "10"}}, {}),
        ("buy 10 AAPL limit 101", {"limits": {"max_order_notional": "1010"}}, {}),
        ("buy 1 AAPL limit 110", {"limits": {"price_collar": "0.1"}}, {}),
        ("buy 5 AAPL market", {"limits": {"max_position_qty": "10"}}, {"held": "5"}),
        ("buy 50 AAPL limit 100", {"limits": {"max_position_share": "0.05"}}, {}),
        ("buy 1 AAPL market", LOSSES, {"day_start": Decimal(111_111), "peak": Decimal(125_000)}),
        ("sell 5 AAPL market", {"limits": {"max_position_qty": "1"}}, {"held": "10"}),
        ("buy 5 AAPL market", {"limits": {"max_position_share": "0.0001"}}, {"held": "-10"}),
        ("sell 5 AAPL market", LOSSES, {"held": "10", "day_start": Decimal(999_999), "peak": Decimal(999_999)}),
        ("buy 10 AAPL market bracket 110/95", {}, {"held": "1"}),
    ],
)
def test_an_order_at_a_limit_or_that_reduces_risk_is_accepted(
    terms: str, settings: dict[str, Any], known: dict[str, Any]
) -> None:
    """A position can always be closed, however large it or the loss is."""
    assert reason_of(terms, account("100000", **{**MARGIN, **settings}), exposure(**known)) is None


@pytest.mark.parametrize(
    ("instrument", "terms", "reason"),
    [
        (Instrument(tradable=False, ask=Decimal(100), last=Decimal(100)), "buy 1 AAPL market", "not_tradable"),
        (Instrument(tradable=True, last=Decimal(100), currency="EUR"), "buy 1 AAPL market", "no_exchange_rate"),
        (Instrument(tradable=True, last=Decimal(100), is_open=False), "buy 1 AAPL market ioc", "market_closed"),
        (Instrument(tradable=True, last=Decimal(100), is_open=False), "buy 1 AAPL limit 9 fok", "market_closed"),
        (Instrument(tradable=True, last=Decimal(100), is_open=False), "buy 1 AAPL market day", None),
        (UNPRICED, "sell $1000 AAPL market", "no_price"),
        (HALTED, "buy 1 AAPL market", "symbol_halted"),
        (HALTED, "sell 100 AAPL market", "symbol_halted"),
        (replace(HALTED, tradable=False), "buy 1 AAPL market", "not_tradable"),
        (replace(HALTED, is_open=False), "buy 1 AAPL market ioc", "market_closed"),
    ],
)
def test_the_instrument_s_own_checks(instrument: Instrument, terms: str, reason: str | None) -> None:
    """They are a halt, a currency without a rate, and a closed market for an order that must fill at once."""
    assert reason_of(terms, account("100000"), exposure("100"), instrument=instrument) == reason


@given(
    st.sampled_from(["buy", "sell"]),
    st.sampled_from(["1 AAPL market", "3 AAPL limit 99", "9 AAPL stop 95", "$50 AAPL market", "2 AAPL limit 1 cls"]),
    st.integers(0, 100),
    st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=-5))])),
    st.text(min_size=1, max_size=200),
)
def test_no_order_in_a_halted_symbol_is_accepted(side: str, terms: str, held: int, since: datetime, why: str) -> None:
    """Closing orders are rejected as well. The text has the start in UTC and the reason."""
    halted = replace(INSTRUMENT, halt=Halt(since, why))
    refusal = refusal_of(f"{side} {terms}", known=exposure(str(held)), instrument=halted)
    assert refusal is not None
    assert refusal.reason == "symbol_halted"
    began = f"{since.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
    assert refusal.message == f"trading in AAPL has been halted since {began}: {why}"


def test_an_untradable_instrument_is_the_first_reason() -> None:
    """Missing cash and shares come after it."""
    halted = Instrument(tradable=False, ask=Decimal("100.10"), last=Decimal(100))
    assert refusal_of("sell 10 AAPL market", account("0"), instrument=halted) == Refusal(
        RejectReason.NOT_TRADABLE, "symbol AAPL is not tradable"
    )


def test_a_refusal_has_a_sentence_for_people() -> None:
    """It shows the misspelt symbol, numbers without exponents, and percentages as such."""
    assert unknown_symbol("APPL") == Refusal(RejectReason.UNKNOWN_SYMBOL, "symbol APPL is not a known instrument")
    assert DUPLICATE.message == "client_order_id must be unique"
    poor = refusal_of("buy 1E+3 AAPL limit 1E+2", account("1E+4"))
    assert poor is not None
    assert poor.message.endswith("(needed: 100000, available: 10000)")
    lost = refusal_of("buy 1 AAPL market", account("90", **LOSSES), exposure(day_start=Decimal("100.01")))
    assert lost is not None
    assert lost.message == "daily loss: equity 90 has fallen by more than 10 % from 100.01"


prices = st.decimals(min_value=Decimal("0.0001"), max_value=10**5, places=4)


@given(st.decimals(min_value=Decimal("1E-9"), max_value=10**6, places=9), prices, prices)
def test_a_limit_buy_never_costs_more_than_it_reserved(qty: Decimal, limit: Decimal, ask: Decimal) -> None:
    """An accepted order can be paid to the cent, wherever within its limit it fills."""
    terms = f"{Side.BUY} {qty} AAPL limit {limit}"
    price = match(order(terms), quote(f"AAPL /{ask} {ask}"), MarketRules(), on_bar=False).price
    assert price is None or cents(qty * price) <= needed(terms)


@given(
    st.integers(min_value=0, max_value=10**6),
    st.integers(min_value=0, max_value=10**6),
    st.decimals(min_value=Decimal("0.011"), max_value=1000, places=9),
    st.sampled_from(["market", "limit 99.50", "stop 105"]),
)
def test_accepted_orders_leave_buying_power_at_or_above_zero(cash: int, reserved: int, qty: Decimal, kind: str) -> None:
    """An account never reserves more than it has."""
    owner = Account(ACCOUNT, cash * CENT, min(cash, reserved) * CENT, sequence=1)
    accepted = refusal_of(f"buy {qty} AAPL {kind}", owner) is None
    assert accepted == (needed(f"buy {qty} AAPL {kind}", owner=owner) <= owner.buying_power)
