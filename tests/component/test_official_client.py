"""alpaca-py itself against a real server: what its users call, and the errors that it parses."""

import logging
import socket
import threading
from collections.abc import Iterator
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import requests
from alpaca.common.exceptions import APIError
from alpaca.common.rest import RESTClient
from alpaca.trading.client import TradingClient
from alpaca.trading.enums import OrderSide, OrderStatus, TimeInForce
from alpaca.trading.models import FailedClosePositionDetails, Order, Watchlist
from alpaca.trading.requests import (
    CancelOrderResponse,
    CreateWatchlistRequest,
    GetOrdersRequest,
    LimitOrderRequest,
    MarketOrderRequest,
    UpdateWatchlistRequest,
)
from starlette.testclient import TestClient

from embedded.system import System
from services.gateway.serving import http_server
from tests.component.http_trader import Trader, open_account
from tests.support import eventually

BUY: dict[str, Any] = {"symbol": "AAPL", "qty": 1, "side": OrderSide.BUY, "time_in_force": TimeInForce.GTC}


@pytest.fixture(scope="module")
def url(market: System) -> Iterator[str]:
    """The base URL of a server as both entry points run it."""
    server = http_server(market.app(), shutdown_seconds=1)
    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=server.run, args=[[listening]])
        thread.start()
        eventually(lambda: server.started, what="the server's start")
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        server.should_exit = True
        thread.join()


@pytest.fixture
def trader(market: System, visitor: TestClient) -> Trader:
    return open_account(market, visitor)


@pytest.fixture
def client(trader: Trader, url: str) -> TradingClient:
    return TradingClient(*trader.key.values(), url_override=url)


def failed(error: pytest.ExceptionInfo[APIError]) -> tuple[int, int, str]:
    """The status, code and message as the client reads them."""
    return error.value.status_code or 0, error.value.code, error.value.message


def test_an_order_is_new_then_canceled_and_its_id_is_used_up(client: TradingClient) -> None:
    """The second submit is refused as Alpaca refuses it."""
    asked = LimitOrderRequest(**BUY, limit_price=50, client_order_id="mine")
    placed = client.submit_order(asked)
    assert isinstance(placed, Order)
    assert placed.status is OrderStatus.NEW
    (canceled,) = client.cancel_orders()
    assert isinstance(canceled, CancelOrderResponse)
    assert (canceled.id, canceled.status) == (placed.id, 200)
    with pytest.raises(APIError) as error:
        client.submit_order(asked)
    assert failed(error) == (422, 40010001, "client_order_id must be unique")
    with pytest.raises(APIError) as error:
        client.cancel_order_by_id(placed.id)
    assert failed(error) == (422, 42210000, 'order is already in "canceled" state')


def test_a_position_that_orders_hold_is_not_closed_and_its_figures_are_read(
    trader: Trader, client: TradingClient
) -> None:
    """Its model of the failure has four figures. With ``cancel_orders`` it closes."""
    trader.filled("100")
    client.submit_order(LimitOrderRequest(**{**BUY, "side": OrderSide.SELL, "qty": 4}, limit_price=150))
    (refused,) = client.close_all_positions()
    details = refused.body
    assert isinstance(details, FailedClosePositionDetails)
    assert (details.available, details.existing_qty, details.held_for_orders, details.symbol) == (6, 10, 4, "AAPL")
    (closing,) = client.close_all_positions(cancel_orders=True)
    assert closing.status == 200
    with pytest.raises(APIError) as error:
        client.get_open_position("IBM")
    assert failed(error) == (404, 40410000, "position does not exist")


def test_orders_are_listed_since_this_morning(client: TradingClient) -> None:
    """Its times may lack a zone: it takes them as UTC."""
    placed = client.submit_order(LimitOrderRequest(**BUY, limit_price=50))
    morning = datetime.now(ZoneInfo("America/New_York")).replace(hour=0, minute=0, second=0, microsecond=0)
    found = client.get_orders(GetOrdersRequest(after=morning, symbols=["AAPL", "IBM"], nested=True))
    assert found == [placed]
    assert client.get_clock().is_open


def test_a_watchlist_is_kept_by_the_client(client: TradingClient) -> None:
    """All seven calls that it has. Its models parse the assets, and the list of watchlists has none of them."""
    made = client.create_watchlist(CreateWatchlistRequest(name="Tech", symbols=["MSFT", "AAPL"]))
    assert isinstance(made, Watchlist)
    assert [asset.symbol for asset in made.assets or ()] == ["MSFT", "AAPL"]
    assert client.get_watchlist_by_id(made.id) == made
    assert client.get_watchlists() == [made.model_copy(update={"assets": None})]
    more = client.add_asset_to_watchlist_by_id(made.id, "IBM")
    less = client.remove_asset_from_watchlist_by_id(made.id, "MSFT")
    renamed = client.update_watchlist_by_id(made.id, UpdateWatchlistRequest(name="Other"))
    shown = [[asset.symbol for asset in each.assets or ()] for each in (more, less, renamed)]
    assert shown == [["MSFT", "AAPL", "IBM"], ["AAPL", "IBM"], ["AAPL", "IBM"]]
    with pytest.raises(APIError) as error:
        client.create_watchlist(CreateWatchlistRequest(name="Other", symbols=[]))
    assert failed(error) == (422, 40010001, "watchlist name must be unique")
    client.delete_watchlist_by_id(made.id)
    with pytest.raises(APIError) as error:
        client.get_watchlist_by_id(made.id)
    assert failed(error) == (404, 40410000, "watchlist not found")


def test_it_signs_in_with_basic_and_a_base_url_that_ends_with_a_slash(trader: Trader, url: str) -> None:
    """It joins the base URL and the path blindly."""
    key_id, secret = trader.key.values()
    client = RESTClient(f"{url}/", key_id, secret, use_basic_auth=True, api_version="v2")
    account = client.get("/account")
    assert isinstance(account, dict)
    assert account["id"] == str(trader.account_id)


def test_an_unknown_symbol_is_an_error_with_code_and_message(client: TradingClient) -> None:
    with pytest.raises(APIError) as error:
        client.submit_order(MarketOrderRequest(**{**BUY, "symbol": "NOSUCH"}))
    assert failed(error) == (422, 42210000, 'asset "NOSUCH" not found')


def test_a_handshake_for_a_missing_stream_is_logged_once(url: str, caplog: pytest.LogCaptureFixture) -> None:
    """Not twice more by the HTTP server each time, however often the client comes back."""
    headers = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Key": "x", "Sec-WebSocket-Version": "13"}
    with caplog.at_level(logging.WARNING):
        for _ in range(20):
            answer = requests.get(f"{url}/stream", headers=headers, timeout=10)
            assert (answer.status_code, answer.json()["code"]) == (404, 40410000)
    assert len(caplog.records) == 1
