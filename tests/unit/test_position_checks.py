"""The checks of an order against the position and the account's other open orders."""

from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from shared.contracts.reasons import RejectReason
from shared.exchange.acceptance.entry import Admitted, admit
from shared.exchange.acceptance.pre_trade import Exposure, Instrument
from shared.exchange.order import Account, Leg, Order
from shared.exchange.refusal import Refusal
from tests.unit.trading_examples import ACCEPTED, INSTRUMENT, MARGIN, account, order, submission

RICH = account("100000", **MARGIN)
OTHER = UUID(int=7)


def answer_to(
    text: str,
    *opened: Order,
    held: str = "0",
    owner: Account = RICH,
    instrument: Instrument = INSTRUMENT,
    **fields: Any,
) -> Admitted | Refusal:
    """The answer where these orders are open already."""
    exposure = Exposure(held=Decimal(held), overdue=fields.pop("overdue", False))
    for each in opened:
        exposure = exposure.with_open(each, instrument)
    return admit(submission(text, **fields), instrument, owner, exposure, ACCEPTED)


def reason_of(text: str, *opened: Order, **known: Any) -> str | None:
    found = answer_to(text, *opened, **known)
    return found.reason if isinstance(found, Refusal) else None


def rests(text: str, closing: str = "0", **fields: Any) -> Order:
    reserved = Decimal(500 if "$" in text else 0)
    return order(text, 7, held_for_orders=Decimal(closing), reserved=reserved, **fields)


@pytest.mark.parametrize(
    ("resting", "text"),
    [
        ("sell 5 AAPL limit 105", "buy 5 AAPL limit 106"),
        ("sell 5 AAPL limit 105", "buy 5 AAPL limit 105"),
        ("sell 5 AAPL limit 105", "buy 5 AAPL market"),
        ("sell 5 AAPL limit 105", "buy $500 AAPL market"),
        ("sell 5 AAPL limit 105", "buy 5 AAPL market bracket 120/90"),
        ("buy 5 AAPL limit 95", "sell 5 AAPL limit 95"),
        ("buy 5 AAPL limit 95", "sell 5 AAPL limit 90"),
        ("buy 5 AAPL limit 95", "sell 5 AAPL market"),
        ("buy 5 AAPL limit 95 bracket 110/90", "sell 5 AAPL market"),
    ],
)
def test_an_order_that_would_meet_an_own_resting_one_is_refused(resting: str, text: str) -> None:
    """Alpaca names the other order (user protection). The account may turn the check off."""
    terms, _, exits = resting.partition(" bracket")
    other = rests(terms, "5" if "sell" in terms else "0", order_class="bracket" if exits else "simple")
    assert answer_to(text, other, held="10") == Refusal(
        RejectReason.WASH_TRADE,
        "potential wash trade detected. use complex orders",
        {"existing_order_id": str(OTHER), "reject_reason": "opposite side limit order exists"},
    )
    allowed = account("100000", allow_wash_trades=True, **MARGIN)
    assert reason_of(text, other, held="10", owner=allowed) is None


def test_the_best_of_the_resting_orders_counts() -> None:
    """Whichever came first."""
    near, far = rests("sell 5 AAPL limit 105", "5"), rests("sell 5 AAPL limit 120", "5")
    for opened in ((near, far), (far, near)):
        assert reason_of("buy 5 AAPL limit 110", *opened, held="10") == "wash_trade"
        assert reason_of("buy 5 AAPL limit 104", *opened, held="10") is None


@pytest.mark.parametrize(
    ("resting", "text"),
    [
        ("sell 5 AAPL limit 105", "buy 5 AAPL limit 104.99"),
        ("sell 5 AAPL limit 105", "buy 5 AAPL stop 110"),
        ("sell 5 AAPL limit 105", "sell 5 AAPL market"),
        ("sell 5 AAPL limit 105", "sell 5 AAPL limit 110 oco 110/90"),
        ("sell 5 AAPL stop 90", "buy 5 AAPL market"),
        ("sell 5 AAPL stop_limit 90 89", "buy 5 AAPL limit 95"),
        ("sell 5 AAPL trailing_stop 5", "buy 5 AAPL market"),
        ("sell 5 AAPL limit 99", "buy 5 AAPL market"),
        ("sell 5 AAPL market", "buy 5 AAPL market"),
    ],
)
def test_orders_that_do_not_meet_are_fine(resting: str, text: str) -> None:
    """Stops wait for another price, and orders at the market trade with the market."""
    assert reason_of(text, rests(resting, "5"), held="10") is None


def test_exits_are_the_complex_orders_that_may_rest_beside_any_other() -> None:
    """The profit of a bracket does not keep its owner from buying more, and an oco order may meet an open buy."""
    gain = rests("sell 5 AAPL limit 110", "5", order_class="bracket", leg=Leg.TAKE_PROFIT, order_group=OTHER)
    assert reason_of("buy 5 AAPL market", gain, held="5") is None
    assert reason_of("sell 5 AAPL limit 98 oco 98/90", rests("buy 5 AAPL limit 99"), held="5") is None


@pytest.mark.parametrize(
    ("resting", "text", "held", "reason"),
    [
        ("sell 5 AAPL limit 105", "buy 5 AAPL limit 95", "0", "opposite_order"),
        ("buy 5 AAPL limit 95", "sell 5 AAPL limit 105", "0", "opposite_order"),
        ("buy 5 AAPL limit 95", "sell 15 AAPL limit 105", "10", "opposite_order"),
        ("buy $500 AAPL market", "sell 15 AAPL limit 105", "10", "opposite_order"),
        ("buy 5 AAPL limit 95", "sell 10 AAPL limit 105", "10", None),
        ("buy 5 AAPL limit 95", "buy 5 AAPL limit 96", "0", None),
    ],
)
def test_open_orders_open_positions_on_one_side_only(resting: str, text: str, held: str, reason: str | None) -> None:
    """The one that fills second would close what the exits of the first hold (Alpaca refuses it, too)."""
    assert reason_of(text, rests(resting), held=held) == reason


@pytest.mark.parametrize(
    ("text", "held", "reason"),
    [
        ("buy 0.00004 AAPL market", "0", "order_too_small"),
        ("buy 0.0099 AAPL limit 100", "0", "order_too_small"),
        ("buy 0.01 AAPL limit 100", "0", None),
        ("buy 1 AAPL limit 0.9999", "0", "order_too_small"),
        ("buy 1 AAPL limit 1", "0", None),
        ("buy $1 AAPL market", "0", None),
        ("sell 0.009 AAPL market", "1", "order_too_small"),
        ("sell 0.009 AAPL market", "0.009", None),
        ("sell 0.000000001 AAPL market", "0.000000001", None),
        ("buy 0.009 AAPL market", "-0.009", None),
        ("sell 1 AAPL limit 0.5", "5", None),
        ("sell 1 AAPL limit 0.505", "5", "order_too_small"),
        ("sell 0.5 AAPL limit 0.5", "5", "order_too_small"),
        ("buy 1 AAPL limit 0.01", "0", None),
    ],
)
def test_an_order_is_worth_a_dollar_or_closes_all_that_is_left(text: str, held: str, reason: str | None) -> None:
    """It is in parts of a cent that rounding could pay, so whole shares at whole cents may cost less."""
    assert reason_of(text, held=held) == reason


@pytest.mark.parametrize(
    ("text", "intent", "held", "reason"),
    [
        ("buy 10 AAPL market", "buy_to_open", "0", None),
        ("buy 10 AAPL market", "buy_to_open", "5", None),
        ("buy 10 AAPL market", "buy_to_open", "-10", "position_intent"),
        ("buy 10 AAPL market", "buy_to_close", "0", "position_intent"),
        ("buy 10 AAPL market", "buy_to_close", "-10", None),
        ("buy 10 AAPL market", "buy_to_close", "-9", "insufficient_shares"),
        ("buy 10 AAPL market", "sell_to_open", "0", "position_intent"),
        ("sell 10 AAPL market", "sell_to_open", "0", None),
        ("sell 10 AAPL market", "sell_to_open", "3", "position_intent"),
        ("sell 10 AAPL market", "sell_to_close", "10", None),
        ("sell 10 AAPL market", "sell_to_close", "9", "insufficient_shares"),
        ("sell 10 AAPL market", "sell_to_close", "0", "position_intent"),
    ],
)
def test_the_intent_of_an_order_is_that_of_its_side_and_position(
    text: str, intent: str, held: str, reason: str | None
) -> None:
    """An order that is meant to close opens nothing."""
    assert reason_of(text, held=held, position_intent=intent) == reason


def test_exits_are_meant_to_close() -> None:
    """They have the intent that belongs to that of their entry."""
    found = answer_to("buy 10 AAPL market bracket 110/90", position_intent="buy_to_open")
    assert isinstance(found, Admitted)
    assert [each.position_intent for each in found.orders] == ["buy_to_open", "sell_to_close", "sell_to_close"]


def test_an_overdue_margin_call_leaves_only_closing_orders() -> None:
    """Nothing is opened again before the call has ended."""
    for text in ("buy 1 AAPL limit 1", "buy $5 AAPL market", "sell 11 AAPL market"):
        assert reason_of(text, held="10", overdue=True) == "under_margin_call"
    assert reason_of("sell 10 AAPL market", held="10", overdue=True) is None


LIMITS: list[dict[str, Any]] = [
    {"max_order_qty": "1"},
    {"max_order_notional": "10"},
    {"blocked_symbols": ["AAPL"]},
    {"allowed_symbols": ["IBM"]},
]


@pytest.mark.parametrize("limits", LIMITS)
def test_a_closing_order_passes_the_limits_on_size_and_symbol(limits: dict[str, Any]) -> None:
    """A position can always be closed, unless all trading is blocked."""
    owner = account("100000", limits=limits, **MARGIN)
    assert reason_of("sell 10 AAPL market", held="10", owner=owner) is None
    assert reason_of("buy 10 AAPL market", held="-10", owner=owner) is None
    assert reason_of("sell 10 AAPL limit 110 oco 110/90", held="10", owner=owner) is None
    assert reason_of("buy 10 AAPL market", owner=owner) is not None
    assert reason_of("sell 11 AAPL market", held="10", owner=owner) is not None
    blocked = account("100000", limits=limits, trading_blocked=True)
    assert reason_of("sell 10 AAPL market", held="10", owner=blocked) == "trading_blocked"


def test_open_notional_orders_count_towards_the_position() -> None:
    """Nine shares for 900 and nine more are over the limit of ten, at the market's price."""
    owner = account("100000", limits={"max_position_qty": "10"})
    resting = order("buy $900 AAPL market", 7, reserved=Decimal(900))
    assert reason_of("buy $900 AAPL market", owner=owner) is None
    assert reason_of("buy $900 AAPL market", resting, owner=owner) == "position_limit"
    assert reason_of("buy 1 AAPL limit 50", resting, owner=owner) is None
    assert reason_of("buy 2 AAPL limit 50", resting, owner=owner) == "position_limit"
    assert reason_of("buy $900 AAPL market", held="9", owner=owner) == "position_limit"


@pytest.mark.parametrize(
    ("text", "limits", "reason"),
    [
        ("buy $900 AAPL market", {"max_position_qty": "10"}, "no_price"),
        ("buy $900 AAPL market", {"max_order_notional": "10"}, "no_price"),
        ("buy 9 AAPL market", {"max_position_notional": "10"}, "no_price"),
        ("buy 9 AAPL market", {"max_position_qty": "10"}, None),
        ("buy 11 AAPL market", {"max_position_qty": "10"}, "position_limit"),
        ("buy $900 AAPL market", {"blocked_symbols": ["AAPL"]}, "symbol_blocked"),
        ("buy $900 AAPL market", {}, None),
    ],
)
def test_no_limit_is_passed_for_want_of_a_price(text: str, limits: dict[str, Any], reason: str | None) -> None:
    """A size that cannot be known yet is not taken for zero."""
    owner = account("100000", limits=limits)
    assert reason_of(text, owner=owner, instrument=Instrument(tradable=True)) == reason
