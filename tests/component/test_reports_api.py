"""Reports over HTTP: the figures of performance as JSON and as a page, their periods, and the books as CSV."""

import csv
from datetime import timedelta
from decimal import Decimal
from io import StringIO
from typing import Any
from uuid import uuid4

import pytest

from services.gateway.accounts import books
from services.valuation.jobs import jobs
from shared.clock import utc_now
from shared.jobs.run_context import RunContext
from shared.pages import POLICY
from tests.component.http_trader import KEY, Trader
from tests.component.test_performance_api import stretch, with_history

HOSTILE = "=cmd|'/c calc'!A0 <script>alert(1)</script>"
_NAME = "UPDATE orders.accounts SET name = %s WHERE id = %s"
_ADD_STRATEGY = """
INSERT INTO strategy.strategies (id, name, kind, account_id, symbols, interval, created_at, updated_at)
VALUES (%s, %s, 'sma_crossover', %s, '{AAPL}', 'replay', now(), now())
"""


def report(trader: Trader, **query: Any) -> Any:
    answer = trader.ask("GET", "/api/account/report", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


def page(trader: Trader, **query: Any) -> str:
    answer = trader.ask("GET", "/api/account/report", params={"format": "html", **query})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert answer.headers.get_list("content-security-policy") == [POLICY]
    return answer.text


def book(trader: Trader, name: str, **query: Any) -> list[dict[str, str]]:
    answer = trader.ask("GET", f"/api/account/{name}.csv", params=query)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/csv; charset=utf-8")
    return list(csv.DictReader(StringIO(answer.text)))


def run(trader: Trader, job: str) -> Any:
    context = trader.system.contexts["valuation"]
    return jobs.declared[job].run(RunContext(uuid4(), context, context.clock(), {}))


def test_the_figures_are_those_of_performance(trader: Trader) -> None:
    """In any time, and beside them the curve, the drawdown and the months of the same values."""
    points = with_history(trader)
    found = report(trader, period="custom", **stretch(points))
    expected = trader.ask("GET", "/api/account/performance", params={**stretch(points), "by": "symbol"}).json()
    assert {name: found[name] for name in expected} == expected
    assert found["profit"] == "3000"
    assert [Decimal(each["equity"]) for each in found["equity"]] == [equity for _, equity in points]
    assert min(each["drawdown"] for each in found["equity"]) == pytest.approx(expected["figures"]["max_drawdown"])
    assert found["equity"][-1]["growth"] == pytest.approx(1.03)
    grown = 1.0
    for each in found["monthly_returns"]:
        grown *= 1 + each["return"]
    assert grown == pytest.approx(1.03)
    assert (found["period"], found["currency"], found["time_zone"]) == ("custom", "USD", "UTC")
    of_admin = trader.client.get(f"/api/accounts/{trader.account_id}/report", params=stretch(points), headers=KEY)
    assert of_admin.status_code == 422  # a day does not last so long
    asked = {"period": "custom", **stretch(points)}
    of_admin = trader.client.get(f"/api/accounts/{trader.account_id}/report", params=asked, headers=KEY)
    assert of_admin.json()["figures"] == found["figures"]


def test_a_deposit_is_no_profit_and_stands_apart(trader: Trader) -> None:
    """5,000 come and no price moves: the return is 0, and the deposit is listed."""
    run(trader, "snapshot_accounts")
    paid = trader.ask("POST", "/api/account/transfers", json={"amount": "5000"})
    assert paid.json()["booked_at"] is not None
    found = report(trader, period="monthly")
    assert (found["end_equity"], found["net_deposits"], found["profit"]) == ("105000", "5000", "0")
    assert found["figures"]["time_weighted_return"] == 0
    assert [each["amount"] for each in found["deposits"]] == ["100000", "5000"]


def test_trading_of_today_is_in_the_report_of_the_day(trader: Trader) -> None:
    """Its trades, its allocation, which adds up to the equity, and its strategies."""
    trader.filled("100")
    trader.filled("110", qty="4", side="sell")
    found = report(trader)
    assert (found["period"], found["finished"], found["corrected"], found["trades_total"]) == ("daily", False, False, 2)
    assert [(each["side"], each["currency"]) for each in found["trades"]] == [("sell", "USD"), ("buy", "USD")]
    (trip,) = found["round_trips"]
    assert Decimal(trip["profit"]) == Decimal(found["figures"]["realized_pl"])
    held = {each["symbol"]: each for each in found["allocation"]}
    assert held["AAPL"]["qty"] == "6"
    assert sum(each["share"] for each in held.values()) == pytest.approx(1)
    assert sum(Decimal(each["value"]) for each in held.values()) == Decimal(found["end_equity"])
    assert [each["group"] for each in found["strategies"]] == ["none"]
    for period in ("weekly", "monthly", "custom"):
        assert report(trader, period=period)["figures"]["trades"] == 1
    shown = page(trader)
    assert "Completed orders" in shown
    assert shown.count("<svg") == 5
    assert "1 round trip, after fees." in shown


def test_a_browser_gets_the_page_and_a_program_the_json(trader: Trader) -> None:
    browser = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
    for accept, expected in ((browser, "text/html"), ({"Accept": "*/*"}, "application/json")):
        answer = trader.client.get("/api/account/report", headers={**trader.key, **accept})
        assert answer.headers["content-type"].partition(";")[0] == expected
        assert answer.headers["vary"] == "Accept"
    asked = {"format": "json"}
    assert trader.client.get("/api/account/report", params=asked, headers={**trader.key, **browser}).json()["name"]


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("text/csv", "text/csv"),
        ("text/html;q=0.1, application/json", "application/json"),
        ("text/*;q=0.5, application/json;q=0", "text/html"),
        ("application/*", "application/json"),
        ("", "application/json"),
    ],
)
def test_the_header_accept_chooses_the_format_of_a_report(trader: Trader, accept: str, expected: str) -> None:
    answer = trader.client.get("/api/account/report", headers={**trader.key, "Accept": accept})
    assert answer.headers["content-type"].partition(";")[0] == expected


def test_csv_is_a_format_of_reports_trades_and_the_ledger(trader: Trader) -> None:
    """It has the rows of the file of that name. A wrong format, a wrong header and a page of it are refused."""
    trader.filled("100")
    trader.filled("101", side="sell")
    for path, name in (("report", "trades"), ("trades", "trades"), ("ledger", "ledger")):
        whole = trader.ask("GET", f"/api/account/{name}.csv").text
        assert trader.ask("GET", f"/api/account/{path}", params={"format": "csv"}).text == whole
        header = {**trader.key, "Accept": "text/csv"}
        assert trader.client.get(f"/api/account/{path}", headers=header).text == whole
        wrong = trader.client.get(f"/api/account/{path}", params={"format": "pdf"}, headers=trader.key)
        assert (wrong.status_code, wrong.json()["field"]) == (422, "format")
        refused = trader.client.get(f"/api/account/{path}", headers={**trader.key, "Accept": "application/pdf"})
        assert (refused.status_code, refused.json()["field"]) == (406, "Accept")
    sold = trader.ask("GET", "/api/account/trades", params={"format": "csv", "side": "sell"}).text
    assert len(sold.splitlines()) == 2
    part = trader.client.get("/api/account/trades", params={"format": "csv", "limit": 1}, headers=trader.key)
    assert (part.status_code, part.json()["field"]) == (422, "limit")


def test_a_new_account_has_a_page_that_says_so(trader: Trader) -> None:
    shown = page(trader)
    for text in ("No order was completed", "only one day with a value", "This period is not over", "100,000.00 USD"):
        assert text in shown
    assert "NaN" not in shown


def test_hostile_names_are_only_text(trader: Trader) -> None:
    """The account and its strategy are called like a script and a formula."""
    strategy = uuid4()
    with trader.system.contexts["orders"].engine.begin() as connection:
        connection.exec_driver_sql(_NAME, (HOSTILE, trader.account_id))
    with trader.system.contexts["strategy"].engine.begin() as connection:
        connection.exec_driver_sql(_ADD_STRATEGY, (strategy, HOSTILE, uuid4()))
    trader.filled("100")
    with trader.system.contexts["orders"].engine.begin() as connection:
        for table in ("orders", "trades", "lots"):
            sql = f"UPDATE orders.{table} SET strategy_id = %s WHERE account_id = %s"
            connection.exec_driver_sql(sql, (strategy, trader.account_id))
    shown = page(trader)
    assert "<script" not in shown
    assert shown.count("&lt;script&gt;") >= 3  # the title, the account and its strategy
    (trade,) = book(trader, "trades")
    assert trade["strategy"] == f"'{HOSTILE}"


def test_the_books_are_csv_of_all_pages(trader: Trader, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same rows as the JSON lists, whatever the size of a page. A negative amount stays a number."""
    monkeypatch.setattr(books, "PAGE", 2)
    for _ in range(2):
        trader.filled("100")
        trader.filled("101", side="sell")
    trades, ledger = book(trader, "trades"), book(trader, "ledger")
    listed = trader.ask("GET", "/api/account/trades").json()["items"]
    assert [each["order_id"] for each in trades] == [each["order_id"] for each in listed]
    assert {(each["currency"], each["account_currency"]) for each in trades} == {("USD", "USD")}
    entries = trader.ask("GET", "/api/account/ledger").json()["items"]
    assert [(each["id"], each["cash"]) for each in ledger] == [(str(each["id"]), each["cash"]) for each in entries]
    assert ledger[-1]["kind"] == "deposit"
    assert any(each["cash"].startswith("-") for each in ledger)
    later = {"from": (utc_now() + timedelta(days=1)).isoformat()}
    assert book(trader, "trades", **later) == []
    of_admin = trader.client.get(f"/api/accounts/{trader.account_id}/ledger.csv", headers=KEY)
    assert len(of_admin.text.splitlines()) == 1 + len(ledger)
    assert trader.client.get(f"/api/accounts/{uuid4()}/trades.csv", headers=KEY).status_code == 404


def test_the_periods_are_listed_in_pages_and_each_has_its_report(trader: Trader) -> None:
    """From the present one back to that in which the account was opened, 20 days ago."""
    with_history(trader)
    found: list[dict[str, Any]] = []
    query: dict[str, Any] = {"limit": 7}
    while True:
        answer = trader.ask("GET", "/api/account/reports", params=query).json()
        found += answer["items"]
        if answer["next"] is None:
            break
        query["cursor"] = answer["next"]
    kinds = [each["period"] for each in found]
    assert (kinds.count("daily"), kinds.count("weekly") in {3, 4}, kinds.count("monthly") in {1, 2}) == (21, True, True)
    assert len({(each["period"], each["day"]) for each in found}) == len(found)
    assert [each["day"] for each in found] == sorted((each["day"] for each in found), reverse=True)
    assert {each["finished"] for each in found[:3]} == {False}
    only = trader.ask("GET", "/api/account/reports", params={"period": "weekly"}).json()["items"]
    assert {each["period"] for each in only} == {"weekly"}
    for each in only:
        asked = report(trader, period="weekly", **{"from": each["from"], "to": each["to"]})
        assert (asked["last_day"], asked["first_day"]) == (each["day"], each["first_day"])
        assert asked["finished"] == each["finished"]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"period": "yearly"}, "period"),
        ({"period": "custom", "from": "2026-01-02", "to": "2026-01-01"}, "to"),
        ({"from": "yesterday"}, "from"),
        ({"from": "2026-02-30"}, "from"),
        ({"from": "2199-01-01"}, "from"),
        ({"from": "1999-01-01"}, "from"),
        ({"to": "1999-01-01"}, "to"),
        ({"format": "pdf"}, "format"),
        ({"generation": "0"}, "generation"),
    ],
)
def test_a_wrong_query_is_refused_by_name(trader: Trader, query: dict[str, Any], field: str) -> None:
    answer = trader.ask("GET", "/api/account/report", params=query)
    assert (answer.status_code, field in answer.json()["detail"]) == (422, True), answer.text
