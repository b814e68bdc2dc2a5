"""Indicators over HTTP: named, computed by the job, read, and removed."""

from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest

from services.marketdata.jobs import jobs
from shared.clock import utc_now
from shared.jobs.run_context import RunContext
from tests.component.http_trader import Trader
from tests.support import eventually

SMA = {"symbol": "aapl", "interval": "1h", "name": "sma", "parameters": {"period": 3}}
CLOSES = (10, 20, 30, 40)


def named(trader: Trader, **terms: Any) -> Any:
    answer = trader.ask("POST", "/api/indicators", json={**SMA, **terms})
    assert answer.status_code == 202, answer.text
    eventually(lambda: listed(trader, symbol=answer.json()["symbol"], interval=answer.json()["interval"]) != [])
    return answer.json()


def listed(trader: Trader, **query: Any) -> list[Any]:
    found: list[Any] = trader.ask("GET", "/api/indicators", params=query).json()["items"]
    return found


def compute(trader: Trader, symbol: str, begin: datetime) -> None:
    """Store hourly bars with these closes from the time on, and run the job."""
    context = trader.system.contexts["marketdata"]
    with context.engine.begin() as connection:
        for number, close in enumerate(CLOSES):
            connection.exec_driver_sql(
                "INSERT INTO marketdata.market_data VALUES"
                " (%s, '1h', %s, %s, %s, %s, %s, 1, 'test') ON CONFLICT DO NOTHING",
                (symbol, begin + timedelta(hours=number), close, close, close, close),
            )
    jobs.declared["update_indicators"].run(RunContext(uuid4(), context, context.clock(), {}))


def test_an_indicator_is_named_computed_read_and_removed(trader: Trader) -> None:
    """The values that do not exist yet are null. A page ends where it should, and its cursor leads on."""
    begin = utc_now().replace(minute=0, second=0, microsecond=0) - timedelta(hours=10)
    made = named(trader)
    assert (made["symbol"], made["parameters"], made["ready"]) == ("AAPL", {"period": "3"}, False)
    asked = {"symbol": "aapl", "interval": "1h", "name": "sma", "period": "3"}
    assert trader.ask("GET", "/api/indicators/values", params=asked).json() == {"items": [], "next": None}
    compute(trader, "AAPL", begin)
    first = trader.ask("GET", "/api/indicators/values", params={**asked, "limit": 3}).json()
    second = trader.ask("GET", "/api/indicators/values", params={**asked, "cursor": first["next"]}).json()
    found = [item["values"]["value"] for item in first["items"] + second["items"]]
    assert found == [30.0, 20.0, None, None]
    times = {"from": (begin + timedelta(hours=2)).isoformat(), "to": (begin + timedelta(hours=3)).isoformat()}
    (one,) = trader.ask("GET", "/api/indicators/values", params={**asked, **times}).json()["items"]
    assert (datetime.fromisoformat(one["start_at"]), one["values"]) == (begin + timedelta(hours=2), {"value": 20.0})
    many = {"symbols": "aapl,MSFT", "interval": "1h", "name": "sma", "period": "3"}
    latest = trader.ask("GET", "/api/indicators/latest", params=many).json()["latest"]
    assert {symbol: each["values"] for symbol, each in latest.items()} == {"AAPL": {"value": 30.0}}
    assert [each["ready"] for each in listed(trader, symbol="AAPL", interval="1h")] == [True]
    assert named(trader)["id"] == made["id"]
    assert trader.ask("DELETE", f"/api/indicators/{made['id']}").status_code == 204
    eventually(lambda: listed(trader, symbol="AAPL", interval="1h") == [])
    assert trader.ask("GET", "/api/indicators/values", params=asked).status_code == 404
    assert trader.ask("DELETE", f"/api/indicators/{made['id']}").status_code == 404
    for what in ("add_indicator", "remove_indicator"):
        assert [each["subject"] for each in trader.ask("GET", f"/api/actions?what={what}").json()["items"]] == ["AAPL"]


def test_several_outputs_have_their_names(trader: Trader) -> None:
    """Parameters that are missing have their defaults. Those beside the name are the same as those within."""
    flat = {name: value for name, value in SMA.items() if name != "parameters"} | {"symbol": "IBM", "period": 7}
    assert trader.ask("POST", "/api/indicators", json=flat).json()["parameters"] == {"period": "7"}
    assert trader.ask("POST", "/api/indicators", json={**flat, "fast": 2}).json()["field"] == "fast"
    made = named(trader, symbol="MSFT", name="macd", parameters={})
    assert made["parameters"] == {"fast": "12", "slow": "26", "signal": "9"}
    compute(trader, "MSFT", utc_now().replace(minute=0, second=0, microsecond=0) - timedelta(hours=10))
    asked = {"symbol": "MSFT", "interval": "1h", "name": "macd"}
    items = trader.ask("GET", "/api/indicators/values", params=asked).json()["items"]
    assert items[0]["values"] == {"macd": None, "signal": None, "histogram": None}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"symbol": "NOPE"}, "symbol"),
        ({"interval": "2m"}, "interval"),
        ({"name": "magic"}, "name"),
        ({"parameters": {"period": 0}}, "period"),
        ({"parameters": {"period": 401}}, "period"),
        ({"parameters": {"fast": 3}}, "fast"),
        ({"name": "rsi", "parameters": {"period": 101}}, "period"),
        ({"name": "macd", "parameters": {"fast": 26, "slow": 26}}, "fast"),
        ({"name": "vwap"}, "period"),
        ({"name": "bollinger", "parameters": {"deviations": "0"}}, "deviations"),
        ({"who": "me"}, "who"),
    ],
)
def test_a_wrong_field_is_named(trader: Trader, change: dict[str, Any], field: str) -> None:
    """The error says what the indicator takes."""
    refused = trader.ask("POST", "/api/indicators", json={**SMA, **change})
    assert refused.status_code == 422, refused.text
    assert field in refused.text
    assert listed(trader, symbol="GOOG") == []


def test_a_wrong_parameter_of_a_reading_is_named(trader: Trader) -> None:
    for path, symbols in (("values", {"symbol": "AAPL"}), ("latest", {"symbols": "AAPL"})):
        asked = {**symbols, "interval": "1h", "name": "rsi", "slow": "3"}
        refused = trader.ask("GET", f"/api/indicators/{path}", params=asked)
        assert (refused.status_code, refused.json()["field"]) == (422, "slow")
        assert "takes period" in refused.text
