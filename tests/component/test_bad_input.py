"""Bad input over HTTP: an error that names the field, nothing stored, no traceback."""

import json
import logging
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest
from starlette.testclient import TestClient

from embedded.system import System
from tests.component.http_trader import KEY, ORDER, stored
from tests.conftest import database, running_system
from tests.support import eventually

NOBODY = UUID(int=4711)


@pytest.fixture(scope="module")
def system(postgres: str, template: dict[str, str]) -> Iterator[System]:
    """One system for the whole module: rejected requests leave nothing behind."""
    with database(postgres, template) as urls, running_system(urls) as system:
        yield system


@pytest.fixture(scope="module")
def client(system: System) -> Iterator[TestClient]:
    with TestClient(system.app(), headers=KEY) as client:
        eventually(lambda: client.get("/v2/account").status_code == 200)
        yield client


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"qty": "0"}, "qty"),
        ({"qty": "-5"}, "qty"),
        ({"qty": "NaN"}, "qty"),
        ({"qty": "Infinity"}, "qty"),
        ({"qty": "1.0000000001"}, "qty"),
        ({"qty": "1e400000"}, "qty"),
        ({"qty": True}, "qty"),
        ({"qty": None}, "qty"),
        ({"symbol": "NOPE"}, 'asset "NOPE" not found'),
        ({"symbol": "'; DROP TABLE orders.orders; --"}, "symbol"),
        ({"symbol": 7}, "symbol"),
        ({"side": "hold"}, "side"),
        ({"type": "someday"}, "type"),
        ({"time_in_force": "someday"}, "time_in_force"),
        ({"time_in_force": "opg", "qty": "1.5"}, "time_in_force"),
        ({"time_in_force": "cls", "type": "stop", "stop_price": "5"}, "time_in_force"),
        ({"time_in_force": "opg", "type": "limit", "limit_price": "5", "extended_hours": True}, "extended_hours"),
        ({"time_in_force": "gtc", "qty": "1.5"}, "time_in_force"),
        ({"time_in_force": "ioc", "type": "stop", "stop_price": "5"}, "time_in_force"),
        ({"type": "limit"}, "limit_price"),
        ({"type": "limit", "limit_price": "0"}, "limit_price"),
        ({"type": "stop", "limit_price": "5", "stop_price": "5"}, "limit_price"),
        ({"stop_price": "5"}, "stop_price"),
        ({"type": "limit", "limit_price": "5.00001"}, "limit_price"),
        ({"type": "stop_limit", "limit_price": "5"}, "stop_price"),
        ({"type": "trailing_stop"}, "trail_price"),
        ({"type": "trailing_stop", "trail_price": "1", "trail_percent": "1"}, "trail_percent"),
        ({"type": "trailing_stop", "trail_price": "0.00001"}, "trail_price"),
        ({"type": "trailing_stop", "trail_percent": "100"}, "trail_percent"),
        ({"take_profit": {"limit_price": "1"}}, "take_profit"),
        ({"order_class": "mleg"}, "order_class"),
        ({"order_class": "oto"}, "order_class"),
        ({"order_class": "bracket", "take_profit": {"limit_price": "9"}}, "order_class"),
        (
            {"order_class": "bracket", "take_profit": {"limit_price": "9"}, "stop_loss": {"stop_price": "9"}},
            "take_profit.limit_price",
        ),
        (
            {"order_class": "bracket", "take_profit": {"limit_price": "9"}, "stop_loss": {"limit_price": "9"}},
            "stop_loss.stop_price",
        ),
        ({"order_class": "oto", "take_profit": {"limit_price": "9", "qty": "1"}}, "take_profit.qty"),
        ({"order_class": "oto", "take_profit": {"limit_price": "9.00001"}}, "take_profit.limit_price"),
        ({"order_class": "oto", "take_profit": 9}, "take_profit"),
        ({"order_class": "oco", "take_profit": {"limit_price": "9"}, "stop_loss": {"stop_price": "8"}}, "limit_price"),
        ({"notional": "100"}, "notional"),
        ({"qty": None, "notional": "0.99"}, "notional"),
        ({"qty": None, "notional": "100.001"}, "notional"),
        ({"qty": None, "notional": "100", "type": "limit", "limit_price": "5"}, "notional"),
        ({"legs": []}, "legs"),
        ({"client_order_id": "x" * 129}, "client_order_id"),
        ({"client_order_id": "a\x00b"}, "client_order_id"),
        ({"client_order_id": ""}, "client_order_id"),
        ({"symbol": "A\x00"}, "symbol"),
        ({"extended_hours": True}, "extended_hours"),
    ],
)
def test_a_wrong_field_is_named_and_nothing_is_stored(
    system: System, client: TestClient, caplog: pytest.LogCaptureFixture, change: dict[str, Any], field: str
) -> None:
    """A 422 whose message begins with the field, without a row, a message or a traceback."""
    before = stored(system)
    with caplog.at_level(logging.ERROR):
        answer = client.post("/v2/orders", json={**ORDER, **change})
    assert answer.status_code == 422
    assert field in answer.json()["message"]
    assert answer.json()["code"] == 42210000
    assert stored(system) == before
    assert caplog.records == []


@pytest.mark.parametrize("body", ["{", "", "[1, 2", '{"qty": NaN}', '{"qty": Infinity}', "\x00", "[" * 100_000])
def test_a_body_that_is_not_json_is_a_400(system: System, client: TestClient, body: str) -> None:
    """Malformed JSON, and the constants that only Python accepts, are rejected first."""
    answer = client.post("/v2/orders", content=body)
    assert answer.status_code in {400, 413}
    assert answer.json()["message"]
    assert stored(system) == (0, 0, 0)


@pytest.mark.parametrize("body", ["[]", '"text"', "null", "7"])
def test_json_that_is_not_an_object_is_a_422(client: TestClient, body: str) -> None:
    """It is JSON, but not an order."""
    assert client.post("/v2/orders", content=body).status_code == 422


def test_a_body_of_ten_megabytes_is_a_413(system: System, client: TestClient) -> None:
    """The size is checked before the content."""
    answer = client.post("/v2/orders", content=json.dumps({**ORDER, "padding": "x" * 10_000_000}))
    assert answer.status_code == 413
    assert "65536 bytes" in answer.json()["message"]
    assert stored(system) == (0, 0, 0)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", f"/v2/orders/{NOBODY}", 404),
        ("DELETE", f"/v2/orders/{NOBODY}", 404),
        ("GET", "/v2/orders/not-an-id", 422),
        ("GET", "/v2/orders:by_client_order_id?client_order_id=none", 404),
        ("GET", "/v2/orders?limit=0", 422),
        ("GET", "/v2/orders?status=maybe", 422),
        ("GET", "/v2/positions/NOPE", 404),
        ("GET", "/v2/nothing", 404),
        ("GET", "/v2/positions/A%00", 400),
        ("GET", "/v2/orders:by_client_order_id?client_order_id=%00", 400),
        ("GET", "/v2/orders?symbols=%00", 400),
        ("GET", "/v2/orders?after=yesterday", 422),
        ("GET", "/v2/orders?nested=maybe", 422),
        ("PATCH", f"/v2/orders/{NOBODY}", 400),
        ("PATCH", "/v2/orders/not-an-id", 422),
        ("DELETE", "/v2/positions/NOPE", 404),
        ("DELETE", "/v2/positions/AAPL?qty=1", 404),
        ("DELETE", "/v2/positions/AAPL?qty=0", 422),
        ("DELETE", "/v2/positions/AAPL?percentage=101", 422),
        ("DELETE", "/v2/positions/AAPL?percentage=50&qty=1", 422),
        ("DELETE", "/v2/positions?cancel_orders=maybe", 422),
        ("POST", "/api/jobs/%00/trigger", 400),
        ("PUT", "/v2/account", 405),
        ("POST", "/api/jobs/no_such_job/trigger", 404),
        ("PUT", "/api/jobs/no_such_job/toggle?enabled=true", 404),
        ("PUT", "/api/jobs/process_orders/toggle?enabled=maybe", 422),
        ("PUT", "/api/jobs/process_orders/toggle", 422),
    ],
)
def test_an_error_has_the_shape_of_its_api(client: TestClient, method: str, path: str, status: int) -> None:
    """Alpaca's code and message under /v2, problem+json under /api."""
    answer = client.request(method, path)
    assert answer.status_code == status
    body = answer.json()
    if path.startswith("/v2"):
        assert set(body) == {"code", "message"}
        assert body["code"] // 100_000 == (400 if body["code"] == 40010001 else status)
    else:
        assert answer.headers["content-type"] == "application/problem+json"
        assert (body["status"], bool(body["detail"])) == (status, True)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"APCA-API-KEY-ID": "TESTKEY", "APCA-API-SECRET-KEY": "wrong"},
        {"APCA-API-KEY-ID": "nobody", "APCA-API-SECRET-KEY": "test-secret-key"},
        {"Cookie": "paperprofit_session=made-up"},
    ],
)
@pytest.mark.parametrize("path", ["/v2/account", "/api/jobs/status", "/api/stream", "/api/session"])
def test_without_a_valid_key_every_route_is_a_401(system: System, path: str, headers: dict[str, str]) -> None:
    """Only health and the page itself are open."""
    with TestClient(system.app()) as stranger:
        assert stranger.get(path, headers=headers).status_code == 401
        assert stranger.get("/").status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        '{"symbol": "AAPL", "qty": 1e999999999, "side": "buy", "type": "market", "time_in_force": "day"}',
        '{"symbol": "AAPL", "qty": 1e-999999999, "side": "buy", "type": "market", "time_in_force": "day"}',
        '{"symbol": "AAPL", "qty": ' + "9" * 5000 + ', "side": "buy", "type": "market", "time_in_force": "day"}',
        (
            '{"symbol": "AAPL", "qty": "1", "side": "buy", "type": "market", "time_in_force": "day", '
            '"client_order_id": "\\ud800"}'
        ),
    ],
)
def test_numbers_and_text_at_the_edge_of_json_are_rejected(system: System, client: TestClient, body: str) -> None:
    """JSON can spell them, but no order can hold them."""
    before = stored(system)
    assert client.post("/v2/orders", content=body).status_code in {400, 422}
    assert stored(system) == before


def test_a_nul_in_a_session_request_is_rejected(client: TestClient) -> None:
    """Anybody can send one, so it is validated like every other request."""
    answer = client.post("/api/session", json={"key_id": "a\x00", "secret_key": "b"})
    assert (answer.status_code, answer.json()["field"]) == (422, "key_id")
