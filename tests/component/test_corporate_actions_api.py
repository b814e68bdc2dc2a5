"""Splits and dividends over HTTP, through all services."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from starlette.testclient import TestClient

from embedded.system import System
from services.gateway.trading.symbol_changes import follow
from tests.component.http_trader import KEY, ORDER, push
from tests.support import eventually, rows

SPLIT = {"symbol": "aapl", "kind": "split", "ratio": "4", "effective_at": "2026-01-02T14:30:00Z"}


@pytest.fixture
def client(system: System) -> Iterator[TestClient]:
    with TestClient(system.app(), headers=KEY) as client:
        eventually(lambda: client.get("/v2/account").status_code == 200)
        yield client


def test_an_entered_dividend_is_paid(system: System, client: TestClient) -> None:
    """Its holder gets it to the cent, it is listed as applied, and the operator is recorded."""
    client.post("/v2/orders", json=ORDER)
    push(system, "100")
    eventually(lambda: client.get("/v2/positions").json())
    cash = client.get("/v2/account").json()["cash"]
    body = {"symbol": "AAPL", "kind": "dividend", "amount": "0.5", "effective_at": now_of(system)}
    entered = client.post("/api/corporate-actions", json=body)
    assert entered.status_code == 202, entered.text
    eventually(lambda: client.get("/v2/account").json()["cash"] != cash)
    assert float(client.get("/v2/account").json()["cash"]) == float(cash) + 0.5 * float(ORDER["qty"])
    (item,) = client.get("/api/corporate-actions?symbol=aapl").json()["items"]
    assert (item["id"], item["applied_at"] is not None) == (entered.json()["id"], True)
    (action,) = client.get("/api/actions?what=enter_corporate_action").json()["items"]
    assert (action["who"], action["subject"]) == ("TESTKEY", "AAPL")


def test_a_dividend_is_listed_as_owed_until_it_is_paid(system: System, client: TestClient) -> None:
    """From its ex-date on, to those who held the shares then."""
    client.post("/v2/orders", json=ORDER)
    push(system, "100")
    eventually(lambda: client.get("/v2/positions").json())
    pay_at = (system.contexts["gateway"].clock() + timedelta(days=14)).isoformat()
    body = {"symbol": "AAPL", "kind": "dividend", "amount": "0.5", "effective_at": now_of(system), "pay_at": pay_at}
    entered = client.post("/api/corporate-actions", json=body)
    assert entered.status_code == 202, entered.text
    (owed,) = eventually(lambda: client.get("/api/account/dividends?paid=false").json()["items"])
    assert (owed["action_id"], owed["amount"], owed["cash"], owed["paid_at"]) == (
        entered.json()["id"],
        "0.5",
        None,
        None,
    )
    assert float(owed["qty"]) == float(ORDER["qty"])
    assert client.get("/api/account/dividends?symbol=AAPL&paid=true").json()["items"] == []


def test_a_preview_shows_positions_cash_and_orders_and_enters_nothing(system: System, client: TestClient) -> None:
    """A split 3 for 2 of a position, of an order, and of the price. An unknown symbol is refused."""
    client.post("/v2/orders", json=ORDER)
    push(system, "100")
    eventually(lambda: client.get("/v2/positions").json())
    resting = client.post("/v2/orders", json={**ORDER, "type": "limit", "limit_price": "90"}).json()
    body = {"symbol": "aapl", "kind": "split", "new_shares": 3, "old_shares": 2, "effective_at": now_of(system)}
    answer = client.post("/api/corporate-actions/preview", json=body)
    assert answer.status_code == 200, answer.text
    shown = answer.json()
    assert (shown["price_before"], shown["left_out"]) == ("100", 0)
    assert float(shown["price_after"]) == pytest.approx(66.666666667)
    (account,) = shown["accounts"]
    assert (account["qty_before"], account["qty_after"], account["cash"]) == ("10", "15", "0")
    assert account["cost_before"] == account["cost_after"]
    (order,) = account["orders"]
    assert (order["id"], order["before"]["qty"], order["after"]["qty"]) == (resting["id"], "10", "15")
    assert (order["before"]["limit_price"], order["after"]["limit_price"]) == ("90", "60")
    assert client.get("/api/corporate-actions").json()["items"] == []
    assert client.post("/api/corporate-actions/preview", json={**body, "symbol": "NOPE"}).status_code == 422


def now_of(system: System) -> str:
    return system.contexts["gateway"].clock().isoformat()


def test_a_repeated_action_id_is_entered_once(system: System, client: TestClient) -> None:
    """The split is counted once."""
    body = {**SPLIT, "action_id": "7d444840-9dc0-11d1-b245-5ffdce74fad2"}
    for _ in range(2):
        assert client.post("/api/corporate-actions", json=body).status_code == 202
    eventually(lambda: client.get("/api/corporate-actions").json()["items"])
    found = rows(
        system.contexts["marketdata"].engine, "SELECT split_count FROM marketdata.instruments WHERE symbol = 'AAPL'"
    )
    assert [row.split_count for row in found] == [1]
    assert len(client.get("/api/corporate-actions").json()["items"]) == 1


@pytest.mark.parametrize(
    ("sent", "shares", "ratio"),
    [
        ({"new_shares": 1, "old_shares": 3}, (1, 3), "0.333333333"),
        ({"ratio": "0.333333333"}, (1, 3), "0.333333333"),
        ({"ratio": "0.142857142"}, (1, 7), "0.142857142"),
        ({"ratio": "1.05"}, (21, 20), "1.05"),
        ({"new_shares": 21, "old_shares": 20, "ratio": "1.05"}, (21, 20), "1.05"),
    ],
)
def test_a_split_is_two_whole_numbers(
    client: TestClient, sent: dict[str, Any], shares: tuple[int, int], ratio: str
) -> None:
    """A ratio with nine decimals stands for two small ones, and both are shown."""
    body = {"symbol": "AAPL", "kind": "split", "effective_at": SPLIT["effective_at"], **sent}
    entered = client.post("/api/corporate-actions", json=body)
    assert entered.status_code == 202, entered.text
    (item,) = eventually(lambda: client.get("/api/corporate-actions").json()["items"])
    for shown in (entered.json(), item):
        assert (shown["new_shares"], shown["old_shares"], shown["ratio"]) == (*shares, ratio)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"symbol": "NOPE"}, "symbol"),
        ({"ratio": "0"}, "ratio"),
        ({"ratio": None}, "ratio"),
        ({"ratio": "0.3333"}, "new_shares and old_shares: send both"),
        ({"ratio": None, "new_shares": 4}, "ratio"),
        ({"new_shares": 1, "old_shares": 4}, "ratio: is not new_shares / old_shares"),
        ({"ratio": None, "new_shares": 0, "old_shares": 4}, "new_shares"),
        ({"pay_at": "2026-01-20T14:30:00Z"}, "pay_at"),
        ({"amount": "1"}, "amount"),
        ({"kind": "merger"}, "kind"),
        ({"effective_at": "tomorrow"}, "effective_at"),
        ({"who": "me"}, "who"),
    ],
)
def test_a_wrong_field_is_named(client: TestClient, change: dict[str, Any], field: str) -> None:
    """Nothing is entered."""
    refused = client.post("/api/corporate-actions", json={**SPLIT, **change})
    assert refused.status_code == 422
    assert field in refused.text
    assert client.get("/api/corporate-actions").json()["items"] == []


def test_an_old_split_adjusts_bars_and_no_present_price(system: System, client: TestClient) -> None:
    """Those who bought after it have its shares, and so has the price. A later price is no jump."""
    push(system, "100")
    client.post("/v2/orders", json=ORDER)
    push(system, "100")
    before = eventually(lambda: client.get("/v2/positions").json())
    body = {"symbol": "AAPL", "kind": "split", "new_shares": 4, "old_shares": 1, "effective_at": "2020-08-31T13:30:00Z"}
    assert client.post("/api/corporate-actions", json=body).status_code == 202
    (item,) = eventually(lambda: client.get("/api/corporate-actions").json()["items"])
    assert (item["applied_at"] is not None, item["effective_at"]) == (True, body["effective_at"])
    push(system, "101")
    (after,) = eventually(
        lambda: [each for each in client.get("/v2/positions").json() if each["current_price"] == "101"]
    )
    assert (after["qty"], after["cost_basis"]) == (before[0]["qty"], before[0]["cost_basis"])


def test_a_changed_symbol_is_listed_and_watchlists_follow_it(system: System, client: TestClient) -> None:
    """Its indicators are found under it. An entry keeps its place, and a list that has both keeps one.

    A second change is followed from the first.
    """
    listed = client.post("/v2/watchlists", json={"name": "Tech", "symbols": ["IBM", "AAPL", "MSFT"]}).json()
    untouched = client.post("/v2/watchlists", json={"name": "Others", "symbols": ["MSFT"]}).json()
    average: dict[str, Any] = {"symbol": "AAPL", "interval": "1d", "name": "sma", "period": 5}
    named = client.post("/api/indicators", json=average).json()["id"]
    eventually(lambda: client.get("/api/indicators").json()["items"])
    change_symbol(system, client, "AAPL", "PEAR")
    moved = {**average, "symbol": "PEAR"}
    assert client.get("/api/indicators/values", params=moved).status_code == 200
    assert client.post("/api/indicators", json=moved).json()["id"] != named
    assert [each["symbol"] for each in client.get("/api/indicators").json()["items"]] == ["PEAR"]
    (item,) = client.get("/api/corporate-actions?symbol=AAPL").json()["items"]
    assert (item["symbol"], item["new_symbol"], item["applied_at"] is not None) == ("AAPL", "PEAR", True)
    assert follow_changes(system) == 1
    found = client.get(f"/v2/watchlists/{listed['id']}").json()
    assert [each["symbol"] for each in found["assets"]] == ["IBM", "PEAR", "MSFT"]
    change_symbol(system, client, "PEAR", "PLUM")
    client.put(f"/v2/watchlists/{listed['id']}", json={"symbols": ["AAPL", "IBM", "PEAR", "PLUM"]})
    assert follow_changes(system) == 1
    found = client.get(f"/v2/watchlists/{listed['id']}").json()
    assert [each["symbol"] for each in found["assets"]] == ["PLUM", "IBM"]
    assert (follow_changes(system), client.get(f"/v2/watchlists/{untouched['id']}").json()["updated_at"]) == (
        0, untouched["updated_at"],
    )  # fmt: skip
    items = client.get("/api/corporate-actions?kind=symbol_change").json()["items"]
    assert [(each["symbol"], each["new_symbol"]) for each in items] == [("PEAR", "PLUM"), ("AAPL", "PEAR")]


def change_symbol(system: System, client: TestClient, old: str, new: str) -> None:
    body = {"symbol": old, "kind": "symbol_change", "new_symbol": new, "effective_at": now_of(system)}
    entered = client.post("/api/corporate-actions", json=body)
    assert entered.status_code == 202, entered.text
    eventually(lambda: client.get(f"/api/instruments/{new}").status_code == 200)


def follow_changes(system: System) -> int:
    """Do the gateway's step. Returns the number of lists that changed."""
    gateway = system.contexts["gateway"]
    with gateway.engine.begin() as connection:
        return follow(connection, gateway.clock())
