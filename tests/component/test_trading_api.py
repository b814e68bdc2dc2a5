"""``/v2/orders`` with every type, class and time in force: submitted, shown, rejected and repeated."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from alpaca.trading.enums import OrderSide, TimeInForce
from alpaca.trading.models import Order
from alpaca.trading.requests import (
    LimitOrderRequest,
    MarketOrderRequest,
    OrderRequest,
    StopLimitOrderRequest,
    StopLossRequest,
    StopOrderRequest,
    TakeProfitRequest,
    TrailingStopOrderRequest,
)
from starlette.testclient import TestClient

from embedded.system import System
from tests.component.http_trader import ORDER, Trader, open_account, push
from tests.support import eventually

COMMON: dict[str, Any] = {"symbol": "AAPL", "side": OrderSide.BUY, "time_in_force": TimeInForce.DAY}
STOP = {"stop_price": "90"}
RESTING: dict[str, Any] = {"type": "limit", "limit_price": "50", "time_in_force": "gtc"}
BRACKET: dict[str, Any] = {
    "order_class": "bracket",
    "take_profit": {"limit_price": "120"},
    "stop_loss": {"stop_price": "90", "limit_price": "89.5"},
}
OCO: dict[str, Any] = {
    "side": "sell",
    "type": "limit",
    "order_class": "oco",
    "take_profit": {"limit_price": "120"},
    "stop_loss": STOP,
}


@pytest.mark.parametrize(
    "request_",
    [
        MarketOrderRequest(**COMMON, notional=250.5),
        MarketOrderRequest(**COMMON, qty=1.5),
        LimitOrderRequest(**COMMON, qty=1, limit_price=50.25, extended_hours=True),
        LimitOrderRequest(**{**COMMON, "time_in_force": TimeInForce.GTC}, qty=1, limit_price=50.25),
        StopOrderRequest(**COMMON, qty=1, stop_price=150),
        StopLimitOrderRequest(**COMMON, qty=1, stop_price=150, limit_price=151),
        TrailingStopOrderRequest(**COMMON, qty=1, trail_percent=2.5),
        TrailingStopOrderRequest(**COMMON, qty=1, trail_price=3),
    ],
    ids=lambda request_: f"{request_.type.value}-{request_.time_in_force.value}",
)
def test_the_official_client_s_requests_round_trip_through_its_models(trader: Trader, request_: OrderRequest) -> None:
    """alpaca-py's request bodies of each type. The response has every term as it was sent."""
    asked = request_.to_request_fields()
    answer = trader.ask("POST", "/orders", json=asked).json()
    placed = Order(**answer)
    assert (placed.status.value, placed.order_class.value) == ("new", "simple")
    assert placed == Order(**trader.get(f"/orders/{placed.id}"))
    for name in ("qty", "notional", "limit_price", "stop_price", "trail_price", "trail_percent"):
        if name == "stop_price" and asked["type"] == "trailing_stop":
            continue  # it follows the best price
        shown, wanted = answer[name], asked.get(name)
        assert (shown if shown is None else float(shown)) == wanted
    assert placed.extended_hours is bool(asked.get("extended_hours"))


@pytest.mark.parametrize("time_in_force", ["ioc", "fok"])
def test_an_ioc_or_fok_order_ends_with_the_next_price(trader: Trader, time_in_force: str) -> None:
    """It fills, or is canceled if the price is beyond its limit."""
    asked = trader.order(type="limit", limit_price="50", time_in_force=time_in_force)
    push(trader.system, "100")
    trader.awaited(asked["id"], "canceled")
    assert trader.filled("100", time_in_force=time_in_force)["filled_qty"] == "10"


def test_a_notional_order_fills_for_its_amount(trader: Trader) -> None:
    """It has only a filled quantity: 250 at 100.01."""
    order = trader.filled("100", notional="250")
    assert (order["notional"], order["qty"], order["filled_qty"]) == ("250", None, "2.499750024")


def test_a_bracket_is_listed_nested_or_flat(trader: Trader) -> None:
    """Its exits are held until the entry has filled. Nested they are its legs, flat they stand beside it."""
    placed = Order(**trader.order(**BRACKET))
    assert placed.legs is not None
    assert [(leg.type.value, leg.status.value, leg.limit_price, leg.stop_price) for leg in placed.legs if leg.type] == [
        ("limit", "held", "120", None),
        ("stop_limit", "held", "89.5", "90"),
    ]
    flat = trader.get("/orders")
    assert {order["status"] for order in flat} == {"new", "held"}
    assert [order["legs"] for order in flat] == [None] * 3
    (nested,) = trader.get("/orders", nested="true")
    assert nested == trader.get(f"/orders/{placed.id}", nested="true")
    assert [leg["id"] for leg in nested["legs"]] == [str(leg.id) for leg in placed.legs]
    push(trader.system, "100")
    trader.awaited(nested["legs"][0]["id"], "new")
    (still_open,) = trader.get("/orders", nested="true")
    assert (still_open["status"], [leg["status"] for leg in still_open["legs"]]) == ("filled", ["new"] * 2)
    assert trader.get("/orders", nested="true", status="closed") == []


def test_the_exit_that_fills_cancels_the_other(trader: Trader) -> None:
    """An oco order, whose limit price stands in its take_profit alone: one of the two fills."""
    trader.filled("100")
    placed = trader.order(**OCO)
    assert (placed["limit_price"], placed["order_class"]) == ("120", "oco")
    (stop,) = placed["legs"]
    assert (stop["type"], stop["stop_price"], stop["status"]) == ("stop", "90", "new")
    push(trader.system, "89")
    trader.awaited(stop["id"], "filled")
    trader.awaited(placed["id"], "canceled")
    assert trader.get("/positions") == []
    (ended,) = [order for order in trader.get("/orders", nested="true", status="closed") if order["legs"]]
    assert (ended["id"], ended["legs"][0]["id"]) == (placed["id"], stop["id"])
    push(trader.system, "100")  # other tests' exits lie on either side of it


def test_an_oto_order_has_one_exit(trader: Trader) -> None:
    """The official client sends its prices as floats."""
    take_profit = TakeProfitRequest(limit_price=120.5)
    asked = MarketOrderRequest(**COMMON, qty=1, order_class="oto", take_profit=take_profit)
    (leg,) = trader.ask("POST", "/orders", json=asked.to_request_fields()).json()["legs"]
    assert (leg["side"], leg["limit_price"], leg["status"]) == ("sell", "120.5", "held")


def test_the_official_client_s_bracket_is_understood(trader: Trader) -> None:
    """Both exits come from its own request models."""
    exits = {"take_profit": TakeProfitRequest(limit_price=120), "stop_loss": StopLossRequest(stop_price=90)}
    asked = MarketOrderRequest(**COMMON, qty=1, order_class="bracket", **exits)
    placed = Order(**trader.ask("POST", "/orders", json=asked.to_request_fields()).json())
    assert [leg.type.value for leg in placed.legs or [] if leg.type] == ["limit", "stop"]


def test_canceling_an_entry_cancels_its_exits(trader: Trader) -> None:
    """All end together, and each has a result."""
    trader.order(**BRACKET)
    answers = trader.ask("DELETE", "/orders").json()
    assert [(each["status"], each["body"]["status"]) for each in answers] == [(200, "canceled")] * 3
    assert trader.get("/orders") == []


DUPLICATE = {"code": 40010001, "message": "client_order_id must be unique"}


@pytest.mark.parametrize("ends", ["open", "filled", "canceled"])
@pytest.mark.parametrize(
    "terms", [RESTING, {"type": "market", "notional": "100"}, BRACKET], ids=["limit", "notional", "bracket"]
)
def test_a_client_order_id_is_used_once_whatever_became_of_the_order(
    trader: Trader, terms: dict[str, Any], ends: str
) -> None:
    """The same order is refused, and another one, too (Alpaca: 422, 40010001)."""
    first = trader.order(**terms, client_order_id="mine")
    if ends == "filled":
        push(trader.system, "49")
        trader.awaited(first["id"], "filled")
        push(trader.system, "100")
    elif ends == "canceled":
        assert trader.ask("DELETE", f"/orders/{first['id']}").status_code == 204
    for changed in ({}, {"symbol": "IBM"}):
        given = {**ORDER, **terms, **changed, "client_order_id": "mine"}
        if "notional" in terms:
            del given["qty"]
        again = trader.ask("POST", "/orders", json=given)
        assert (again.status_code, again.json()) == (422, DUPLICATE)
    assert trader.get("/orders:by_client_order_id", client_order_id="mine")["id"] == first["id"]


def test_the_client_order_id_of_a_rejected_order_is_free(trader: Trader) -> None:
    """A rejected order was never placed, as at Alpaca."""
    assert trader.refused("POST", "/orders", json={**ORDER, "qty": "5000", "client_order_id": "mine"})[0] == 403
    assert trader.order(**RESTING, client_order_id="mine")["client_order_id"] == "mine"


def test_concurrent_orders_with_one_client_order_id_are_one_order(trader: Trader) -> None:
    """All but one are refused, also one that looked before the order was stored."""
    body = {**ORDER, **RESTING, "client_order_id": "mine"}
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: trader.ask("POST", "/orders", json=body), range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] + [422] * 7
    assert [answer.json() for answer in answers if answer.status_code == 422] == [DUPLICATE] * 7
    assert len(trader.get("/orders")) == 1


@pytest.mark.parametrize(
    ("settings", "terms", "status", "why"),
    [
        ({"trading_blocked": True}, {}, 403, "trading is blocked"),
        ({"limits": {"blocked_symbols": ["AAPL"]}}, {}, 403, "AAPL are blocked"),
        ({"limits": {"allowed_symbols": ["IBM"]}}, {}, 403, "not among the allowed"),
        ({"limits": {"max_order_qty": "9"}}, {}, 403, "order quantity 10"),
        ({"limits": {"max_order_notional": "1000"}}, RESTING | {"qty": "21"}, 403, "order value 1050"),
        ({"limits": {"max_position_qty": "9"}}, {}, 403, "position 10"),
        ({"limits": {"price_collar": "0.1"}}, RESTING, 403, "away from the last price"),
        ({}, {"side": "sell"}, 403, "available: 0"),
        ({}, {"qty": "2000"}, 403, "insufficient buying power"),
        ({}, OCO, 403, "an oco order can only close"),
        ({"shorting": True}, {"side": "sell", "qty": "1.5"}, 422, "whole shares"),
    ],
)
def test_a_rejection_by_the_account_is_a_403_and_any_other_a_422(
    market: System, visitor: TestClient, settings: dict[str, Any], terms: dict[str, Any], status: int, why: str
) -> None:
    """The message is that of the rejection."""
    trader = open_account(market, visitor, **settings)
    given = {"symbol": "AAPL", "qty": "10", "side": "buy", "type": "market", "time_in_force": "day", **terms}
    answered, message = trader.refused("POST", "/orders", json=given)
    assert (answered, why in message) == (status, True), message


def test_more_orders_than_the_account_s_limit_per_minute_are_a_403(market: System, visitor: TestClient) -> None:
    """It is the account's limit, not the API's, so clients do not retry it."""
    trader = open_account(market, visitor, limits={"orders_per_minute": 1})
    placed = trader.order(**RESTING)
    again = trader.refused("POST", "/orders", json={"symbol": "AAPL", "qty": "10", "side": "buy", **RESTING})
    assert again == (403, "more than 1 orders in a minute: wait, then submit again")
    assert trader.ask("DELETE", f"/orders/{placed['id']}").status_code == 204


def test_an_order_without_an_answer_shows_all_its_terms(trader: Trader) -> None:
    """It is pending_new, and then what it became."""
    with trader.unanswered():
        placed = trader.order(type="trailing_stop", trail_percent="2.5", order_class="oto", stop_loss=STOP)
        bought = trader.order(notional="99.5")
    assert {key: placed[key] for key in ("status", "trail_percent", "order_class", "qty", "legs")} == {
        "status": "pending_new",
        "trail_percent": "2.5",
        "order_class": "oto",
        "qty": "10",
        "legs": None,
    }
    assert (bought["status"], bought["notional"], bought["qty"]) == ("pending_new", "99.5", None)
    eventually(lambda: trader.get(f"/orders/{placed['id']}", nested="true")["legs"])
    trader.awaited(bought["id"], "new")
