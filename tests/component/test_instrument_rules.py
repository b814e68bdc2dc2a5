"""The rules of instruments where orders come in: ticks, lots, fractions, short sales, and nine decimals."""

from decimal import Decimal
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.component.http_trader import KEY, Trader, open_account
from tests.support import rows

LIMIT: dict[str, Any] = {"side": "buy", "type": "limit", "time_in_force": "day"}


def add(client: TestClient, symbol: str, last: str, **terms: Any) -> None:
    """Add an instrument that trades at all hours, with a price."""
    asked = {"symbol": symbol, "name": symbol, "market": "DEMO", **terms}
    assert client.post("/api/instruments", json=asked, headers=KEY).status_code == 201
    push(client, symbol, last, last)


def push(client: TestClient, symbol: str, bid: str, ask: str) -> None:
    price = {"symbol": symbol, "bid": bid, "ask": ask, "bid_size": "100", "ask_size": "100"}
    answer = client.post("/api/prices", json={"prices": [price]}, headers=KEY).json()
    assert answer["refused"] == []


def test_an_order_of_nine_decimals_fills_with_exact_books(trader: Trader) -> None:
    """Quantity, price, fee and cash, for a buy that rests and the sale of a part."""
    settings: dict[str, Any] = {"fills": {"commission": {"kind": "percent", "rate": "0.1", "minimum": "0"}}}
    owner = open_account(trader.system, trader.client, "100000", **settings)
    add(trader.client, "BTC/USD", "64000.123456790", market="24/7")
    terms = {**LIMIT, "symbol": "BTC/USD", "qty": "0.123456789", "limit_price": "64000.123456789"}
    order = owner.order(**{**terms, "time_in_force": "gtc"})
    push(trader.client, "BTC/USD", "64000.123456788", "64000.123456789")
    filled = owner.awaited(order["id"], "filled")
    assert (filled["filled_qty"], filled["limit_price"]) == ("0.123456789", "64000.123456789")
    engine = trader.system.contexts["orders"].engine
    (fill,) = rows(engine, "SELECT * FROM orders.fills WHERE order_id = :id", id=order["id"])
    assert (fill.qty, fill.price) == (Decimal("0.123456789"), Decimal("64000.123456789"))
    assert (fill.amount, fill.fee) == (Decimal("7901.25"), Decimal("7.91"))  # 7901.24973…, rounded against the trader
    assert owner.get("/account")["cash"] == "92090.84"
    sold = owner.order(symbol="BTC/USD", side="sell", qty="0.023456789", type="market", time_in_force="ioc")
    push(trader.client, "BTC/USD", "64000.000000001", "64000.000000002")
    assert owner.awaited(sold["id"], "filled")["filled_qty"] == "0.023456789"
    assert owner.get("/positions/BTC%2FUSD")["qty"] == "0.1"
    assert owner.books_hold()


@pytest.mark.parametrize(
    ("symbol", "order", "message"),
    [
        ("TICK", {"limit_price": "10.01"}, "invalid limit_price 10.01: must be a multiple of 0.05"),
        ("LOT", {"limit_price": "10", "qty": "150"}, "qty: must be a multiple of 100, the lot of LOT"),
        ("LOT", {"notional": "500"}, "notional: LOT is traded in lots of 100; send qty"),
        ("LONG", {"side": "sell", "limit_price": "10", "qty": "1"}, "LONG cannot be sold short"),
    ],
)
def test_an_order_that_breaks_a_rule_of_its_instrument_is_rejected(
    trader: Trader, symbol: str, order: dict[str, Any], message: str
) -> None:
    """The message says what the rule is."""
    client = trader.client
    add(client, "TICK", "10", tick_size="0.05")
    add(client, "LOT", "10", lot_size="100", fractionable=False)
    add(client, "LONG", "10", shortable=False)
    owner = open_account(trader.system, client, shorting=True, multiplier=2)
    terms = {**LIMIT, "symbol": symbol, "qty": "1", **order}
    if "notional" in order:
        terms = {"symbol": symbol, "side": "buy", "type": "market", "time_in_force": "day", **order}
    status, told = owner.refused("POST", "/orders", json=terms)
    assert (status, told[: len(message)]) == (422, message)


def test_what_is_left_of_a_lot_can_be_sold(trader: Trader) -> None:
    """A split may leave a part of a lot."""
    client = trader.client
    add(client, "REST", "10", lot_size="1", fractionable=False)
    order = trader.order(symbol="REST", qty="150")
    push(client, "REST", "9.99", "10.01")
    push(client, "REST", "9.99", "10.02")
    trader.awaited(order["id"], "filled")
    changed = client.patch("/api/instruments/REST", json={"lot_size": "100"}, headers=KEY)
    assert changed.json()["lot_size"] == "100"
    part = {"symbol": "REST", "side": "sell", "type": "market", "time_in_force": "day", "qty": "50"}
    assert trader.refused("POST", "/orders", json=part)[0] == 422
    assert trader.order(**{**part, "qty": "150"})["status"] != "rejected"
