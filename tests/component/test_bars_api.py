"""Bars over HTTP, through all services: backfilled, read in pages, adjusted, imported and exported."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from io import BytesIO
from itertools import pairwise
from typing import Any

import pytest
from pyarrow import parquet

from tests.component.http_trader import Trader
from tests.support import eventually

DAILY = {"symbols": ["aapl", "MSFT"], "interval": "1d", "from": "2004-12-01T00:00:00Z", "to": "2005-04-01T00:00:00Z"}
HEADER = "symbol,interval,start,open,high,low,close,volume\n"
LINES = [f"IBM,1m,2026-03-09T14:{minute:02}:00Z,10,12,9,{10 + minute % 3},100\n" for minute in range(60)]


def backfilled(trader: Trader, **changes: Any) -> Any:
    """Backfill, and return the run once it has ended."""
    answer = trader.ask("POST", "/api/bars/backfill", json={**DAILY, **changes})
    assert answer.status_code == 202, answer.text
    path = f"/api/runs/{answer.json()['run_id']}"
    return eventually(lambda: (run := trader.get(path))["state"] == "finished" and run, what="the end of the run")


def bars(trader: Trader, **query: Any) -> list[Any]:
    """The bars of all pages."""
    found, cursor = [], None
    while True:
        page = trader.get("/api/bars", **query, **({"cursor": cursor} if cursor else {}))
        found += page["items"]
        if not (cursor := page["next"]):
            return found


def imported(trader: Trader, body: str, **query: Any) -> Any:
    return trader.ask("POST", "/api/bars/import", params=query, content=body.encode())


def test_a_backfill_brings_bars_that_can_be_read_in_pages(trader: Trader) -> None:
    """The newest first, as they were traded, with the run's progress and what is covered."""
    run = backfilled(trader)
    assert (run["outcome"], run["counts"]["bars_written"]) == ("succeeded", 166)
    found = bars(trader, symbol="aapl", interval="1d", limit=7)
    assert len(found) == 83
    assert all(later["start"] > earlier["start"] for later, earlier in pairwise(found))
    assert found[0] == {
        "symbol": "AAPL", "interval": "1d", "start": "2005-03-31T00:00:00Z", "open": "42.45", "high": "42.52",
        "low": "41.59", "close": "41.67", "volume": found[0]["volume"], "provider": "replay", "origin": "complete",
    }  # fmt: skip
    narrow = bars(trader, symbol="AAPL", interval="1d", **{"from": "2005-01-03", "to": "2005-01-05T00:00:00Z"})
    assert [each["start"][:10] for each in narrow] == ["2005-01-04", "2005-01-03"]
    assert [(each["from"][:10], each["to"][:10]) for each in covered(trader, "AAPL")] == [("2004-12-01", "2005-04-01")]
    assert backfilled(trader)["counts"]["bars_received"] == 0


def covered(trader: Trader, symbol: str) -> list[Any]:
    found: list[Any] = trader.get("/api/bars/coverage", symbol=symbol)["items"]
    return found


def test_bars_are_read_in_todays_shares_once_their_split_is_entered(trader: Trader) -> None:
    """AAPL split 2 for 1 on 2005-02-28."""
    backfilled(trader)
    split = {"symbol": "AAPL", "kind": "split", "ratio": "2", "effective_at": "2005-02-28T14:30:00Z"}
    assert trader.ask("POST", "/api/corporate-actions", json=split).status_code == 202
    asked = {"symbol": "AAPL", "interval": "1d", "from": "2005-02-25T00:00:00Z", "to": "2005-03-01T00:00:00Z"}
    raw = bars(trader, **asked)
    eventually(lambda: bars(trader, **asked, adjustment="split") != raw)
    after = bars(trader, **asked, adjustment="split")
    assert after[0] == raw[0]
    assert (Decimal(after[1]["close"]), Decimal(after[1]["volume"])) == (
        Decimal(raw[1]["close"]) / 2, Decimal(raw[1]["volume"]) * 2,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"symbols": ["AAPL", "NOPE"]}, "symbols"),
        ({"symbols": []}, "symbols"),
        ({"interval": "1m"}, "interval"),
        ({"interval": "7m"}, "interval"),
        ({"provider": "bloomberg"}, "provider"),
        ({"from": "2005-04-01T00:00:00Z"}, "from"),
        ({"to": "2100-01-01T00:00:00Z"}, "to"),
        ({"to": "tomorrow"}, "to"),
        ({"to": "2005-04-01T00:00:00"}, "to"),
        ({"days": 3}, "days"),
    ],
)
def test_a_wrong_backfill_is_refused_with_its_field(trader: Trader, changes: dict[str, Any], field: str) -> None:
    """Before a run is made."""
    answer = trader.ask("POST", "/api/bars/backfill", json={**DAILY, **changes})
    assert (answer.status_code, answer.json().get("field")) == (422, field), answer.text


def test_an_imported_file_is_stored_rolled_up_and_exported(trader: Trader) -> None:
    """What comes out of an export can be imported again, as CSV, and Parquet has the same bars."""
    answer = imported(trader, HEADER + "".join(LINES))
    assert (answer.status_code, answer.json()) == (202, {"bars": 60, "refused": 0, "wrong": []}), answer.text
    [hour] = eventually(lambda: bars(trader, symbol="IBM", interval="1h"))
    assert (hour["open"], hour["close"], hour["volume"], hour["origin"]) == ("10", "12", "6000", "rolled_up")
    asked = {"symbol": "IBM", "interval": "1m"}
    text = trader.ask("GET", "/api/bars/export", params=asked).text
    assert text.splitlines()[1] == "IBM,1m,2026-03-09T14:00:00Z,10,12,9,10,100,import"
    assert imported(trader, text).json()["bars"] == len(text.splitlines()) - 1 == 60
    table = parquet.read_table(
        BytesIO(trader.ask("GET", "/api/bars/export", params={**asked, "format": "parquet"}).content)
    )
    assert [row["start"] for row in table.to_pylist()] == [
        datetime(2026, 3, 9, 14, tzinfo=UTC) + timedelta(minutes=n) for n in range(60)
    ]
    assert table.column("close").to_pylist() == [10 + n % 3 for n in range(60)]


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("NOPE,1m,2026-03-09T15:00:00Z,10,12,9,10,1", "symbol"),
        ("ibm,1m,2026-03-09T15:00:00Z,10,12,9,10,1", "symbol"),
        ("IBM,2m,2026-03-09T15:00:00Z,10,12,9,10,1", "interval"),
        ("IBM,1m,2026-03-09T15:00:30Z,10,12,9,10,1", "start"),
        ("IBM,1m,2026-03-09T15:00:00,10,12,9,10,1", "start"),
        ("IBM,1m,2126-03-09T15:00:00Z,10,12,9,10,1", "start"),
        ("IBM,1m,2026-03-09T15:00:00Z,0,12,9,10,1", "open"),
        ("IBM,1m,2026-03-09T15:00:00Z,10,NaN,9,10,1", "high"),
        ("IBM,1m,2026-03-09T15:00:00Z,10,9,9,10,1", "high"),
        ("IBM,1m,2026-03-09T15:00:00Z,10,12,11,10,1", "low"),
        ("IBM,1m,2026-03-09T15:00:00Z,10,12,9,1e99,1", "close"),
        ("IBM,1m,2026-03-09T15:00:00Z,10,12,9,10,-1", "volume"),
        ("IBM,1m,2026-03-09T15:00:00Z,10,12,9,10", "line"),
    ],
)
def test_a_wrong_line_is_named_and_refuses_the_file(trader: Trader, line: str, field: str) -> None:
    """Or it is left out and named, where the rest is asked for."""
    body = HEADER + LINES[0] + line + "\n" + LINES[1]
    answer = imported(trader, body)
    assert (answer.status_code, answer.json().get("field")) == (422, field), answer.text
    assert answer.json()["detail"].startswith(f"line 3, {field}: ")
    told = imported(trader, body, partial=True).json()
    assert (told["bars"], [(each["line"], each["field"]) for each in told["wrong"]]) == (2, [(3, field)])


@pytest.mark.parametrize(
    "body", ["", "a,b\n1,2\n", HEADER.replace("close", "open"), 'symbol,"interval\n', HEADER.replace(",interval", "")]
)
def test_a_body_that_is_not_a_file_of_bars_is_refused(trader: Trader, body: str) -> None:
    """With a message that says what to write."""
    answer = imported(trader, body)
    assert (answer.status_code, answer.json().get("field")) == (400, "body"), answer.text


def test_a_file_that_is_too_large_is_refused(trader: Trader) -> None:
    """The command imports larger ones."""
    answer = imported(trader, HEADER + "x" * 4 * 1024 * 1024)
    assert (answer.status_code, answer.json()["field"]) == (413, "body")


def test_the_replay_is_paused_moved_and_resumed(trader: Trader) -> None:
    """Its state tells so, and stays."""
    for body in (
        {"action": "pause"},
        {"action": "seek", "at": "2008-06-02T00:00:00Z"},
        {"action": "speed", "speed": 5},
    ):
        answer = trader.ask("POST", "/api/replay", json=body)
        assert answer.status_code == 202, answer.text
    status = eventually(lambda: (found := trader.get("/api/replay")).get("speed") == "5" and found)
    assert (status["paused"], status["at"], status["file"]) == (True, "2008-05-30T00:00:00Z", None)
    assert (status["first"], status["last"]) == ("2000-03-01T00:00:00Z", "2013-03-01T00:00:00Z")
    assert trader.ask("POST", "/api/replay", json={"action": "resume"}).status_code == 202
    eventually(lambda: not trader.get("/api/replay")["paused"])


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"action": "stop"}, "action"),
        ({"action": "seek"}, "at"),
        ({"action": "pause", "at": "2008-06-02T00:00:00Z"}, "at"),
        ({"action": "speed", "speed": 0}, "speed"),
        ({"action": "speed"}, "speed"),
    ],
)
def test_a_wrong_control_of_the_replay_is_refused(trader: Trader, body: dict[str, Any], field: str) -> None:
    """With its field."""
    answer = trader.ask("POST", "/api/replay", json=body)
    assert (answer.status_code, answer.json().get("field")) == (422, field), answer.text
