"""``/api/account/trades``: one row for each completed order, over HTTP and through all services."""

from typing import Any
from uuid import UUID, uuid4

import pytest
from starlette.testclient import TestClient

from embedded.system import System
from tests.component.http_trader import Trader, open_account, push
from tests.support import eventually, order, send

PATH = "/api/account/trades"


def trades(trader: Trader, count: int, **query: Any) -> list[Any]:
    """Return the trades once there are as many: an order is filled a moment before it is read."""

    def there() -> list[Any] | None:
        found: list[Any] = trader.get(PATH, **query)["items"]
        return found if len(found) == count else None

    return eventually(there, what=f"{count} trades") or []


def test_each_completed_order_is_a_trade(trader: Trader) -> None:
    """An order that opens a position realizes nothing, one that closes it its profit. Resting orders are no trades."""
    bought = trader.filled("100")
    sold = trader.filled("101", side="sell", qty="4")
    trader.order(type="limit", limit_price="50")
    closing, opening = trades(trader, 2)
    assert {name: opening[name] for name in ("order_id", "symbol", "side", "qty", "avg_price", "currency")} == {
        "order_id": bought["id"],
        "symbol": "AAPL",
        "side": "buy",
        "qty": "10",
        "avg_price": "100.01",
        "currency": "USD",
    }
    assert (opening["realized_pl"], opening["fees"], opening["generation"]) == (None, "0", 1)
    assert (opening["strategy_id"], opening["submitted_at"]) == (None, bought["submitted_at"])
    assert opening["submitted_at"] <= opening["first_fill_at"] <= opening["completed_at"]
    assert (closing["order_id"], closing["qty"], closing["realized_pl"]) == (sold["id"], "4", "3.92")


def test_a_canceled_order_is_a_trade_only_if_it_has_filled_in_part(market: System, visitor: TestClient) -> None:
    """Its quantity is the one that filled, and it is completed when it is canceled."""
    trader = open_account(market, visitor, fills={"participation": "0.05"})
    resting = {"type": "limit", "limit_price": "50", "time_in_force": "gtc", "qty": "20"}
    partly = trader.order(**resting)
    push(market, "49")
    trader.awaited(partly["id"], "partially_filled")
    unfilled = trader.order(**{**resting, "limit_price": "10"})
    assert trader.get(PATH)["items"] == []
    for each in (partly, unfilled):
        assert trader.ask("DELETE", f"/orders/{each['id']}").status_code == 204
    canceled_at = trader.get(f"/orders/{partly['id']}")["canceled_at"]
    (trade,) = trades(trader, 1)
    assert (trade["order_id"], trade["qty"], trade["completed_at"]) == (partly["id"], "5", canceled_at)


def test_trades_are_paged_from_the_last_completed(trader: Trader) -> None:
    """By the cursor of the page before."""
    filled = [trader.filled("100", qty=qty)["id"] for qty in ("1", "2", "3")]
    trades(trader, 3)
    first = trader.get(PATH, limit=2)
    second = trader.get(PATH, limit=2, cursor=first["next"])
    assert [each["order_id"] for each in first["items"] + second["items"]] == filled[::-1]
    assert second["next"] is None


def test_trades_are_filtered(trader: Trader) -> None:
    """By symbol, side, strategy, generation and the time of completion."""
    trader.filled("100")
    trader.filled("101", side="sell")
    strategy_id = uuid4()
    command = order(trader.account_id, symbol="IBM", strategy_id=strategy_id)
    send(trader.system.contexts["gateway"], command)
    eventually(lambda: trader.ask("GET", f"/orders/{command.order_id}").status_code == 200, what="the order is known")
    push(trader.system, "200", "IBM")
    ibm, sold, bought = trades(trader, 3)
    for query, expected in (
        ({"symbol": "IBM"}, [ibm]),
        ({"side": "sell"}, [sold]),
        ({"side": "buy", "symbol": "AAPL"}, [bought]),
        ({"strategy": str(strategy_id)}, [ibm]),
        ({"from": sold["completed_at"]}, [ibm, sold]),
        ({"to": sold["completed_at"]}, [bought]),
        ({"generation": 1}, [ibm, sold, bought]),
        ({"generation": 2}, []),
    ):
        assert trader.get(PATH, **query)["items"] == expected, query
    assert UUID(ibm["strategy_id"]) == strategy_id


def test_the_trades_of_another_account_are_not_listed(market: System, visitor: TestClient, trader: Trader) -> None:
    """Each key reads its own account."""
    trader.filled("100")
    trades(trader, 1)
    assert open_account(market, visitor).get(PATH)["items"] == []


@pytest.mark.parametrize(
    ("query", "field"),
    [("side=long", "side"), ("generation=0", "generation"), ("strategy=x", "strategy"), ("who=me", "who")],
)
def test_a_wrong_filter_is_named(trader: Trader, query: str, field: str) -> None:
    """A 422 with the field."""
    answer = trader.ask("GET", f"{PATH}?{query}")
    assert (answer.status_code, answer.json()["field"]) == (422, field)
