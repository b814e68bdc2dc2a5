"""Accounts in a currency of their choice, and instruments in another one, over HTTP."""

from decimal import Decimal
from typing import Any

import pytest
from alpaca.trading.models import Order, Position, TradeAccount
from starlette.testclient import TestClient

from embedded.system import System
from services.marketdata.persistence.instruments import Instrument, add_instruments
from tests.component.http_trader import KEY, Trader, open_account, push
from tests.support import eventually

PAIR: dict[str, Any] = {"symbol": "EUR/USD", "qty": "100", "time_in_force": "gtc"}


@pytest.fixture(scope="module", autouse=True)
def instruments(market: System) -> None:
    """SAP in euros at 100, which cost 1.11 dollars and bring 1.09, and Sony in yen, without a rate."""
    with market.contexts["marketdata"].engine.begin() as connection:
        add_instruments(
            connection,
            [
                Instrument("SAP", "SAP", currency="EUR"),
                Instrument("SONY", "Sony", currency="JPY"),
                Instrument("EUR/USD", "Euro", currency="USD"),
            ],
        )
    for symbol, last in (("EUR/USD", "1.10"), ("SAP", "100"), ("SONY", "3000")):
        push(market, last, symbol)


def test_an_account_is_opened_in_its_currency(market: System, visitor: TestClient) -> None:
    """Dollars are the default. The response, the list and the official client show the currency."""
    asked = {"name": "Konto", "cash": "5000", "currency": "EUR"}
    opened = visitor.post("/api/accounts", json=asked, headers=KEY).json()
    assert opened["currency"] == "EUR"
    trader = open_account(market, visitor, "5000", "EUR")
    assert TradeAccount(**trader.get("/account")).currency == "EUR"
    listed = visitor.get("/api/accounts", headers=KEY, params={"limit": 1}).json()["items"]
    assert [each["currency"] for each in listed] == ["EUR"]
    assert open_account(market, visitor).get("/account")["currency"] == "USD"


def test_a_foreign_position_is_valued_in_the_account_s_currency(trader: Trader) -> None:
    """Its price is in euros beside the rate, and the account's amounts are in dollars."""
    filled = trader.filled("100", symbol="SAP")
    assert (Order(**filled).filled_avg_price, filled["currency"]) == ("100.01", "EUR")
    push(trader.system, "1.20", "EUR/USD")
    found = trader.get("/positions/SAP")
    position = Position(**found)
    assert (position.cost_basis, position.market_value, position.unrealized_pl) == ("1110.12", "1200", "89.88")
    assert (position.current_price, position.swap_rate, found["currency"]) == ("100", "1.2", "EUR")
    account = trader.get("/account")
    assert (account["cash"], account["equity"]) == ("98889.88", "100089.88")
    assert (account["long_market_value"], account["unrealized_pl"]) == ("1200", "89.88")
    push(trader.system, "1.10", "EUR/USD")


def test_a_report_names_the_currency_of_each_amount(trader: Trader) -> None:
    """The price of a share in euros, its value in dollars, and the same on the page and in the CSV."""
    trader.filled("100", symbol="SAP")
    found = trader.ask("GET", "/api/account/report").json()
    held = {each["symbol"]: each for each in found["allocation"]}
    assert (held["SAP"]["price"], held["SAP"]["currency"], held["SAP"]["value"]) == ("100", "EUR", "1100")
    assert sum(Decimal(each["value"]) for each in found["allocation"]) == Decimal(found["end_equity"])
    assert (found["currency"], found["trades"][0]["currency"]) == ("USD", "EUR")
    shown = trader.ask("GET", "/api/account/report", params={"format": "html"}).text
    assert ("100 EUR" in shown, "1,100.00 USD" in shown) == (True, True)
    line = trader.ask("GET", "/api/account/trades.csv").text.splitlines()[1].split(",")
    assert (line[7], line[-1]) == ("EUR", "USD")


def test_a_domestic_position_has_a_rate_of_one(trader: Trader) -> None:
    """It has the account's currency."""
    trader.filled("100")
    found = trader.get("/positions/AAPL")
    assert (found["currency"], found["swap_rate"], found["market_value"]) == ("USD", "1", "1000")


def test_an_order_without_an_exchange_rate_is_a_403(trader: Trader) -> None:
    """Another account, or this one later, could place it."""
    order = {"symbol": "SONY", "qty": "1", "side": "buy", "type": "market", "time_in_force": "gtc"}
    refused = trader.refused("POST", "/orders", json=order)
    assert refused == (403, "SONY trades in JPY, for which there is no exchange rate in USD yet")


@pytest.mark.parametrize("name", ["EUR%2FUSD", "EUR/USD", "eur%2Fusd"])
def test_a_pair_is_traded_by_its_name(trader: Trader, name: str) -> None:
    """In a path its slash may be percent-encoded."""
    trader.filled("1.10", **PAIR)
    assert trader.get("/orders", status="all", symbols="EUR/USD")[0]["symbol"] == "EUR/USD"
    found = trader.get(f"/positions/{name}")
    assert (found["symbol"], found["qty"], found["cost_basis"]) == ("EUR/USD", "100", "111")
    closing = trader.ask("DELETE", f"/positions/{name}").json()
    assert (closing["symbol"], closing["side"]) == ("EUR/USD", "sell")
    push(trader.system, "1.10", "EUR/USD")
    trader.awaited(closing["id"], "filled")
    assert trader.refused("GET", f"/positions/{name}") == (404, "position does not exist")
    assert trader.get("/positions/") == []  # no symbol at all


def test_the_value_of_a_position_without_a_rate_is_null(trader: Trader) -> None:
    """The account's value leaves it out, and nothing fails."""
    trader.filled("100", symbol="SAP")
    engine = trader.system.contexts["marketdata"].engine
    with engine.begin() as connection:
        connection.exec_driver_sql("UPDATE marketdata.instruments SET last_price = NULL WHERE symbol = 'EUR/USD'")
    found = trader.get("/positions/SAP")
    assert (found["market_value"], found["unrealized_plpc"], found["swap_rate"]) == (None, None, None)
    account = trader.get("/account")
    assert account["equity"] == account["cash"]
    push(trader.system, "1.10", "EUR/USD")
    assert eventually(lambda: trader.get("/positions/SAP")["market_value"]) == "1100"
