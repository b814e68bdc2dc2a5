"""Instruments over HTTP: found, added, imported, changed and retired, each with the operator's audit."""

from typing import Any

import pytest
from starlette.testclient import TestClient

from embedded.system import System
from services.marketdata.import_instruments import NotImported, import_all
from services.marketdata.instrument_sets import read_set
from services.marketdata.settings import INSTRUMENTS_FILE
from shared.contracts.instrument_lists import read_csv
from tests.component.http_trader import KEY, Trader, open_account, push
from tests.support import eventually, rows, value

NASDAQ = {"market": "XNAS", "currency": "USD", "asset_class": "us_equity"}


def add(client: TestClient, symbol: str, **terms: Any) -> Any:
    answer = client.post("/api/instruments", json={"symbol": symbol, "name": f"The {symbol}", **terms}, headers=KEY)
    assert answer.status_code == 201, answer.text
    return answer.json()


def refused(client: TestClient, symbol: str, **terms: Any) -> tuple[int, str, str]:
    answer = client.post("/api/instruments", json={"symbol": symbol, "name": "Name", **terms}, headers=KEY)
    problem = answer.json()
    return answer.status_code, problem.get("field"), problem["detail"]


def ask(client: TestClient, method: str, path: str, **options: Any) -> Any:
    return client.request(method, f"/api/instruments{path}", headers=KEY, **options)


def test_an_instrument_is_added_with_the_terms_of_its_market(market: System, visitor: TestClient) -> None:
    """The row is returned once marketdata has it, and the operator's action is recorded."""
    added = add(visitor, "spy", **NASDAQ)
    assert (added["symbol"], added["market"], added["exchange"], added["currency"]) == ("SPY", "XNAS", "XNAS", "USD")
    assert (added["tick_size"], added["tick_rule"], added["lot_size"]) == ("0.01", "sec_612", "1")
    assert (added["status"], added["tradable"], added["fractionable"], added["shortable"]) == ("active", *[True] * 3)
    assert (added["last"], added["quoted_at"], added["stale"], added["delayed"]) == (None, None, None, False)
    statement = "SELECT what FROM jobs.operator_actions WHERE subject = 'SPY'"
    assert [row.what for row in rows(market.contexts["gateway"].engine, statement)] == ["add_instrument"]


@pytest.mark.parametrize(
    ("symbol", "terms", "expected"),
    [
        ("BTC/USD", {}, ("crypto", "24/7", "USD", "0.000000001", "fixed", "0.000000001", True, False)),
        ("ETH/BTC", {}, ("crypto", "24/7", "BTC", "0.000000001", "fixed", "0.000000001", True, False)),
        ("USD/JPY", {}, ("currency_pair", "24/5", "JPY", "0.001", "fixed", "1", True, True)),
        ("SAP", {"market": "XETR"}, ("equity", "XETR", "EUR", "0.01", "fixed", "1", False, True)),
        ("7203.T", {"market": "XTKS", "lot_size": 100}, ("equity", "XTKS", "JPY", "0.1", "fixed", "100", False, True)),
        ("BRK.B", {"market": "XNYS"}, ("us_equity", "XNYS", "USD", "0.01", "sec_612", "1", True, True)),
    ],
)
def test_what_is_not_given_follows_from_symbol_and_market(
    visitor: TestClient, symbol: str, terms: dict[str, Any], expected: tuple[Any, ...]
) -> None:
    """The class of a pair is seen in its symbol."""
    row = add(visitor, symbol, **terms)
    names = ("asset_class", "market", "currency", "tick_size", "tick_rule", "lot_size", "fractionable", "shortable")
    assert tuple(row[name] for name in names) == expected


def test_an_instrument_without_a_name_is_named_as_its_symbol(visitor: TestClient) -> None:
    added = ask(visitor, "POST", "", json={"symbol": "NONAME", **NASDAQ})
    assert (added.status_code, added.json()["name"]) == (201, "NONAME")


@pytest.mark.parametrize("path", ["/XAB/USD", "/XAB%2FUSD", "/xab%2Fusd", "/Y.B", "/y.b"])
def test_a_symbol_with_a_slash_or_a_point_is_addressed_by_its_name(visitor: TestClient, path: str) -> None:
    """Reading, changing and retiring."""
    add(visitor, "XAB/USD")
    add(visitor, "Y.B", **NASDAQ)
    assert ask(visitor, "GET", path).status_code == 200
    assert ask(visitor, "PATCH", path, json={"name": "Other"}).json()["name"] == "Other"
    assert ask(visitor, "DELETE", path).json()["status"] == "retired"
    back = {"status": "active", "name": "The Y.B" if path[-1].lower() == "b" else "The XAB/USD"}
    assert ask(visitor, "PATCH", path, json=back).json()["tradable"] is True


@pytest.mark.parametrize(
    ("symbol", "terms", "field"),
    [
        ("NEW", {"market": "XXXX"}, "market"),
        ("NEW", {"market": "XNAS", "currency": "XYZ"}, "currency"),
        ("NEW", {"market": "XNAS", "currency": "usd"}, "currency"),
        ("NEW", {"market": "XNAS", "asset_class": "stock"}, "asset_class"),
        ("NEW", {"market": "XETR", "asset_class": "us_equity"}, "asset_class"),
        ("NEW", {"market": "XNYS", "asset_class": "equity"}, "asset_class"),
        ("NEW/USD", {"asset_class": "us_equity", "market": "XNAS"}, "asset_class"),
        ("NEW", {"asset_class": "crypto"}, "symbol"),
        ("NEW/XYZ", {"asset_class": "crypto"}, "symbol"),
        ("EUR/USD", {"asset_class": "crypto"}, "symbol"),
        ("EUR/EUR", {"asset_class": "currency_pair"}, "symbol"),
        ("BTC/USD", {"asset_class": "currency_pair"}, "symbol"),
        ("GBP/USD", {"currency": "EUR"}, "currency"),
        ("new symbol", {"market": "XNAS"}, "symbol"),
        ("A" * 17, {"market": "XNAS"}, "symbol"),
        ("BRK/B", {}, "symbol"),
        ("^GSPC", {}, "symbol"),
        ("NEW", {"market": "XNAS", "tick_size": "0"}, "tick_size"),
        ("NEW", {"market": "XNAS", "tick_size": "0.0000000001"}, "tick_size"),
        ("NEW", {"market": "XNAS", "lot_size": "-1"}, "lot_size"),
        ("NEW", {"market": "XNAS", "name": ""}, "name"),
        ("NEW", {"market": "XNAS", "colour": "red"}, "colour"),
    ],
)
def test_terms_that_do_not_fit_are_refused_by_their_field(
    visitor: TestClient, symbol: str, terms: dict[str, Any], field: str
) -> None:
    """Nothing is stored."""
    status, named, detail = refused(visitor, symbol, **terms)
    assert (status, named) == (422, field), detail
    assert ask(visitor, "GET", "", params={"q": "NEW"}).json()["items"] == []


def test_a_second_one_is_unchanged_if_equal_and_a_conflict_otherwise(visitor: TestClient) -> None:
    """The first one stays."""
    first = add(visitor, "TWICE", **NASDAQ)
    assert add(visitor, "TWICE", **NASDAQ) == first
    status, field, detail = refused(visitor, "TWICE", **{**NASDAQ, "market": "XNYS"})
    assert (status, field) == (409, "symbol")
    assert "exists with another market" in detail


def test_instruments_are_found_by_parts_of_symbol_and_name_in_pages(visitor: TestClient) -> None:
    """Filters may be combined. The percent sign is itself."""
    for number in range(3):
        add(visitor, f"PAGE{number}", **{**NASDAQ, "name": f"Hundred% number {number}"})
    assert [each["symbol"] for each in ask(visitor, "GET", "", params={"q": "d% n"}).json()["items"]] == [
        "PAGE0",
        "PAGE1",
        "PAGE2",
    ]
    first = ask(visitor, "GET", "", params={"q": "page", "limit": 2, "market": "XNAS"}).json()
    second = ask(visitor, "GET", "", params={"q": "page", "limit": 2, "cursor": first["next"]}).json()
    assert [each["symbol"] for page in (first, second) for each in page["items"]] == ["PAGE0", "PAGE1", "PAGE2"]
    assert second["next"] is None
    assert ask(visitor, "GET", "", params={"q": "page", "asset_class": "crypto"}).json()["items"] == []


def test_a_change_is_recorded_with_what_was_before(market: System, visitor: TestClient) -> None:
    """Symbol, currency and asset class cannot change."""
    add(visitor, "CHANGE", **NASDAQ)
    changed = ask(visitor, "PATCH", "/CHANGE", json={"name": "Changed", "shortable": False})
    assert (changed.json()["name"], changed.json()["shortable"]) == ("Changed", False)
    engine = market.contexts["gateway"].engine
    (row,) = rows(engine, "SELECT * FROM jobs.operator_actions WHERE what = 'change_instrument' AND subject = 'CHANGE'")
    assert (row.before, row.after) == (
        {"name": "The CHANGE", "shortable": True},
        {"name": "Changed", "shortable": False},
    )
    for body, field in (({"currency": "EUR"}, "currency"), ({}, "body"), ({"market": "XETR"}, "market")):
        answer = ask(visitor, "PATCH", "/CHANGE", json=body)
        assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert ask(visitor, "PATCH", "/NOBODY", json={"name": "x"}).status_code == 404
    assert ask(visitor, "DELETE", "/NOBODY").status_code == 404


def test_a_retired_instrument_takes_only_orders_that_close(trader: Trader) -> None:
    """Its price goes on, and it can be traded again."""
    client = trader.client
    add(client, "GONE", market="DEMO")
    push(trader.system, "100", "GONE")
    trader.filled("100", symbol="GONE")
    assert ask(client, "DELETE", "/GONE").json()["tradable"] is False
    assert ask(client, "DELETE", "/GONE").json()["status"] == "retired"
    order = {"symbol": "GONE", "qty": "1", "side": "buy", "type": "market", "time_in_force": "day"}
    assert trader.refused("POST", "/orders", json=order) == (422, "symbol GONE is not tradable")
    closing = trader.ask("DELETE", "/positions/GONE").json()
    answer = client.post("/api/prices", json={"prices": [{"symbol": "GONE", "last": "101"}]}, headers=KEY).json()
    assert len(answer["taken"]) == 1
    trader.awaited(closing["id"], "filled")
    status, field, detail = refused(client, "GONE", market="DEMO")
    assert (status, field) == (409, "symbol"), detail
    assert ask(client, "PATCH", "/GONE", json={"status": "active"}).json()["tradable"] is True


def test_the_pair_is_added_with_an_instrument_in_another_currency(market: System, visitor: TestClient) -> None:
    """For the dollar, and for each currency in which an account is kept."""
    add(visitor, "NESN", market="XSWX")
    assert ask(visitor, "GET", "/USD/CHF").json()["asset_class"] == "currency_pair"
    add(visitor, "AIR", market="XPAR")
    open_account(market, visitor, "5000", "EUR")
    add(visitor, "VOLV.B", market="XSTO")
    assert ask(visitor, "GET", "/USD/SEK").status_code == 200
    assert ask(visitor, "GET", "/EUR/SEK").status_code == 200


def test_an_account_in_a_new_currency_gets_the_pairs_that_it_needs(market: System, visitor: TestClient) -> None:
    """It can trade in dollars as soon as the pair has a price."""
    assert ask(visitor, "GET", "/USD/NOK").status_code == 404
    trader = open_account(market, visitor, "100000", "NOK")
    assert eventually(lambda: ask(visitor, "GET", "/USD/NOK").status_code == 200)
    prices = [{"symbol": "USD/NOK", "bid": "10", "ask": "10"}]
    visitor.post("/api/prices", json={"prices": prices}, headers=KEY)
    filled = trader.filled("100", symbol="AAPL", qty="1")
    assert filled["filled_avg_price"] == "100.01"
    assert trader.get("/account")["cash"] == "98999.9"


LIST = "symbol,name,market,lot_size,fractionable\nCSVA,A,XNAS,,\nCSVB,B,XTKS,100,no\n"


def imported(client: TestClient, text: str) -> Any:
    return ask(client, "POST", "/import", content=text.encode())


def test_a_list_is_imported_as_a_whole(visitor: TestClient) -> None:
    """Empty fields have their defaults, and the pair of a new currency is added. Again it changes nothing."""
    assert set(imported(visitor, LIST).json()["added"]) >= {"CSVA", "CSVB"}
    assert ask(visitor, "GET", "/CSVB").json()["lot_size"] == "100"
    assert imported(visitor, LIST).json() == {"added": [], "unchanged": 2, "validated": True}


@pytest.mark.parametrize(
    ("text", "status", "detail", "field"),
    [
        ("symbol,market\nCSVX,XNAS\nCSVY,XXXX\n", 422, "line 3, market: unknown market", "market"),
        ("symbol,market,currency\nCSVX,XNAS,USX\n", 422, "line 2, currency: is not an ISO 4217", "currency"),
        ("symbol,market\nCSVX,XNAS\nCSVX,XNAS\n", 422, "line 3, symbol: CSVX is also on line 2", "symbol"),
        ("symbol,market\nCSVX,XNAS,USD\n", 422, "line 2, row: has 3 fields", "row"),
        ("symbol,colour\nCSVX,red\n", 422, "line 1, header: 'colour' is not a column", "header"),
        ("symbol,tick_size\nCSVX,0\n", 422, "line 2, tick_size: ", "tick_size"),
        ("symbol,market\nCSVX,XNAS\nAAPL,XNAS\n", 409, "line 3, symbol: AAPL exists with another market", "symbol"),
        ("", 422, "line 1, header: must have the column symbol", "header"),
        ("symbol\n", 422, "line 1, row: the list has no instruments", "row"),
        ('symbol\n"CSVX\n', 422, "line 2, row: is not CSV", "row"),
    ],
)
def test_a_wrong_line_is_named_and_nothing_is_imported(
    market: System, visitor: TestClient, text: str, status: int, detail: str, field: str
) -> None:
    """Not even the lines before it."""
    answer = imported(visitor, text)
    assert (answer.status_code, answer.json()["field"]) == (status, field)
    assert answer.json()["detail"].startswith(detail)
    there = "SELECT count(*) FROM marketdata.instruments WHERE symbol LIKE 'CSVX%'"
    assert value(market.contexts["marketdata"].engine, there) == 0


def test_a_body_that_is_no_text_is_refused(visitor: TestClient) -> None:
    answer = ask(visitor, "POST", "/import", content=b"\xff\xfe")
    assert (answer.status_code, answer.json()["field"]) == (422, "body")


def test_every_set_can_be_imported_beside_the_demo(market: System) -> None:
    """An instrument of a set that exists stays as it is. A list's other terms are a mistake of its line."""
    context = market.contexts["marketdata"]
    for name in ("demo", "sp500-top", "crypto-major", "fx-major"):
        import_all(context, read_set(INSTRUMENTS_FILE, name))
    assert value(context.engine, "SELECT market FROM marketdata.instruments WHERE symbol = 'AAPL'") == "DEMO"
    assert value(context.engine, "SELECT count(*) FROM marketdata.instruments WHERE symbol = 'BRK.B'") == 1
    assert import_all(context, read_set(INSTRUMENTS_FILE, "sp500-top")) == []
    found = read_csv("symbol,market\nAAPL,XNAS\n")
    with pytest.raises(NotImported, match="line 2, symbol: AAPL exists with another market"):
        import_all(context, [given.terms() for _, given in found], [line for line, _ in found])
