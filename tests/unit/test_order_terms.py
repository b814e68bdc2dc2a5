"""The terms of an order: valid combinations, and the error text for each invalid one."""

from decimal import Decimal
from itertools import product
from typing import Any

import pytest
from pydantic import ValidationError

from shared.contracts.accounts import AccountSettings, MoveCash, OpenAccount
from shared.contracts.orders import OrderClass, OrderType, SubmitOrders, TimeInForce
from tests.unit.trading_examples import ACCOUNT, submission

PRICES = {"market": "", "limit": "100", "stop": "100", "stop_limit": "100 101", "trailing_stop": "5"}
EXITS = {"simple": "", "bracket": "bracket 110/95", "oto": "oto /95", "oco": "oco 110/95"}


def expected(kind: str, tif: str, order_class: str) -> bool:
    """The rules again, in other words than the contract's."""
    if tif in {"ioc", "fok", "opg", "cls"} and (kind not in {"market", "limit"} or order_class != "simple"):
        return False
    return order_class != "oco" or kind == "limit"


@pytest.mark.parametrize(("kind", "tif", "order_class"), [*product(OrderType, TimeInForce, OrderClass)])
def test_every_type_class_and_time_in_force(kind: str, tif: str, order_class: str) -> None:
    """An order that must fill at once is simple and has no stop. An oco order must be a limit order."""
    limit = "110" if order_class == "oco" and kind == "limit" else PRICES[kind]
    text = " ".join(word for word in ("buy 10 AAPL", kind, limit, tif, EXITS[order_class]) if word)
    if order_class == "oco":
        text = text.replace("buy", "sell")
    if expected(kind, tif, order_class):
        asked = submission(text)
        assert (asked.type, asked.time_in_force, asked.order_class) == (kind, tif, order_class)
    else:
        with pytest.raises(ValidationError):
            submission(text)


@pytest.mark.parametrize(
    ("text", "fields", "says"),
    [
        ("buy 10 AAPL market", {"limit_price": "1"}, "limit_price cannot be set on a market order"),
        ("buy 10 AAPL limit", {}, "limit_price is required for a limit order"),
        ("buy 10 AAPL limit 9", {"stop_price": "1"}, "stop_price cannot be set on a limit order"),
        ("buy 10 AAPL stop", {}, "stop_price is required for a stop order"),
        ("buy 10 AAPL stop_limit 9", {}, "limit_price is required for a stop_limit order"),
        (
            "buy 10 AAPL trailing_stop 5",
            {"trail_percent": "1"},
            "trail_price or trail_percent is required for a trailing_stop order, but not both",
        ),
        (
            "buy 10 AAPL trailing_stop 5",
            {"trail_price": None},
            "trail_price or trail_percent is required for a trailing_stop order, but not both",
        ),
        ("buy 10 AAPL trailing_stop 100%", {}, "less than 100"),
        ("buy 10 AAPL market", {"qty": None}, "qty or notional is required, but not both"),
        ("buy 10 AAPL market", {"notional": "100"}, "qty or notional is required, but not both"),
        ("buy $100 AAPL limit 9", {}, "notional can be set only on a market order"),
        ("buy $0.99 AAPL market", {}, "greater than or equal to 1"),
        ("buy $100.001 AAPL market", {}, "no more than 2 decimal places"),
        ("buy 0.0000000001 AAPL market", {}, "no more than 9 decimal places"),
        ("buy 1000000001 AAPL market", {}, "less than or equal to"),
        ("buy 0.5 AAPL market gtc", {}, "fractional and notional orders must be day orders"),
        ("buy $100 AAPL market ioc", {}, "fractional and notional orders must be day orders"),
        ("buy 0.5 AAPL market opg", {}, "fractional and notional orders must be day orders"),
        ("buy $100 AAPL market cls", {}, "fractional and notional orders must be day orders"),
        ("buy 0.5 AAPL market day bracket 110/95", {}, "fractional and notional orders must be simple"),
        ("buy 1 AAPL stop 9 ioc", {}, "ioc orders must be market or limit orders"),
        ("buy 1 AAPL trailing_stop 9 cls", {}, "cls orders must be market or limit orders"),
        ("buy 1 AAPL limit 9 opg", {"extended_hours": True}, "only limit orders with time_in_force day or gtc"),
        ("buy 1 AAPL limit 9 fok bracket 110/95", {}, "bracket orders must be day or gtc"),
        ("buy 1 AAPL limit 9 ioc", {"extended_hours": True}, "only limit orders with time_in_force day or gtc"),
        ("buy 1 AAPL market day", {"extended_hours": True}, "only limit orders with time_in_force day"),
        (
            "buy 1 AAPL limit 9 day bracket 110/95",
            {"extended_hours": True},
            "only simple orders can trade in extended hours",
        ),
        ("buy 1 AAPL market", {"take_profit": {"limit_price": "9"}}, "neither take_profit nor stop_loss"),
        ("buy 1 AAPL market bracket /95", {}, "bracket orders take both take_profit and stop_loss"),
        ("buy 1 AAPL market oto 110/95", {}, "oto orders take either take_profit or stop_loss"),
        ("buy 1 AAPL market bracket 95/110", {}, "take_profit.limit_price must be above stop_loss.stop_price"),
        ("sell 1 AAPL market bracket 110/95", {}, "take_profit.limit_price must be below stop_loss.stop_price"),
        ("buy 1 AAPL market bracket 95/95", {}, "must be above"),
        ("sell 1 AAPL limit 95 oco 95/110", {}, "take_profit.limit_price must be above stop_loss.stop_price"),
        ("buy 1 AAPL limit 110 oco 110/95", {}, "take_profit.limit_price must be below stop_loss.stop_price"),
        ("sell 1 AAPL market oco 110/95", {}, "an oco order must be a limit order"),
        ("sell 1 AAPL limit 109 oco 110/95", {}, "must equal take_profit.limit_price on an oco order"),
    ],
)
def test_an_invalid_combination_of_terms_is_rejected_with_its_reason(
    text: str, fields: dict[str, Any], says: str
) -> None:
    """The text names the field, so that the sender knows what to change."""
    with pytest.raises(ValidationError, match=says):
        submission(text, **fields)


@pytest.mark.parametrize(
    "text",
    [
        "buy 0.000000001 AAPL limit 0.000000001",
        "sell $1 AAPL market",
        "buy 10 AAPL trailing_stop 99.9999%",
        "buy 10 AAPL market oto 110/",
        "sell 10 AAPL stop_limit 100 99 bracket 90/105:106",
        "buy 10 AAPL limit 90 oco 90/105",
    ],
)
def test_terms_at_their_bounds_are_accepted(text: str) -> None:
    """The smallest quantity, the widest trail, exits of either kind."""
    assert submission(text).symbol == "AAPL"


def test_a_command_carries_at_least_one_order_and_at_most_a_thousand() -> None:
    """An empty command asks for nothing, and an unbounded one would not fit into a message."""
    one = submission("buy 1 AAPL market")
    assert len(SubmitOrders(account_id=ACCOUNT, orders=(one,) * 1000).orders) == 1000
    for orders in ((), (one,) * 1001):
        with pytest.raises(ValidationError, match=r"at (least 1|most 1000) item"):
            SubmitOrders(account_id=ACCOUNT, orders=orders)


@pytest.mark.parametrize(
    "settings",
    [
        {"multiplier": 3},
        {"fills": {"fills_on": "tick"}},
        {"fills": {"participation": "0"}},
        {"fills": {"participation": "1.01"}},
        {"fills": {"latency": "-1"}},
        {"fills": {"commission": {"kind": "per_share", "rate": "-1"}}},
        {"fills": {"slippage": {"kind": "random"}}},
        {"limits": {"max_order_qty": "0"}},
        {"limits": {"price_collar": "1.5"}},
        {"limits": {"allowed_symbols": ["aapl"]}},
        {"strategies": {"mine": {}}},
        {"limit": {}},
    ],
)
def test_invalid_settings_are_rejected(settings: dict[str, object]) -> None:
    """A misspelt limit is rejected as well: otherwise it would silently have no effect."""
    with pytest.raises(ValidationError):
        AccountSettings.model_validate(settings)


def test_an_account_opens_with_the_safest_settings() -> None:
    """It cannot borrow or sell short, has no costs, and fills on the quote alone."""
    opened = OpenAccount(account_id=ACCOUNT, name="Demo", cash=Decimal(1)).settings
    assert (opened.multiplier, opened.shorting, opened.fills.fills_on) == (1, False, "bar")
    assert not any(limits.on_equity for limits in opened.all_limits)


def test_cash_moves_in_cents() -> None:
    """The ledger has two decimals."""
    with pytest.raises(ValidationError, match="decimal places"):
        MoveCash(account_id=ACCOUNT, transfer_id=ACCOUNT, amount=Decimal("0.001"))
