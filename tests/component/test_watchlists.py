"""Watchlists over HTTP: their shape, their bounds, and whose they are."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from starlette.testclient import TestClient

from embedded.system import System
from services.gateway.trading import watchlist_requests, watchlists_api
from services.marketdata.persistence.instruments import Instrument, add_instruments
from tests.component.http_trader import KEY, Trader, open_account
from tests.support import rows, value

LISTS, BY_NAME = "/watchlists", "/watchlists:by_name"
RSI = {"name": "rsi", "period": 14, "interval": "1h"}
INDICATORS = "SELECT symbol, interval, name, parameters FROM gateway.watchlist_indicators_v1 ORDER BY symbol, name"


def created(trader: Trader, name: str = "Tech", **fields: Any) -> Any:
    answer = trader.ask("POST", LISTS, json={"name": name, **fields})
    assert answer.status_code == 200, answer.text
    return answer.json()


def symbols(watchlist: Any) -> list[str]:
    return [asset["symbol"] for asset in watchlist["assets"]]


def test_a_watchlist_is_created_read_changed_and_removed_by_its_id(trader: Trader) -> None:
    """With its assets in the client's order, each once. The list of watchlists has no assets."""
    made = created(trader, symbols=["MSFT", "aapl", "MSFT"])
    assert (symbols(made), made["account_id"], made["name"]) == (["MSFT", "AAPL"], str(trader.account_id), "Tech")
    path = f"{LISTS}/{made['id']}"
    assert trader.get(path) == made
    asset = made["assets"][0]
    assert {name: asset[name] for name in ("class", "exchange", "status", "tradable")} == {
        "class": "us_equity", "exchange": "", "status": "active", "tradable": True,
    }  # fmt: skip
    (listed,) = trader.get(LISTS)
    assert listed == {name: made[name] for name in listed}
    assert "assets" not in listed
    assert symbols(trader.ask("POST", path, json={"symbol": "IBM"}).json()) == ["MSFT", "AAPL", "IBM"]
    assert symbols(trader.ask("POST", path, json={"symbol": asset["id"]}).json()) == ["MSFT", "AAPL", "IBM"]
    assert symbols(trader.ask("DELETE", f"{path}/aapl").json()) == ["MSFT", "IBM"]
    assert symbols(trader.ask("DELETE", f"{path}/{asset['id']}").json()) == ["IBM"]
    renamed = trader.ask("PUT", path, json={"name": "Old tech"}).json()
    assert (renamed["name"], symbols(renamed), renamed["created_at"]) == ("Old tech", ["IBM"], made["created_at"])
    assert renamed["updated_at"] > made["updated_at"]
    assert symbols(trader.ask("PUT", path, json={"symbols": ["AAPL"], "name": None}).json()) == ["AAPL"]
    assert (trader.ask("DELETE", path).status_code, trader.get(LISTS)) == (204, [])
    assert trader.refused("GET", path) == (404, "watchlist not found")


def test_a_watchlist_is_addressed_by_its_name(trader: Trader) -> None:
    """The name may have blanks. A new name takes the place of the old one."""
    made = created(trader, "My list", symbols=None)
    named = {"name": "My list"}
    assert trader.get(BY_NAME, **named) == made == {**made, "assets": [], "indicators": []}
    assert symbols(trader.ask("POST", BY_NAME, params=named, json={"symbol": "IBM"}).json()) == ["IBM"]
    changed = trader.ask("PUT", BY_NAME, params=named, json={"name": "Other", "symbols": ["AAPL"]}).json()
    assert (changed["id"], symbols(changed)) == (made["id"], ["AAPL"])
    for method, body in (("GET", None), ("PUT", {"symbols": []}), ("POST", {"symbol": "IBM"}), ("DELETE", None)):
        assert trader.refused(method, BY_NAME, params=named, json=body) == (404, "watchlist not found")
    assert trader.ask("DELETE", BY_NAME, params={"name": "Other"}).status_code == 204
    assert trader.get(LISTS) == []


def test_wrong_fields_are_refused_and_nothing_changes(trader: Trader) -> None:
    """With Alpaca's codes for a name that is taken and an unknown asset."""
    made = created(trader, symbols=["AAPL"])
    path = f"{LISTS}/{made['id']}"
    created(trader, "Second")
    for method, where, body, message in (
        ("POST", LISTS, {"name": "Tech"}, "watchlist name must be unique"),
        ("PUT", path, {"name": "Second"}, "watchlist name must be unique"),
        ("POST", LISTS, {"name": "New", "symbols": ["AAPL", "NOSUCH"]}, "asset not found: NOSUCH"),
        ("POST", path, {"symbol": "NOSUCH"}, "asset not found: NOSUCH"),
    ):
        answer = trader.ask(method, where, json=body)
        assert (answer.status_code, answer.json()) == (422, {"code": 40010001, "message": message})
    wrong: list[tuple[str, str, Any, str]] = [
        ("POST", LISTS, {"name": "x" * 65}, "name"),
        ("POST", LISTS, {"name": ""}, "name"),
        ("POST", LISTS, {"name": "New", "symbols": ["AAPL"] * 501}, "symbols"),
        ("POST", LISTS, {"name": "New", "indicators": [RSI] * 21}, "indicators"),
        ("POST", LISTS, {"name": "New", "indicators": [{"name": "rsi", "period": 101}]}, "period"),
        ("POST", LISTS, {"name": "New", "indicators": [{"name": "obv", "period": 5}]}, "period"),
        ("PUT", path, {}, "body"),
        ("GET", BY_NAME, None, "name"),
    ]
    for method, where, sent, field in wrong:
        status, message = trader.refused(method, where, json=sent)
        assert (status, field in message) == (422, True), message
    assert trader.refused("DELETE", f"{path}/IBM") == (404, "IBM is not on the watchlist")
    assert trader.get(path) == made
    assert [each["name"] for each in trader.get(LISTS)] == ["Tech", "Second"]


def test_indicators_are_named_for_each_symbol(trader: Trader, market: System) -> None:
    """With all their parameters, each once. They end with the list, its symbol or their name."""
    made = created(trader, symbols=["AAPL", "IBM"], indicators=[RSI, {"name": "RSI".lower(), "interval": "1h"}])
    assert made["indicators"] == [RSI]
    engine = market.contexts["marketdata"].engine
    hourly = ("1h", "rsi", {"period": "14"})
    assert [tuple(each) for each in rows(engine, INDICATORS)] == [("AAPL", *hourly), ("IBM", *hourly)]
    path = f"{LISTS}/{made['id']}"
    trader.ask("DELETE", f"{path}/IBM")
    changed = trader.ask("PUT", path, json={"indicators": [*made["indicators"], {"name": "bollinger"}]}).json()
    assert changed["indicators"][1] == {"name": "bollinger", "interval": "1d", "period": 20, "deviations": "2"}
    assert trader.ask("PUT", path, json={"indicators": changed["indicators"]}).json()["indicators"][0] == RSI
    daily = ("1d", "bollinger", {"period": "20", "deviations": "2"})
    assert [tuple(each) for each in rows(engine, INDICATORS)] == [("AAPL", *daily), ("AAPL", *hourly)]
    trader.ask("DELETE", path)
    assert rows(engine, INDICATORS) == []


def test_an_account_has_a_bounded_number_of_lists_symbols_and_indicators(
    trader: Trader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many requests come at once."""
    assert (watchlist_requests.MOST_WATCHLISTS, watchlist_requests.MOST_SYMBOLS) == (200, 500)
    for name, most in (("MOST_WATCHLISTS", 3), ("MOST_SYMBOLS", 2), ("MOST_COMPUTED", 3)):
        monkeypatch.setattr(watchlists_api, name, most)
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda n: trader.ask("POST", LISTS, json={"name": f"{n}"}), range(6)))
    assert sorted(answer.status_code for answer in answers) == [200] * 3 + [422] * 3
    first, second, _ = (f"{LISTS}/{each['id']}" for each in trader.get(LISTS))
    trader.ask("PUT", first, json={"symbols": ["AAPL", "IBM"], "indicators": [RSI]})
    assert trader.refused("POST", first, json={"symbol": "MSFT"})[0] == 422
    assert trader.ask("PUT", second, json={"symbols": ["AAPL"], "indicators": [RSI]}).status_code == 200
    status, message = trader.refused("POST", second, json={"symbol": "MSFT"})
    assert (status, message.partition(":")[0]) == (422, "indicators")
    assert symbols(trader.get(second)) == ["AAPL"]


def test_a_watchlist_is_its_account_s_alone_and_goes_with_it(
    trader: Trader, market: System, visitor: TestClient
) -> None:
    """Another account can neither see nor change it, and may use its name."""
    owner = open_account(market, visitor)
    path = f"{LISTS}/{created(owner)['id']}"
    for method, body in (("GET", None), ("PUT", {"name": "Mine"}), ("POST", {"symbol": "IBM"}), ("DELETE", None)):
        assert trader.refused(method, path, json=body) == (404, "watchlist not found")
    assert (trader.refused("GET", BY_NAME, params={"name": "Tech"})[0], trader.get(LISTS)) == (404, [])
    created(trader)
    assert visitor.delete(f"/api/accounts/{owner.account_id}", headers=KEY).status_code == 204
    count = "SELECT count(*) FROM gateway.watchlists WHERE account_id = :owner"
    assert value(market.contexts["gateway"].engine, count, owner=owner.account_id) == 0


def test_a_pair_is_an_asset_with_a_slash_in_the_path(trader: Trader, market: System) -> None:
    """A crypto asset has the exchange that Alpaca's clients know."""
    with market.contexts["marketdata"].engine.begin() as connection:
        add_instruments(connection, [Instrument("BTC/USD", "Bitcoin", "24/7", "crypto")])
    made = created(trader, symbols=["btc/usd", "IBM"])
    asset = made["assets"][0]
    assert (asset["symbol"], asset["class"], asset["exchange"]) == ("BTC/USD", "crypto", "CRYPTO")
    assert symbols(trader.ask("DELETE", f"{LISTS}/{made['id']}/BTC/USD").json()) == ["IBM"]
