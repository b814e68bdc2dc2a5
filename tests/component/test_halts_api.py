"""Halts over HTTP, through all services: traders see the reason, operators see all halts."""

from typing import Any

import pytest

from tests.component.http_trader import KEY, Trader
from tests.support import eventually

HALT = {"symbol": "ibm", "reason": "news pending"}


def halted(trader: Trader, **fields: str) -> Any:
    answer = trader.ask("POST", "/api/halts", json={**HALT, **fields})
    assert answer.status_code == 202, answer.text
    return answer.json()


def resumed(trader: Trader, symbol: str = "ibm") -> None:
    answer = trader.ask("DELETE", f"/api/halts/{symbol}")
    assert answer.status_code == 204, answer.text


def listed(trader: Trader, **query: Any) -> list[Any]:
    found: list[Any] = trader.ask("GET", "/api/halts", params=query).json()["items"]
    return found


def test_a_halted_symbol_is_not_traded_until_it_is_resumed(trader: Trader) -> None:
    """Orders and replacements are rejected with the reason, cancels are not. Both commands work once answered."""
    resting = trader.order(symbol="IBM", type="limit", limit_price="1")["id"]
    halt = halted(trader)
    assert (halt["symbol"], halt["reason"], halt["ended_at"]) == ("IBM", "news pending", None)
    assert halt["began_at"] is not None
    for method, path, body in (
        ("POST", "/orders", {"symbol": "IBM", "qty": "1", "side": "buy", "type": "market", "time_in_force": "day"}),
        ("PATCH", f"/orders/{resting}", {"limit_price": "2"}),
    ):
        status, message = trader.refused(method, path, json=body)
        assert (status, message.startswith("trading in IBM has been halted since ")) == (422, True), message
        assert message.endswith(" UTC: news pending")
    assert trader.ask("DELETE", f"/orders/{resting}").status_code == 204
    assert trader.order(symbol="AAPL")["status"] == "new"
    resumed(trader)
    assert trader.order(symbol="IBM")["status"] == "new"


def test_halts_are_listed_and_their_operator_is_recorded(trader: Trader) -> None:
    """Open and ended halts, the newest first. A second halt of a symbol returns the open one."""
    first = halted(trader, symbol="GOOG", reason="first")
    assert halted(trader, symbol="GOOG", reason="again") == first
    assert listed(trader, symbol="goog", standing=True) == [first]
    resumed(trader, "GOOG")
    second = halted(trader, symbol="GOOG", reason="second")
    found = listed(trader, symbol="GOOG")
    assert [each["id"] for each in found] == [second["id"], first["id"]]
    assert [each["ended_at"] is None for each in found] == [True, False]
    assert [each["id"] for each in listed(trader, symbol="GOOG", standing=False)] == [first["id"]]
    resumed(trader, "GOOG")
    resumed(trader, "GOOG")
    assert listed(trader, symbol="GOOG", standing=True) == []
    for what, times in (("halt_trading", 3), ("resume_trading", 3)):
        actions = trader.ask("GET", f"/api/actions?what={what}").json()["items"]
        assert len([each for each in actions if each["subject"] == "GOOG"]) == times


def test_halt_commands_are_processed_in_order(trader: Trader) -> None:
    """The last one counts, also if nobody waits for the answers."""
    with trader.unanswered():
        for _ in range(3):
            halted(trader, symbol="MSFT")
            resumed(trader, "MSFT")
        halted(trader, symbol="MSFT", reason="last")
    eventually(lambda: [each["reason"] for each in listed(trader, symbol="MSFT", standing=True)] == ["last"])
    resumed(trader, "MSFT")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"symbol": "NOPE"}, "symbol"),
        ({"symbol": ""}, "symbol"),
        ({"reason": ""}, "reason"),
        ({"reason": "x" * 201}, "reason"),
        ({"reason": "two\nlines"}, "reason"),
        ({"reason": None}, "reason"),
        ({"who": "me"}, "who"),
    ],
)
def test_a_wrong_field_is_named(trader: Trader, change: dict[str, Any], field: str) -> None:
    """Nothing is halted."""
    refused = trader.ask("POST", "/api/halts", json={**HALT, **change})
    assert (refused.status_code, refused.json()["field"]) == (422, field)
    assert listed(trader, standing=True) == []


def test_an_unknown_symbol_cannot_be_resumed(trader: Trader) -> None:
    """A currency pair has a slash in its name."""
    for symbol in ("NOPE", "EUR/NOPE"):
        status, message = trader.refused("DELETE", f"/api/halts/{symbol}")
        assert (status, message) == (404, f"unknown instrument {symbol}")


def test_only_an_operator_may_halt(trader: Trader) -> None:
    """A key that only trades may not even list the halts."""
    asked = {"name": "other", "cash": "1", "scopes": ["trade"]}
    opened = trader.client.post("/api/accounts", headers=KEY, json=asked).json()
    key = {"APCA-API-KEY-ID": opened["key_id"], "APCA-API-SECRET-KEY": opened["secret_key"]}
    for method, path, body in (
        ("GET", "/api/halts", None),
        ("POST", "/api/halts", HALT),
        ("DELETE", "/api/halts/IBM", None),
    ):
        assert trader.client.request(method, path, headers=key, json=body).status_code == 403
    assert listed(trader, standing=True) == []
