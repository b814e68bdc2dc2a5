"""``/v2/positions`` and ``/v2/account`` of cash and margin accounts, long and short, and closing positions."""

from typing import Any
from uuid import UUID

import pytest
from alpaca.trading.models import ClosePositionResponse, Order, Position, TradeAccount
from alpaca.trading.requests import ClosePositionRequest
from starlette.testclient import TestClient

from embedded.system import System
from tests.component.http_trader import Trader, open_account, push
from tests.support import eventually

SHORT: dict[str, Any] = {"multiplier": 2, "shorting": True}


def positions(trader: Trader) -> dict[str, str]:
    return {row["symbol"]: row["qty"] for row in trader.get("/positions")}


def test_a_short_position_is_negative_and_gains_when_the_price_falls(market: System, visitor: TestClient) -> None:
    """The official client reads it: sold at 99.99, worth 90 now."""
    trader = open_account(market, visitor, **SHORT)
    trader.filled("100", side="sell")
    push(market, "90")
    eventually(lambda: trader.get("/positions/AAPL")["current_price"] == "90")
    found = trader.get("/positions/AAPL")
    position = Position(**found)
    assert (position.side.value, position.qty, position.qty_available) == ("short", "-10", "-10")
    assert (position.cost_basis, position.market_value, position.avg_entry_price) == ("-999.9", "-900", "99.99")
    assert (position.unrealized_pl, position.unrealized_plpc) == ("99.9", "0.09991")
    assert trader.get(f"/positions/{found['asset_id']}") == found
    assert trader.books_hold()


def test_buying_power_and_margin_of_a_margin_account(market: System, visitor: TestClient) -> None:
    """Twice its equity, less its long and short positions and its reserves."""
    trader = open_account(market, visitor, **SHORT)
    trader.filled("100", qty="100")
    trader.filled("200", qty="10", symbol="IBM", side="sell")
    shown = trader.get("/account")
    account = TradeAccount(**shown)
    assert (account.multiplier, account.shorting_enabled, account.trading_blocked) == ("2", True, False)
    assert (account.cash, account.equity) == ("91998.9", "99998.9")
    assert (account.long_market_value, account.short_market_value) == ("10000", "-2000")
    assert (account.initial_margin, account.maintenance_margin) == ("6000", "3100")
    assert (account.buying_power, account.non_marginable_buying_power) == ("187997.8", "87998.9")
    trader.order(type="limit", limit_price="50", time_in_force="gtc")
    assert trader.get("/account")["buying_power"] == "187497.8"
    trader.ask("DELETE", "/orders")


def test_a_cash_account_has_no_margin(trader: Trader) -> None:
    """Its buying power is its cash."""
    trader.filled("100")
    shown = trader.get("/account")
    assert (shown["multiplier"], shown["shorting_enabled"]) == ("1", False)
    assert (shown["initial_margin"], shown["maintenance_margin"]) == ("0", "0")
    assert shown["buying_power"] == shown["cash"] == "98999.9"


def test_a_position_is_closed_in_part_and_whole(trader: Trader) -> None:
    """By quantity, by percentage, and all of it, each with a day market order."""
    trader.filled("100", qty="10.5")
    for query, left in (({"qty": "2.25"}, "8.25"), ({"percentage": "33.333333333"}, "5.500000001"), ({}, None)):
        asked = ClosePositionRequest(**query).to_request_fields() if query else {}
        placed = Order(**trader.ask("DELETE", "/positions/aapl", params=asked).json())
        assert (placed.type, placed.side, placed.time_in_force) == ("market", "sell", "day")
        push(trader.system, "100")
        trader.awaited(str(placed.id), "filled")
        assert positions(trader).get("AAPL") == left
    assert trader.refused("DELETE", "/positions/AAPL") == (404, "position does not exist")
    assert trader.books_hold()


def test_a_short_position_is_bought_back_in_whole_shares(market: System, visitor: TestClient) -> None:
    """A percentage is rounded down to them."""
    trader = open_account(market, visitor, **SHORT)
    trader.filled("100", side="sell", qty="3")
    placed = trader.ask("DELETE", "/positions/AAPL", params={"percentage": "50"}).json()
    assert (placed["side"], placed["qty"]) == ("buy", "1")
    assert trader.get("/positions/AAPL")["qty_available"] == "-2"
    push(market, "100")
    trader.awaited(placed["id"], "filled")
    none = trader.refused("DELETE", "/positions/AAPL", params={"percentage": "49"})
    assert none == (422, "percentage: rounds down to a quantity of zero; send a larger one")


@pytest.mark.parametrize("settings", [{}, SHORT])
def test_no_more_than_the_position_is_closed(market: System, visitor: TestClient, settings: dict[str, Any]) -> None:
    """An order that closes never opens a position, even if the account may sell short."""
    trader = open_account(market, visitor, **settings)
    trader.filled("100")
    more = trader.refused("DELETE", "/positions/AAPL", params={"qty": "11"})
    assert more == (403, "insufficient qty available for order (requested: 11, available: 10)")
    resting = trader.order(side="sell", type="limit", limit_price="150", qty="4", time_in_force="gtc")
    assert trader.get("/positions/AAPL")["qty_available"] == "6"
    held_for_orders = trader.refused("DELETE", "/positions/AAPL")
    assert held_for_orders == (403, "insufficient qty available for order (requested: 10, available: 6)")
    assert trader.ask("DELETE", f"/orders/{resting['id']}").status_code == 204


def test_all_positions_are_closed_with_a_result_for_each(market: System, visitor: TestClient) -> None:
    """207 for long and short ones. A position that an open order holds is rejected by itself."""
    trader = open_account(market, visitor, **SHORT)
    trader.filled("100")
    trader.filled("200", symbol="IBM", side="sell")
    trader.order(side="sell", type="limit", limit_price="150", time_in_force="gtc")
    answer = trader.ask("DELETE", "/positions")
    assert answer.status_code == 207
    refused, closing = (ClosePositionResponse(**each) for each in answer.json())
    assert (refused.symbol, refused.status) == ("AAPL", 403)
    assert isinstance(closing.body, Order)
    assert (closing.symbol, closing.status, closing.body.side) == ("IBM", 200, "buy")
    push(market, "200", "IBM")
    trader.awaited(str(closing.body.id), "filled")
    (each,) = trader.ask("DELETE", "/positions", params={"cancel_orders": "true"}).json()
    assert (each["symbol"], each["status"]) == ("AAPL", 200)
    push(market, "100")
    eventually(lambda: positions(trader) == {})
    assert (trader.get("/orders"), trader.ask("DELETE", "/positions").json()) == ([], [])
    assert trader.books_hold()


def test_the_position_of_another_account_is_a_404(market: System, visitor: TestClient, trader: Trader) -> None:
    """By its symbol and by its asset id."""
    other = open_account(market, visitor)
    other.filled("100")
    asset_id = UUID(other.get("/positions/AAPL")["asset_id"])
    for name in ("AAPL", asset_id):
        assert trader.refused("DELETE", f"/positions/{name}")[0] == 404
