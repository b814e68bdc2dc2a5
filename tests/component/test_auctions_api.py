"""Orders for the auctions over HTTP, and official prices: the official client's requests, and rejections."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from alpaca.trading.enums import OrderSide, TimeInForce
from alpaca.trading.models import Order
from alpaca.trading.requests import LimitOrderRequest, MarketOrderRequest
from starlette.testclient import TestClient

from embedded.system import System
from services.marketdata.domain.sessions import Session
from services.marketdata.persistence.sessions import replace_sessions
from shared.clock import utc_now
from tests.component.documented import DocumentedClient
from tests.component.http_trader import KEY, Trader, open_account, push
from tests.support import eventually

HOUR = timedelta(hours=1)
#: Whatever the clock says: a trading day has its own date.
TODAY = utc_now().date()
PRICE: dict[str, Any] = {"symbol": "aapl", "kind": "open", "day": str(TODAY), "price": "101.25"}


@pytest.fixture
def client(system: System) -> Iterator[TestClient]:
    with DocumentedClient(system.app()) as client:
        eventually(lambda: client.get("/v2/account", headers=KEY).status_code == 200)
        yield client


@pytest.fixture
def trader(system: System, client: TestClient) -> Iterator[Trader]:
    """Open an account. AAPL trades in New York, where the market opens in an hour for three hours."""
    push(system, "100")
    with system.contexts["marketdata"].engine.begin() as connection:
        connection.exec_driver_sql("UPDATE marketdata.instruments SET market = 'XNYS' WHERE symbol = 'AAPL'")
    trader = open_account(system, client)
    opens_at(trader, utc_now() + HOUR)
    yield trader
    assert trader.books_hold()


def opens_at(trader: Trader, at: datetime) -> None:
    """Make this day the only known trading day, with its open at this time."""
    session = Session("XNYS", TODAY, "regular", at, at + 3 * HOUR, early_close=False)
    with trader.system.contexts["marketdata"].engine.begin() as connection:
        replace_sessions(connection, ["XNYS"], TODAY - timedelta(9), TODAY + timedelta(9), [session])


def test_an_order_for_the_open_fills_at_the_official_price(trader: Trader) -> None:
    """The official client submits it. The exchange then opens earlier than announced."""
    terms: dict[str, Any] = {"symbol": "AAPL", "qty": 10, "side": OrderSide.BUY, "time_in_force": TimeInForce.OPG}
    market = Order(**trader.order(**MarketOrderRequest(**terms).to_request_fields()))
    away = Order(**trader.order(**LimitOrderRequest(**terms, limit_price=99.5).to_request_fields()))
    assert (market.status.value, market.time_in_force.value, away.time_in_force.value) == ("accepted", "opg", "opg")
    push(trader.system, "99")
    opens_at(trader, now := utc_now())
    entered = trader.ask("POST", "/api/official-prices", json={**PRICE, "held_at": now.isoformat()})
    assert (entered.status_code, entered.json()["known_at"]) == (202, None), entered.text
    filled = trader.awaited(str(market.id), "filled")
    assert (filled["filled_avg_price"], filled["filled_qty"]) == ("101.25", "10")
    assert trader.awaited(str(away.id), "canceled")["filled_qty"] == "0"
    (known,) = trader.ask("GET", "/api/official-prices?symbol=aapl&kind=open").json()["items"]
    assert (known["price"], known["day"], known["provider"]) == ("101.25", str(TODAY), "hand")
    assert known["known_at"] is not None
    (action,) = trader.ask("GET", "/api/actions?what=enter_official_price").json()["items"]
    assert action["subject"] == "AAPL"


@pytest.mark.parametrize(
    ("terms", "says"),
    [
        ({"time_in_force": "opg", "symbol": "IBM"}, "IBM has no auction: its market never closes"),
        ({"time_in_force": "cls", "order_class": "bracket"}, "bracket orders must be day or gtc"),
        ({"time_in_force": "opg", "type": "stop", "stop_price": "5"}, "opg orders must be market or limit orders"),
        ({"time_in_force": "opg", "qty": "1.5"}, "fractional and notional orders must be day orders"),
    ],
)
def test_an_auction_order_without_an_auction_is_rejected(trader: Trader, terms: dict[str, Any], says: str) -> None:
    """The result is a 422 with the reason, and no open order."""
    body = {"symbol": "AAPL", "qty": "10", "side": "buy", "type": "market", **terms}
    status, message = trader.refused("POST", "/orders", json=body)
    assert (status, says in message) == (422, True), message
    assert trader.get("/orders") == []


def test_close_to_the_auction_orders_are_neither_submitted_nor_canceled(trader: Trader) -> None:
    """The open moves to a minute from now, and the earlier order stays."""
    waiting = trader.order(time_in_force="opg")
    with trader.system.contexts["orders"].engine.begin() as connection:
        connection.exec_driver_sql("UPDATE orders.orders SET auction_at = %s", (utc_now() + timedelta(minutes=1),))
    opens_at(trader, utc_now() + timedelta(minutes=1))
    for method, path, body in (
        ("POST", "/orders", {"symbol": "AAPL", "qty": "1", "side": "buy", "type": "market", "time_in_force": "opg"}),
        ("PATCH", f"/orders/{waiting['id']}", {"qty": "11"}),
        ("DELETE", f"/orders/{waiting['id']}", None),
    ):
        status, message = trader.refused(method, path, json=body)
        assert (status, "opg orders " in message) == (422, True), message
    (each,) = trader.ask("DELETE", "/orders").json()
    assert (each["status"], each["body"]["code"], "opg orders " in each["body"]["message"]) == (422, 42210000, True)
    assert [order["id"] for order in trader.get("/orders")] == [waiting["id"]]


def test_an_official_price_is_entered_once_and_after_its_auction(trader: Trader) -> None:
    """A wrong field is named, and nothing is entered."""
    opens_at(trader, utc_now() - HOUR)
    for change, says in (
        ({"symbol": "NOPE"}, "symbol: "),
        ({"symbol": "IBM"}, "is not a trading day of IBM"),
        ({"day": "2026-02-30"}, "day: "),
        ({"day": "2001-01-01"}, "is not a trading day of AAPL"),
        ({"kind": "noon"}, "kind: "),
        ({"kind": "close"}, "the auction has not ended"),
        ({"held_at": (utc_now() + HOUR).isoformat()}, "the auction has not ended"),
        ({"price": "0"}, "price: "),
        ({"volume": "-1"}, "volume: "),
        ({"who": "me"}, "who: "),
    ):
        status, message = trader.refused("POST", "/api/official-prices", json={**PRICE, **change})
        assert (status, says in message) == (422, True), message
    assert trader.ask("GET", "/api/official-prices").json()["items"] == []
    assert trader.ask("POST", "/api/official-prices", json=PRICE).status_code == 202
    eventually(lambda: trader.ask("GET", f"/api/official-prices?day={TODAY}").json()["items"])
    assert "is already known" in trader.refused("POST", "/api/official-prices", json=PRICE)[1]


def test_an_official_price_from_the_time_of_a_halt_is_rejected(trader: Trader) -> None:
    """Trading was halted at the open, and is resumed now."""
    trader.ask("POST", "/api/halts", json={"symbol": "AAPL", "reason": "news pending"})
    opens_at(trader, utc_now())
    trader.ask("DELETE", "/api/halts/AAPL")
    eventually(lambda: not trader.ask("GET", "/api/halts?standing=true").json()["items"])
    assert trader.refused("POST", "/api/official-prices", json=PRICE) == (
        422,
        "held_at: trading of AAPL was halted at that time",
    )
    later = {**PRICE, "held_at": utc_now().isoformat()}
    assert trader.ask("POST", "/api/official-prices", json=later).status_code == 202
