"""Prices of the user's own feed, over HTTP: taken or refused each by itself, and traded at."""

from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from prometheus_client import REGISTRY
from starlette.testclient import TestClient, WebSocketDenialResponse, WebSocketTestSession
from starlette.websockets import WebSocketDisconnect

from embedded.system import System
from services.gateway.instruments.prices_api import MOST_BYTES
from shared.clock import utc_now
from shared.contracts.prices import NumberedPrice, PushPrices
from tests.component.http_trader import KEY, Trader, open_account
from tests.support import eventually, rows, send, value

STREAM = "/api/prices/stream"
NEW: dict[str, Any] = {"market": "XNAS", "asset_class": "us_equity"}


@pytest.fixture(scope="module", autouse=True)
def instruments(market: System, visitor: TestClient) -> None:
    """Shares that no other test of this module prices."""
    assert market.contexts["marketdata"].engine
    for symbol in ("PUSHA", "PUSHB", "PUSHC", "PUSHD"):
        added = visitor.post("/api/instruments", json={"symbol": symbol, "name": symbol, **NEW}, headers=KEY)
        assert added.status_code == 201, added.text


def pushed(client: TestClient, *prices: Any) -> Any:
    answer = client.post("/api/prices", json={"prices": list(prices)}, headers=KEY)
    assert answer.status_code == 200, answer.text
    return answer.json()


def reasons(answer: Any) -> list[tuple[int, str, str]]:
    return [(each["index"], each["symbol"], each["reason"]) for each in answer["refused"]]


def price_of(client: TestClient, symbol: str) -> Any:
    (found,) = client.get("/api/prices", params={"symbols": symbol}, headers=KEY).json()["items"]
    return found


def at(**ago: float) -> str:
    return (utc_now() - timedelta(**ago)).isoformat()


def test_a_pushed_price_fills_an_order(trader: Trader) -> None:
    """The ask of the push is the price of the fill."""
    symbol = {"symbol": "AAPL", "bid": "150.10", "ask": "150.25", "last": "150.20"}
    order = trader.order()
    bar = {"open": "150", "high": "151", "low": "150", "close": "150.20", "volume": "1000"}
    assert pushed(trader.client, {**symbol, "bar": bar})["refused"] == []
    assert trader.awaited(order["id"], "filled")["filled_avg_price"] == "150.25"


def test_every_price_has_its_provider_its_own_time_and_the_time_it_came(visitor: TestClient) -> None:
    """A missing side is null, and no spread is invented."""
    quoted_at, before = at(seconds=30), utc_now()
    answer = pushed(visitor, {"symbol": "pusha", "bid": 99.5, "last": "100.123456789", "bid_size": 3, "at": quoted_at})
    assert answer == {"taken": [{"index": 0, "symbol": "PUSHA", "sequence": 1}], "refused": []}
    found = price_of(visitor, "PUSHA")
    assert (found["bid"], found["ask"], found["bid_size"], found["ask_size"]) == ("99.5", None, "3", None)
    (both,) = {
        tuple(each["symbol"] for each in visitor.get("/api/prices", params=asked, headers=KEY).json()["items"])
        for asked in ({"symbols": "pusha,pushb"}, {"symbols": ["PUSHA", "PUSHB"]})
    }
    assert both == ("PUSHA",)
    assert (found["last"], found["provider"], found["delayed"]) == ("100.123456789", "push", False)
    assert found["quoted_at"] == quoted_at.replace("+00:00", "Z")
    assert found["received_at"] >= before.isoformat().replace("+00:00", "Z")


def test_each_price_is_taken_or_refused_by_itself(visitor: TestClient) -> None:
    """The response names the place, the symbol and the reason, and the rest of the batch is stored."""
    bar = {"open": 10, "high": 9, "low": 8, "close": 9, "volume": 5}
    answer = pushed(
        visitor,
        {"symbol": "PUSHB", "bid": "0", "last": "10"},
        {"symbol": "PUSHB", "last": "-1"},
        {"symbol": "PUSHB", "last": "NaN"},
        {"symbol": "PUSHB", "bid": "11", "ask": "10"},
        {"symbol": "PUSHB", "last": "10", "bar": bar},
        {"symbol": "PUSHB", "last": "10", "at": (utc_now() + timedelta(minutes=1)).isoformat()},
        {"symbol": "PUSHB", "last": "10", "currency": "EUR"},
        {"symbol": "PUSHB", "bid": "10"},
        {"symbol": "NOBODY", "last": "10"},
        {"symbol": "PUSHB", "last": "10.0000000001"},
        {"symbol": "PUSHB", "lst": "10"},
        {"symbol": "PUSHB", "bid": "9.99", "ask": "10.01"},
        "PUSHB",
    )
    assert [each["reason"] for each in answer["refused"]] == [
        "not_positive",
        "not_positive",
        "invalid",
        "crossed",
        "bar",
        "ahead",
        "currency",
        "no_last",
        "unknown_symbol",
        "decimals",
        "invalid",
        "invalid",
    ]
    assert [each["index"] for each in answer["refused"]] == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12]
    assert all(each["message"] for each in answer["refused"])
    assert [each["index"] for each in answer["taken"]] == [11]
    assert price_of(visitor, "PUSHB")["last"] == "10"  # the middle of both sides


def test_a_batch_is_one_event_and_prices_of_one_symbol_stay_in_order(market: System, visitor: TestClient) -> None:
    """Each of them is published, and the last one stays."""
    times = [at(seconds=9 - second) for second in range(3)]
    batch = [{"symbol": "PUSHC", "last": str(20 + n), "at": each} for n, each in enumerate(times)]
    assert [each["sequence"] for each in pushed(visitor, *batch)["taken"]] == [1, 2, 3]
    assert price_of(visitor, "PUSHC")["last"] == "22"
    (again,) = {reason for _, _, reason in reasons(pushed(visitor, *batch))}
    assert again == "older"  # sent twice, taken once


def test_a_push_that_is_delivered_twice_has_its_effect_once(market: System, visitor: TestClient) -> None:
    """Both copies are of one message."""
    visitor.post("/api/instruments", json={"symbol": "AGAIN", "name": "Again", **NEW}, headers=KEY)
    price = NumberedPrice(index=0, symbol="AGAIN", last=Decimal(5), at=utc_now())
    command, message_id = PushPrices(push_id=uuid4(), pushed=(price,), received_at=utc_now()), uuid4()
    for _ in range(2):
        send(market.contexts["gateway"], command, message_id=message_id)
    engine = market.contexts["marketdata"].engine
    assert eventually(lambda: value(engine, "SELECT sequence FROM marketdata.instruments WHERE symbol = 'AGAIN'")) == 1
    assert pushed(visitor, {"symbol": "AGAIN", "last": "6"})["taken"] == [
        {"index": 0, "symbol": "AGAIN", "sequence": 2}
    ]


def test_a_jump_is_refused_unless_something_was_traded(visitor: TestClient) -> None:
    """The last good price stays."""
    pushed(visitor, {"symbol": "PUSHD", "last": "100"})
    assert reasons(pushed(visitor, {"symbol": "PUSHD", "last": "151"})) == [(0, "PUSHD", "jump")]
    assert price_of(visitor, "PUSHD")["last"] == "100"
    bar = {"open": 100, "high": 151, "low": 100, "close": 151, "volume": 1}
    assert len(pushed(visitor, {"symbol": "PUSHD", "bar": bar})["taken"]) == 1


def test_a_bar_is_stored_under_its_own_interval(market: System, visitor: TestClient) -> None:
    """A bar of an hour is no minute."""
    start = utc_now().replace(minute=0, second=0, microsecond=0) - timedelta(hours=3)
    bar: dict[str, Any] = {"open": 5, "high": 7, "low": 4, "close": 6, "volume": 9, "start": start.isoformat()}
    bar["end"] = (start + timedelta(hours=1)).isoformat()
    visitor.post("/api/instruments", json={"symbol": "PUSHE", "name": "E", **NEW}, headers=KEY)
    assert len(pushed(visitor, {"symbol": "PUSHE", "bar": bar})["taken"]) == 1
    (stored,) = rows(
        market.contexts["marketdata"].engine, "SELECT * FROM marketdata.market_data WHERE symbol = 'PUSHE'"
    )
    assert (stored.interval, stored.start_at, stored.close, stored.volume) == ("1h", start, 6, 9)
    assert price_of(visitor, "PUSHE")["quoted_at"] == bar["end"].replace("+00:00", "Z")


def test_a_price_grows_stale_by_the_phase_of_its_market(market: System, visitor: TestClient) -> None:
    """On a market that never closes after two minutes."""
    engine = market.contexts["marketdata"].engine
    visitor.post("/api/instruments", json={"symbol": "OLD/USD", "name": "Old"}, headers=KEY)
    pushed(visitor, {"symbol": "OLD/USD", "last": "1", "at": at(seconds=90)})
    assert price_of(visitor, "OLD/USD")["stale"] is False
    with engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE marketdata.instruments SET quoted_at = quoted_at - interval '1 minute' WHERE symbol = 'OLD/USD'"
        )
    assert price_of(visitor, "OLD/USD")["stale"] is True
    assert visitor.get("/api/instruments/OLD/USD", headers=KEY).json()["stale"] is True


def test_refused_prices_are_counted_by_provider_and_reason(visitor: TestClient) -> None:
    """Also those that the gateway cannot read."""

    def counts() -> list[float]:
        name, labels = "paperprofit_prices_refused_total", [("provider", "push")]
        given = [dict([*labels, ("reason", reason)]) for reason in ("crossed", "invalid")]
        return [REGISTRY.get_sample_value(name, each) or 0 for each in given]

    before = counts()
    pushed(visitor, {"symbol": "PUSHA", "bid": "3", "ask": "2", "last": "2"}, {"symbol": "PUSHA", "bid": "x"})
    assert counts() == [each + 1 for each in before]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"prices": []}, 422),
        ({"prices": [{"symbol": "AAPL"}] * 1001}, 422),
        ({}, 422),
        ({"prices": {}}, 422),
        ({"prices": [{"symbol": "A", "last": "1" * MOST_BYTES}]}, 413),
    ],
)
def test_a_request_is_bounded(visitor: TestClient, body: Any, status: int) -> None:
    """The field is named."""
    answer = visitor.post("/api/prices", json=body, headers=KEY)
    assert (answer.status_code, answer.json()["field"]) == (status, "body" if status == 413 else "prices")


def test_the_largest_request_is_taken(market: System, visitor: TestClient) -> None:
    """A thousand prices with all fields, of which each symbol takes fifty."""
    bar = {"open": "10.123456789", "high": "10.123456789", "low": "10.123456789", "close": "10.123456789", "volume": 1}
    full = {"bid": "10.123456789", "ask": "10.123456789", "bid_size": "1", "ask_size": "1", "last": "10.123456789"}
    answer = pushed(visitor, *({"symbol": "NOONE", **full, "bar": bar, "at": at()} for _ in range(1000)))
    assert {reason for _, _, reason in reasons(answer)} == {"unknown_symbol", "too_many"}
    assert len(answer["refused"]) == 1000
    assert value(market.contexts["marketdata"].engine, "SELECT count(*) FROM marketdata.dead_letters") == 0


def test_frames_of_a_websocket_are_answered_one_by_one(visitor: TestClient) -> None:
    """Each as its request would be. A wrong one ends nothing."""
    with visitor.websocket_connect(STREAM, headers=KEY) as stream:
        for last in ("100", "101"):
            stream.send_json({"prices": [{"symbol": "PUSHA", "last": last}, {"symbol": "PUSHA", "last": "0"}]})
            answer = stream.receive_json()
            assert [each["index"] for each in answer["taken"]] == [0]
            assert reasons(answer) == [(1, "PUSHA", "not_positive")]
        for text, status, field in (("{", 400, "body"), ('{"prices": []}', 422, "prices")):
            stream.send_text(text)
            answer = stream.receive_json()
            assert (answer["status"], answer["field"]) == (status, field)
        stream.send_bytes(b'{"prices": [{"symbol": "PUSHA", "last": "102"}]}')
        assert len(stream.receive_json()["taken"]) == 1
    assert price_of(visitor, "PUSHA")["last"] == "102"


def test_a_websocket_needs_an_operator_s_key(market: System, visitor: TestClient) -> None:
    """The handshake is refused, and a key that is revoked ends the stream."""
    owner = open_account(market, visitor)
    asked = {"name": "feed", "scopes": ["operate"]}
    key = visitor.post(f"/api/accounts/{owner.account_id}/keys", json=asked, headers=KEY).json()
    reader = visitor.post(
        f"/api/accounts/{owner.account_id}/keys", json={"name": "r", "scopes": ["read"]}, headers=KEY
    ).json()
    for headers, status in (({}, 401), (headers_of(reader), 403)):
        with pytest.raises(WebSocketDenialResponse) as refused, visitor.websocket_connect(STREAM, headers=headers):
            pass
        assert refused.value.status_code == status
    with visitor.websocket_connect(STREAM, headers=headers_of(key)) as stream:
        stream.send_json({"prices": [{"symbol": "NOONE", "last": "1"}]})
        assert reasons(stream.receive_json()) == [(0, "NOONE", "unknown_symbol")]
        assert visitor.delete(f"/api/keys/{key['key_id']}", headers=KEY).status_code == 204
        with pytest.raises(WebSocketDisconnect) as ended:
            eventually(lambda: exchange(stream) is None)
        assert ended.value.code == 1008


def headers_of(key: dict[str, str]) -> dict[str, str]:
    return {"APCA-API-KEY-ID": key["key_id"], "APCA-API-SECRET-KEY": key["secret_key"]}


def exchange(stream: WebSocketTestSession) -> Any:
    """Send a frame and return its answer."""
    stream.send_json({"prices": [{"symbol": "NOONE", "last": "1"}]})
    return stream.receive_json()
