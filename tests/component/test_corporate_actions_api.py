"""Splits and dividends over HTTP, through all services."""

from collections.abc import Iterator
from typing import Any

import pytest
from starlette.testclient import TestClient

from embedded.system import System
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
    ("change", "field"),
    [
        ({"symbol": "NOPE"}, "symbol"),
        ({"ratio": "0"}, "ratio"),
        ({"ratio": None}, "ratio"),
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
