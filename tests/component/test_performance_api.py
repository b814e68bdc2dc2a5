"""Performance over HTTP: from the account's history, fills and round trips, held against the pure figures."""

from datetime import datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any
from uuid import uuid4

import pytest

from services.valuation.jobs import jobs
from shared.clock import utc_now
from shared.jobs.run_context import RunContext
from shared.performance import figures
from tests.component.http_trader import KEY, Trader, push
from tests.support import eventually

_ADD = """
INSERT INTO valuation.account_summaries
  (account_id, run_id, at, cash, market_value, equity, unrealized_pl, positions, generation, long_value, short_value,
   net_deposits, day_pl, growth, peak_growth, peak_equity)
VALUES (%s, gen_random_uuid(), %s, 0, 0, %s, 0, 0, 1, %s, 0, 100000, 0, 1, 1, 0)
"""
_AGE = "UPDATE orders.ledger SET at = at - interval '20 days' WHERE account_id = %s AND kind = 'deposit'"
_ADD_BAR = """
INSERT INTO marketdata.market_data VALUES ('MSFT', '1d', %s, %s, %s, %s, %s, 1, 'test') ON CONFLICT DO NOTHING
"""
EQUITIES = (100_000, 101_000, 99_000, 102_000, 100_500, 103_000)
REVERSED = {"start": "2026-11-20", "end": "2026-11-10"}
CLOSES = (50, 51, 49, 52, 50, 53)


def with_history(trader: Trader) -> list[tuple[datetime, Decimal]]:
    """Six days of the account and of a benchmark, after the account was opened 20 days ago."""
    noon = utc_now().replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=10)
    points = [(noon + timedelta(days=number), Decimal(each)) for number, each in enumerate(EQUITIES)]
    with trader.system.contexts["orders"].engine.begin() as connection:
        connection.exec_driver_sql(_AGE, (trader.account_id,))
    with trader.system.contexts["valuation"].engine.begin() as connection:
        for at, equity in points:
            connection.exec_driver_sql(_ADD, (trader.account_id, at, equity, equity / 2))
    with trader.system.contexts["marketdata"].engine.begin() as connection:
        for (at, _), close in zip(points, CLOSES, strict=True):
            start = at.replace(hour=0)
            connection.exec_driver_sql(_ADD_BAR, (start, close, close, close, close))
    return points


def stretch(points: list[tuple[datetime, Decimal]]) -> dict[str, str]:
    return {"from": points[0][0].isoformat(), "to": points[-1][0].isoformat()}


def test_the_figures_are_those_of_the_history(trader: Trader) -> None:
    """The same as the pure code gives for these values, against the benchmark's closes of the same days."""
    points = with_history(trader)
    found = trader.ask("GET", "/api/account/performance", params={**stretch(points), "benchmark": "msft"}).json()
    others = [after / before - 1 for before, after in pairwise(CLOSES)]
    expected = figures(points, periods=365, benchmark=others)
    shown = found["figures"]
    for name in ("sharpe", "sortino", "volatility", "max_drawdown", "calmar", "alpha", "beta", "annual_return"):
        assert shown[name] == pytest.approx(getattr(expected, name), rel=1e-9), name
    assert shown["time_weighted_return"] == pytest.approx(0.03)
    assert shown["benchmark_return"] == pytest.approx(53 / 50 - 1)
    assert shown["exposure"] == pytest.approx(0.5)
    assert (found["begin_equity"], found["end_equity"], found["net_deposits"]) == ("100000", "103000", "0")
    of_admin = trader.client.get(f"/api/accounts/{trader.account_id}/performance", params=stretch(points), headers=KEY)
    assert of_admin.json()["figures"]["sharpe"] == shown["sharpe"]
    assert (of_admin.json()["figures"]["beta"], of_admin.json()["benchmark"]) == (None, None)


def test_a_new_account_has_no_ratios_and_no_nan(trader: Trader) -> None:
    """What is not defined is null: JSON has no NaN."""
    answer = trader.ask("GET", "/api/account/performance")
    assert "NaN" not in answer.text
    shown = answer.json()["figures"]
    assert (shown["sharpe"], shown["win_rate"], shown["profit_factor"], shown["trades"]) == (None, None, None, 0)
    assert (shown["time_weighted_return"], answer.json()["end_equity"]) == (0, "100000")


def test_trading_is_told_by_symbol(trader: Trader) -> None:
    """A round trip with a profit, and one with a loss, each with what it paid against the quote."""
    for symbol, bought, sold in (("AAPL", "100", "110"), ("MSFT", "50", "45")):
        trader.filled(bought, symbol=symbol)
        trader.filled(sold, symbol=symbol, side="sell")
    found = trader.ask("GET", "/api/account/performance", params={"by": "symbol"}).json()
    assert [group["group"] for group in found["groups"]] == ["AAPL", "MSFT"]
    first, second = found["groups"]
    assert (first["trades"], first["win_rate"], first["profit_factor"]) == (1, 1, None)
    assert Decimal(first["realized_pl"]) == 10 * (Decimal("109.99") - Decimal("100.01"))
    assert Decimal(second["realized_pl"]) == 10 * (Decimal("44.99") - Decimal("50.01"))
    whole = found["figures"]
    assert (whole["trades"], whole["win_rate"]) == (2, 0.5)
    assert whole["expectancy"] == pytest.approx((99.8 - 50.2) / 2)
    assert (Decimal(whole["bought"]), Decimal(whole["slippage"])) == (Decimal("1500.2"), Decimal(0))
    (none,) = trader.ask("GET", "/api/account/performance", params={"by": "strategy"}).json()["groups"]
    assert (none["group"], none["trades"]) == ("none", 2)


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"benchmark": "NOSUCH"}, "benchmark"),
        ({"by": "month"}, "by"),
        ({"from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z"}, "to"),
        ({"from": "yesterday"}, "from"),
        ({"generation": "0"}, "generation"),
    ],
)
def test_a_wrong_query_is_refused_by_name(trader: Trader, query: dict[str, Any], field: str) -> None:
    answer = trader.ask("GET", "/api/account/performance", params=query)
    assert (answer.status_code, field in answer.json()["detail"]) == (422, True)


def test_an_earlier_generation_ended_with_the_reset_and_has_no_open_profit(trader: Trader) -> None:
    """The position of the present generation is not its own. A generation that is yet to come is refused."""
    trader.filled("100")
    snapshot(trader)
    reset = trader.client.post("/api/account/reset", json={"cash": "5000"}, headers=trader.key).json()
    trader.filled("100")
    push(trader.system, "103")
    before = trader.ask("GET", "/api/account/performance", params={"generation": 1, "by": "symbol"}).json()
    assert datetime.fromisoformat(before["to"]) == datetime.fromisoformat(reset["reset_at"])
    assert (before["figures"]["unrealized_pl"], before["groups"][0]["unrealized_pl"]) == ("0", "0")
    report = trader.ask("GET", "/api/account/report", params={"period": "custom", "generation": 1}).json()
    assert (report["figures"]["unrealized_pl"], report["strategies"][0]["unrealized_pl"]) == ("0", "0")
    present = trader.ask("GET", "/api/account/performance", params={"generation": 2}).json()
    assert present["figures"]["unrealized_pl"] == "29.9"
    for path in ("performance", "report"):
        refused = trader.client.get(f"/api/account/{path}", params={"generation": 3}, headers=trader.key)
        assert (refused.status_code, refused.json()["field"]) == (422, "generation")


def test_positions_have_realized_and_open_profit_and_the_age_of_their_price(trader: Trader) -> None:
    """Ten shares are bought at 100.01, four of them are sold at 102.99, and the price goes to 102 and grows old."""
    trader.filled("100")
    trader.filled("103", side="sell", qty="4")
    push(trader.system, "102")
    found = trader.ask("GET", "/api/account/positions").json()
    (held,) = found["positions"]
    assert (held["symbol"], held["qty"], held["side"], held["market_value"]) == ("AAPL", "6", "long", "612")
    assert (held["unrealized_pl"], held["realized_pl"], held["day_pl"]) == ("11.94", "11.92", "11.94")
    assert (held["stale"], found["stale_positions"], found["unrealized_pl"]) == (False, 0, "11.94")
    with trader.system.contexts["marketdata"].engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE marketdata.instruments SET quoted_at = quoted_at - interval '1 hour', delayed = false"
            " WHERE symbol = 'AAPL'"
        )
    of_admin = trader.client.get(f"/api/accounts/{trader.account_id}/positions", headers=KEY).json()
    assert (of_admin["positions"][0]["stale"], of_admin["stale_positions"]) == (True, 1)
    assert trader.client.get(f"/api/accounts/{uuid4()}/positions", headers=KEY).status_code == 404
    with trader.system.contexts["marketdata"].engine.begin() as connection:
        connection.exec_driver_sql("UPDATE marketdata.instruments SET quoted_at = now() WHERE symbol = 'AAPL'")


def test_the_equity_is_listed_in_pages(trader: Trader) -> None:
    points = with_history(trader)
    first = trader.ask("GET", "/api/account/equity", params={"limit": 4}).json()
    second = trader.ask("GET", "/api/account/equity", params={"limit": 4, "cursor": first["next"]}).json()
    found = [Decimal(item["equity"]) for item in first["items"] + second["items"]]
    assert found == [equity for _, equity in reversed(points)]


def test_portfolio_history_has_alpacas_shape(trader: Trader) -> None:
    """Numbers, not text, and none of them null. The first value before the time is the base."""
    points = with_history(trader)
    asked = {"start": (points[0][0] + timedelta(hours=1)).isoformat(), "timeframe": "1D", "cashflow_types": "ALL"}
    found = trader.get("/account/portfolio/history", **asked)
    assert found["equity"] == [float(each) for each in EQUITIES[1:]]
    assert found["profit_loss"] == [float(each - 100_000) for each in EQUITIES[1:]]
    assert found["profit_loss_pct"][-1] == 0.03
    assert (found["base_value"], found["base_value_asof"]) == (100_000.0, points[0][0].date().isoformat())
    assert found["timestamp"] == [int(at.replace(hour=0).timestamp()) for at, _ in points[1:]]
    assert found["cashflow"] == {"CSD": [0.0] * 5, "CSW": [0.0] * 5}
    assert trader.get("/account/portfolio/history", period="1D")["timeframe"] == "1Min"
    for wrong in ({"period": "1X"}, {"end": "0057-09-03", "period": "all"}, {"timeframe": "2Min"}, REVERSED):
        assert trader.refused("GET", "/account/portfolio/history", params=wrong)[0] == 422


def test_thresholds_are_stored_and_raise_the_alerts_of_the_account(trader: Trader) -> None:
    """They are read back, watched by the next snapshot, and its alert is listed until it recovers."""
    rules = {"concentration": "0.005", "profit_and_loss": [{"amount": "5000", "window": 60}]}
    answer = trader.client.put(f"/api/accounts/{trader.account_id}/alert-rules", json=rules, headers=KEY)
    assert answer.status_code == 202, answer.text
    stored = eventually(lambda: (got := rules_of(trader))["concentration"] and got, what="the rules are stored")
    assert (stored["concentration"], stored["recovery"]) == ("0.005", "0.2")
    trader.filled("100")
    snapshot(trader)
    (raised,) = trader.ask("GET", "/api/account/alerts", params={"open": "true"}).json()["items"]
    assert (raised["kind"], raised["recovered_at"]) == ("concentration", None)
    trader.filled("100", side="sell")
    push(trader.system, "100")
    snapshot(trader)
    assert trader.ask("GET", "/api/account/alerts", params={"open": "true"}).json()["items"] == []
    (ended,) = trader.ask("GET", "/api/account/alerts").json()["items"]
    assert ended["recovered_at"] is not None
    wrong = trader.client.put(f"/api/accounts/{trader.account_id}/alert-rules", json={"drawdown": "2"}, headers=KEY)
    assert (wrong.status_code, "drawdown" in wrong.text) == (422, True)


def rules_of(trader: Trader) -> Any:
    return trader.ask("GET", "/api/account/alert-rules").json()


def snapshot(trader: Trader) -> None:
    context = trader.system.contexts["valuation"]
    jobs.declared["snapshot_accounts"].run(RunContext(uuid4(), context, context.clock(), {}))
