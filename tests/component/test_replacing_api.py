"""``PATCH /v2/orders/{order_id}``: the new order, the rejections, and the race against a fill."""

from typing import Any
from uuid import uuid4

import pytest
from alpaca.trading.enums import TimeInForce
from alpaca.trading.models import Order
from alpaca.trading.requests import ReplaceOrderRequest
from starlette.testclient import TestClient

from embedded.system import System
from services.gateway.trading import commands
from tests.component.http_trader import Trader, open_account, push
from tests.support import eventually, value

RESTING: dict[str, Any] = {"type": "limit", "limit_price": "50", "time_in_force": "gtc"}


def changed(trader: Trader, order_id: str, **changes: Any) -> Any:
    answer = trader.ask("PATCH", f"/orders/{order_id}", json=changes)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_the_old_order_names_the_new_one(trader: Trader) -> None:
    """The official client sends it. The reserve is that of the new terms."""
    old = trader.order(**RESTING)
    asked = ReplaceOrderRequest(qty=20, time_in_force=TimeInForce.DAY, limit_price=60.5, client_order_id="second")
    new = Order(**trader.ask("PATCH", f"/orders/{old['id']}", json=asked.to_request_fields()).json())
    assert (new.status.value, new.qty, new.limit_price, new.time_in_force.value) == ("new", "20", "60.5", "day")
    assert (new.client_order_id, str(new.replaces)) == ("second", old["id"])
    ended = Order(**trader.get(f"/orders/{old['id']}"))
    assert (ended.status.value, ended.replaced_by, ended.replaced_at is None) == ("replaced", new.id, False)
    assert [order["id"] for order in trader.get("/orders")] == [str(new.id)]
    assert trader.get("/account")["buying_power"] == "98790"


@pytest.mark.parametrize(
    ("terms", "changes", "shown"),
    [
        ({"type": "stop", "stop_price": "150"}, {"stop_price": "151"}, {"stop_price": "151", "qty": "10"}),
        ({"type": "trailing_stop", "trail_price": "3"}, {"trail": "4"}, {"trail_price": "4", "trail_percent": None}),
        ({"type": "trailing_stop", "trail_percent": "3"}, {"trail": "4"}, {"trail_price": None, "trail_percent": "4"}),
        (
            {"type": "stop_limit", "stop_price": "150", "limit_price": "151"},
            {"limit_price": "152"},
            {"stop_price": "150", "limit_price": "152"},
        ),
    ],
)
def test_each_type_is_replaced_by_its_own_terms(
    trader: Trader, terms: dict[str, Any], changes: dict[str, Any], shown: dict[str, Any]
) -> None:
    """Terms that the request leaves out stay."""
    new = changed(trader, trader.order(**terms)["id"], **changes)
    assert {name: new[name] for name in shown} == shown


def test_an_exit_is_replaced_inside_its_bracket(trader: Trader) -> None:
    """The new exit is a leg of the entry, and the old one is listed by itself."""
    placed = trader.order(order_class="bracket", take_profit={"limit_price": "120"}, stop_loss={"stop_price": "90"})
    old, stop = placed["legs"]
    new = changed(trader, old["id"], limit_price="121")
    nested = trader.get(f"/orders/{placed['id']}", nested="true")
    assert [leg["id"] for leg in nested["legs"]] == [new["id"], stop["id"]]
    assert (new["status"], new["limit_price"], new["order_class"]) == ("held", "121", "bracket")
    (alone,) = trader.get("/orders", nested="true", status="closed")
    assert (alone["id"], alone["status"], alone["legs"]) == (old["id"], "replaced", None)


@pytest.mark.parametrize(
    ("changes", "status", "why"),
    [
        ({}, 422, "send at least one of"),
        ({"side": "sell"}, 422, "side: is not supported"),
        ({"qty": "0"}, 422, "qty: "),
        ({"limit_price": "1.00001"}, 422, "invalid limit_price 1.00001. sub-penny increment"),
        ({"time_in_force": "gtd"}, 422, "time_in_force: "),
        ({"time_in_force": "opg"}, 422, "AAPL has no auction: its market never closes"),
        ({"client_order_id": ""}, 422, "client_order_id: "),
        ({"stop_price": "150"}, 422, "stop_price cannot be set on a limit order"),
        ({"trail": "1"}, 422, "trail cannot be set on a limit order"),
        ({"qty": "1.5"}, 422, "fractional"),
        ({"client_order_id": "taken"}, 422, "client_order_id must be unique"),
        ({"qty": "3000"}, 403, "insufficient buying power (needed: 150000, available: 99500)"),
    ],
)
def test_a_rejected_replacement_leaves_the_order_unchanged(
    trader: Trader, changes: dict[str, Any], status: int, why: str
) -> None:
    """The error has the reason, and the old order stays open."""
    trader.order(**RESTING, client_order_id="taken")
    old = trader.order(**RESTING)
    answered, message = trader.refused("PATCH", f"/orders/{old['id']}", json=changes)
    assert (answered, why in message) == (status, True), message
    assert trader.get(f"/orders/{old['id']}") == old


def test_the_order_of_another_account_is_a_404(market: System, visitor: TestClient, trader: Trader) -> None:
    """An unknown order is a 404, too."""
    other = open_account(market, visitor).order(**RESTING)
    for order_id in (other["id"], uuid4()):
        assert trader.refused("PATCH", f"/orders/{order_id}", json={"qty": "1"})[0] == 404


def test_an_order_that_ended_is_not_replaceable(trader: Trader) -> None:
    """The message has its status."""
    old = trader.order(**RESTING)
    changed(trader, old["id"], qty="11")
    answer = trader.refused("PATCH", f"/orders/{old['id']}", json={"qty": "12"})
    assert answer == (422, "order is not replaceable: it is replaced")


def test_a_fill_that_comes_first_wins(trader: Trader, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes between the gateway's check and the command. The replacement is rejected, and no order is open."""
    old = trader.order(**RESTING)
    look, orders = commands.replaceable, trader.system.contexts["orders"].engine
    filled = "SELECT count(*) FROM orders.orders WHERE id = :id AND status = 'filled'"

    def look_too_early(row: Any) -> Any:
        push(trader.system, "49")
        eventually(lambda: value(orders, filled, id=old["id"]))
        return look(row)

    monkeypatch.setattr(commands, "replaceable", look_too_early)
    answer = trader.refused("PATCH", f"/orders/{old['id']}", json={"limit_price": "51"})
    assert answer == (422, "the order is filled")
    assert trader.get("/orders") == []


def test_a_replacement_after_a_partial_fill_is_for_the_rest(market: System, visitor: TestClient) -> None:
    """The new quantity is the whole one, and the new order has what has not filled."""
    trader = open_account(market, visitor, fills={"participation": "0.05"})
    old = trader.order(**RESTING, qty="20")
    push(market, "49")
    partly = trader.awaited(old["id"], "partially_filled")
    assert partly["filled_qty"] == "5"
    new = changed(trader, old["id"], qty="30", limit_price="40")
    assert (new["qty"], new["filled_qty"]) == ("25", "0")
    assert trader.get("/positions/AAPL")["qty"] == "5"
    assert trader.ask("DELETE", f"/orders/{new['id']}").status_code == 204


def test_a_replacement_without_an_answer_in_time_is_pending(trader: Trader) -> None:
    """The result is the old order as pending_replace. The new one follows."""
    old = trader.order(**RESTING)
    with trader.unanswered():
        assert changed(trader, old["id"], qty="11") == {**old, "status": "pending_replace"}
    ended = trader.awaited(old["id"], "replaced")
    assert trader.get(f"/orders/{ended['replaced_by']}")["qty"] == "11"
