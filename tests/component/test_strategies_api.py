"""Strategies over HTTP: created, started, changed, paused, flattened and cloned, and their decisions explained."""

from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any
from uuid import UUID, uuid4

import pytest
from starlette.testclient import TestClient

from embedded.system import System
from services.marketdata.jobs import jobs as marketdata_jobs
from services.strategy.jobs import jobs
from shared.clock import utc_now
from shared.jobs.run_context import RunContext
from shared.performance import figures
from tests.component.http_trader import KEY, Trader, open_account, push
from tests.support import eventually, rows

CROSSOVER = {
    "name": "cross",
    "kind": "sma_crossover",
    "parameters": {"fast": 2, "slow": 3},
    "symbols": ["AAPL"],
    "interval": "1m",
    "sizing": {"kind": "qty", "value": "10"},
}
ABOVE = {"left": {"price": "close"}, "op": ">", "right": 50}
RULES = {"name": "rules", "rules": {"long": {"entry": ABOVE}}, "symbols": ["AAPL"], "interval": "1m"}


def trading_key(client: TestClient, trader: Trader) -> dict[str, str]:
    """A key of the trader's account that may trade and nothing else."""
    asked = {"name": "trade", "scopes": ["trade"]}
    key = client.post(f"/api/accounts/{trader.account_id}/keys", json=asked, headers=KEY).json()
    return {"APCA-API-KEY-ID": key["key_id"], "APCA-API-SECRET-KEY": key["secret_key"]}


class Desk:
    """A trader with the paths of strategies."""

    def __init__(self, system: System, client: TestClient, trader: Trader) -> None:
        self.system, self.client, self.trader = system, client, trader
        self.key = trading_key(client, trader)

    def ask(self, method: str, path: str = "", **options: Any) -> Any:
        return self.client.request(method, f"/api/strategies{path}", headers=self.key, **options)

    def create(self, body: dict[str, Any] = CROSSOVER, **changes: Any) -> Any:
        answer = self.ask("POST", json={**body, **changes})
        assert answer.status_code == 201, answer.text
        return answer.json()

    def refused(self, body: dict[str, Any] = CROSSOVER, **changes: Any) -> tuple[int, str | None, str]:
        answer = self.ask("POST", json={**body, **changes})
        return answer.status_code, answer.json().get("field"), answer.json()["detail"]

    def decide(self) -> None:
        """Run trading_bot once, and wait for its orders."""
        context = self.system.contexts["strategy"]
        jobs.declared["trading_bot"].run(RunContext(uuid4(), context, context.clock(), {}))


@pytest.fixture
def desk(market: System, visitor: TestClient) -> Iterator[Desk]:
    """A trader, and bars whose averages cross at the last one."""
    trader = open_account(market, visitor)
    now = utc_now().replace(second=0, microsecond=0)
    with market.contexts["marketdata"].engine.begin() as connection:
        connection.exec_driver_sql("DELETE FROM marketdata.market_data WHERE interval = '1m'")
        for number, close in enumerate((100, 100, 99, 98, 104)):
            given = {"at": now - timedelta(minutes=6 - number), "c": close}
            connection.exec_driver_sql(
                "INSERT INTO marketdata.market_data"
                " SELECT 'AAPL', '1m', %(at)s, %(c)s, %(c)s, %(c)s, %(c)s, 1000, 'test'",
                given,
            )
    desk = Desk(market, visitor, trader)
    yield desk
    for each in desk.ask("GET").json()["items"]:
        desk.ask("POST", f"/{each['id']}/stop")
    assert trader.books_hold()


def test_a_strategy_is_created_started_and_trades_and_its_order_says_why(desk: Desk, market: System) -> None:
    """From the request to the filled order, and the order's reasons in sentences."""
    made = desk.create()
    path = f"/{made['id']}"
    assert (made["state"], made["version"], made["parameters"]) == ("created", 1, {"fast": 2, "slow": 3})
    assert made["account_id"] == str(desk.trader.account_id)
    desk.decide()
    assert desk.ask("GET", f"{path}/decisions").json()["items"] == []
    assert desk.ask("POST", f"{path}/start").json()["state"] == "running"
    desk.decide()
    (decision,) = desk.ask("GET", f"{path}/decisions").json()["items"]
    assert (decision["outcome"], decision["side"], decision["qty"]) == ("ordered", "buy", "10")
    (condition,) = decision["conditions"]
    assert (condition["text"], condition["holds"]) == ("fast crosses above slow", True)
    (signal,) = desk.ask("GET", f"{path}/signals").json()["items"]
    assert (signal["type"], signal["action"], signal["order_id"]) == ("enter_long", "buy", decision["order_id"])
    order_path = f"/api/orders/{decision['order_id']}/why"
    eventually(lambda: "accepted" in desk.client.get(order_path, headers=desk.key).text)
    push(market, "100")
    eventually(lambda: "is filled" in desk.client.get(order_path, headers=desk.key).text)
    why = desk.client.get(order_path, headers=desk.key).json()
    told = " ".join(why["sentences"])
    for part in (
        "The strategy cross (sma_crossover, version 1) decided at",
        "to buy AAPL: The fast average crossed above the slow one.",
        "fast crosses above slow: yes, fast was 101,",
        "It ordered to buy 10.",
        "The order is filled: 10 of 10 at ",
    ):
        assert part in told
    held = desk.ask("GET", f"{path}/performance").json()
    assert (held["round_trips"], held["open_positions"], held["win_rate"]) == (0, 1, None)
    assert desk.ask("POST", f"{path}/flatten").json()["state"] == "running"
    eventually(lambda: [each["side"] for each in desk.trader.get("/orders")] == ["sell"])
    push(market, "101")
    eventually(lambda: desk.ask("GET", f"{path}/performance").json()["round_trips"] == 1)
    done = desk.ask("GET", f"{path}/performance").json()
    assert (done["open_positions"], done["win_rate"]) == (0, 1.0)


def with_days(desk: Desk, strategy_id: str) -> list[Any]:
    """Ten days of a strategy and its account: it buys at 100 on the second, and sells half at 110 on the fourth."""
    account, now = desk.trader.account_id, utc_now()
    days = [(now - timedelta(days=10 - n)).replace(hour=21, minute=0) for n in range(9)]
    with desk.system.contexts["orders"].engine.begin() as connection:
        connection.exec_driver_sql(_AGE_DEPOSIT, (days[0] - timedelta(hours=1), account))
        connection.exec_driver_sql(_ADD_TRIP, (account, days[1], days[3], strategy_id, strategy_id))
        connection.exec_driver_sql(_ADD_LOT, (account, days[1], strategy_id))
    with desk.system.contexts["strategy"].engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE strategy.strategies SET created_at = %s WHERE id = %s", (days[0], strategy_id)
        )
    with desk.system.contexts["valuation"].engine.begin() as connection:
        for at in days:
            connection.exec_driver_sql(_ADD_SUMMARY, (account, at))
    with desk.system.contexts["marketdata"].engine.begin() as connection:
        for at, close in zip(days, CLOSES, strict=True):
            start = at.replace(hour=0, second=0, microsecond=0)
            connection.exec_driver_sql(_ADD_DAY, (start, close, close, close, close))
            connection.exec_driver_sql(_ADD_BENCHMARK, (start, close, close, close, close))
    return days


CLOSES = (100, 100, 104, 110, 108, 96, 99, 120, 118)
_AGE_STRATEGY = "UPDATE strategy.strategies SET created_at = %s WHERE id = %s"
_AGE_DEPOSIT = "UPDATE orders.ledger SET at = %s WHERE account_id = %s AND kind = 'deposit'"
_ADD_TRIP = """
INSERT INTO orders.round_trips (account_id, id, symbol, qty, entry_fill_id, exit_fill_id, opened_at, closed_at, cost,
  proceeds, realized_pl, strategy_id, entry_strategy_id)
VALUES (%s, gen_random_uuid(), 'AAPL', 50, gen_random_uuid(), gen_random_uuid(), %s, %s, 5000, 5500, 500, %s, %s)
"""
_ADD_LOT = """
INSERT INTO orders.lots (account_id, symbol, fill_id, opened_at, qty, cost, strategy_id)
VALUES (%s, 'AAPL', gen_random_uuid(), %s, 50, 5000, %s)
"""
_ADD_SUMMARY = """
INSERT INTO valuation.account_summaries
  (account_id, run_id, at, cash, market_value, equity, unrealized_pl, positions, generation, long_value, short_value,
   net_deposits, day_pl, growth, peak_growth, peak_equity)
VALUES (%s, gen_random_uuid(), %s, 0, 0, 100000, 0, 0, 1, 0, 0, 100000, 0, 1, 1, 0)
"""
_ADD_DAY = """
INSERT INTO marketdata.market_data VALUES ('AAPL', '1d', %s, %s, %s, %s, %s, 1, 'test') ON CONFLICT DO NOTHING
"""
_ADD_BENCHMARK = _ADD_DAY.replace("AAPL", "MSFT")


def test_the_performance_of_a_strategy_has_the_figures_of_its_own_equity(desk: Desk) -> None:
    """The account stands still: what it earned elsewhere is not the strategy's. Its own days are added up by hand."""
    strategy_id = desk.create(name="own")["id"]
    days = with_days(desk, strategy_id)
    query = {"benchmark": "msft", "to": days[-1].isoformat()}
    try:
        found = desk.ask("GET", f"/{strategy_id}/performance", params=query).json()
    finally:
        with desk.system.contexts["orders"].engine.begin() as connection:
            for table in ("round_trips", "lots"):
                connection.exec_driver_sql(
                    f"DELETE FROM orders.{table} WHERE account_id = %s", (desk.trader.account_id,)
                )
        with desk.system.contexts["marketdata"].engine.begin() as connection:
            connection.exec_driver_sql("DELETE FROM marketdata.market_data WHERE interval = '1d'")

    profits = [0, 0, 400, 500 + 500, 500 + 400, 500 - 200, 500 - 50, 500 + 1000, 500 + 900]
    points = [(at, Decimal(100_000 + profit)) for at, profit in zip(days, profits, strict=True)]
    others = [after / before - 1 for before, after in pairwise(CLOSES)]
    expected = figures(points, periods=365, benchmark=others)
    assert (found["begin_equity"], found["end_equity"], found["round_trips"]) == ("100000", "101400", 1)
    assert (found["from"], found["benchmark"], found["periods"]) == (days[0].isoformat()[:26] + "Z", "MSFT", 8)
    for name in ("sharpe", "sortino", "volatility", "max_drawdown", "calmar", "alpha", "beta", "annual_return",
                 "money_weighted_return", "longest_drawdown_days"):  # fmt: skip
        assert found[name] == pytest.approx(getattr(expected, name), rel=1e-9), name
    assert found["time_weighted_return"] == pytest.approx(0.014)
    assert found["exposure"] == pytest.approx(5000 * (2 + 7) / 8 / (100_000 + 5950 / 9))
    assert (found["realized_pl"], found["win_rate"], found["expectancy"], found["open_positions"]) == ("500", 1, 500, 1)
    for unknown in ({"benchmark": "NONE"}, {"generation": 2}):
        assert desk.ask("GET", f"/{strategy_id}/performance", params=unknown).status_code == 422


def test_an_order_by_hand_has_no_strategy(desk: Desk) -> None:
    order = desk.trader.ask("POST", "/orders", json=_ORDER).json()
    why = desk.client.get(f"/api/orders/{order['id']}/why", headers=desk.key).json()
    assert why["strategy_id"] is None
    assert why["sentences"][0] == "No strategy sent the order: it came through the API."
    assert why["sentences"][1] == "It asks to buy 1 AAPL by a limit order at a limit of 1."
    assert desk.client.get(f"/api/orders/{uuid4()}/why", headers=desk.key).status_code == 404
    desk.trader.ask("DELETE", "/orders")


def told(desk: Desk, order_id: str) -> list[str]:
    sentences: list[str] = desk.client.get(f"/api/orders/{order_id}/why", headers=desk.key).json()["sentences"]
    return sentences


def test_a_leg_a_replacement_and_a_liquidation_say_what_they_are(desk: Desk) -> None:
    exits = {"take_profit": {"limit_price": "3"}, "stop_loss": {"stop_price": "0.5"}, "order_class": "bracket"}
    entry = desk.trader.ask("POST", "/orders", json={**_ORDER, **exits, "time_in_force": "gtc"}).json()
    (loss,) = [leg for leg in entry["legs"] if leg["type"] == "stop"]
    assert told(desk, loss["id"])[1:3] == [
        "It asks to sell 1 AAPL by a stop order with a stop at 0.5.",
        f"It is the stop loss of the bracket of the order {entry['id']}.",
    ]
    desk.trader.ask("DELETE", f"/orders/{entry['id']}")

    chain = [desk.trader.ask("POST", "/orders", json=_ORDER).json()["id"]]
    for qty in ("2", "3"):
        answer = desk.trader.ask("PATCH", f"/orders/{chain[-1]}", json={"qty": qty})
        assert answer.status_code == 200, answer.text
        chain.append(answer.json()["id"])
    assert f"It replaces the order {chain[1]}, which was changed through the API." in told(desk, chain[2])
    assert f"The order {chain[1]} has replaced it." in told(desk, chain[0])
    made = desk.create(name="first")
    with desk.system.contexts["strategy"].engine.begin() as connection:
        connection.exec_driver_sql(_ADD_DECISION, (made["id"], utc_now(), chain[0]))
    assert told(desk, chain[2])[0].startswith("The strategy first (sma_crossover, version 1) decided at")

    with desk.system.contexts["orders"].engine.begin() as connection:
        connection.exec_driver_sql("UPDATE orders.orders SET liquidation = true WHERE id = %s", (loss["id"],))
    assert told(desk, loss["id"])[0] == "No strategy sent the order: it is the liquidation of a margin call."


_ADD_DECISION = """
INSERT INTO strategy.decisions (strategy_id, run_id, symbol, at, version, action, outcome, reason, qty, order_id, side)
VALUES (%s, gen_random_uuid(), 'AAPL', %s, 1, 'buy', 'ordered', 'It was time.', 1, %s, 'buy')
"""


_ORDER = {"symbol": "AAPL", "qty": "1", "side": "buy", "type": "limit", "limit_price": "1", "time_in_force": "day"}


@pytest.mark.parametrize(
    ("body", "changes", "status", "field"),
    [
        (CROSSOVER, {"kind": "sma_crossower"}, 422, "kind"),
        (CROSSOVER, {"kind": None}, 422, "kind"),
        (CROSSOVER, {"rules": RULES["rules"]}, 422, "rules"),
        (CROSSOVER, {"parameters": {"fast": 1, "slow": 3}}, 422, "parameters.fast"),
        (CROSSOVER, {"parameters": {"fast": 5, "slow": 3}}, 422, "parameters.slow"),
        (CROSSOVER, {"parameters": {"fats": 5}}, 422, "parameters.fats"),
        (CROSSOVER, {"parameters": {"fast": "\0"}}, 422, "parameters"),
        (CROSSOVER, {"symbols": ["AAPL", "NOSUCH"]}, 422, "symbols"),
        (CROSSOVER, {"symbols": []}, 422, "symbols"),
        (CROSSOVER, {"symbols": ["AAPL", "AAPL"]}, 422, "symbols"),
        (CROSSOVER, {"interval": "7m"}, 422, "interval"),
        (CROSSOVER, {"interval": "15m"}, 422, "interval"),
        (CROSSOVER, {"schedule": "sometimes"}, 422, "schedule"),
        (CROSSOVER, {"sizing": {"kind": "luck"}}, 422, "sizing.kind"),
        (CROSSOVER, {"protections": {"max_drawdown": 2}}, 422, "protections.max_drawdown"),
        (CROSSOVER, {"account_id": str(uuid4())}, 403, None),
        (RULES, {"rules": {}}, 422, "rules.long"),
        (RULES, {"rules": {"long": {"entry": {**ABOVE, "right": {"indicator": "smaa"}}}}}, 422, None),
        (RULES, {"rules": {"long": {"entry": {"ref": "no"}}}}, 422, "rules.long.entry"),
        (
            RULES,
            {"rules": {"long": {"entry": {**ABOVE, "left": {"price": "clsoe"}}}}},
            422,
            "rules.long.entry.left.price",
        ),
        (CROSSOVER, {"kind": "pairs", "parameters": {"first": "AAPL", "second": "IBM"}}, 422, "parameters.second"),
        (CROSSOVER, {"kind": "target_allocation", "parameters": {"weights": {"IBM": 1}}}, 422, "parameters.weights"),
        (
            RULES,
            {"rules": {"long": {"entry": {"ref": "a"}}, "define": {"a": {"ref": "b"}, "b": {"ref": "a"}}}},
            422,
            None,
        ),
    ],
)
def test_a_wrong_strategy_is_refused_with_the_wrong_field(
    desk: Desk, body: dict[str, Any], changes: dict[str, Any], status: int, field: str | None
) -> None:
    answer = desk.refused(body, **changes)
    assert answer[0] == status, answer
    assert field is None or answer[1] == field, answer
    assert desk.ask("GET").json()["items"] == []


def test_misspelt_indicators_and_cycles_are_named(desk: Desk) -> None:
    misspelt = {"long": {"entry": {**ABOVE, "right": {"indicator": "smaa"}}}}
    assert "sma" in desk.refused(RULES, rules=misspelt)[2]
    cycle = {"long": {"entry": {"ref": "a"}}, "define": {"a": {"ref": "b"}, "b": {"ref": "a"}}}
    assert "form a cycle" in desk.refused(RULES, rules=cycle)[2]


def test_changed_parameters_are_a_new_version_which_decisions_name(desk: Desk) -> None:
    """A change of the name or the note is none. Parameters that are not named stay."""
    made = desk.create()
    path = f"/{made['id']}"
    desk.ask("POST", f"{path}/start")
    desk.decide()
    renamed = desk.ask("PATCH", path, json={"name": "crossing", "note": "my first"}).json()
    assert (renamed["version"], renamed["name"], renamed["note"]) == (1, "crossing", "my first")
    changed = desk.ask("PATCH", path, json={"parameters": {"slow": 4}}).json()
    assert (changed["version"], changed["parameters"]) == (2, {"fast": 2, "slow": 4})
    desk.decide()
    decided = [each["version"] for each in desk.ask("GET", f"{path}/decisions").json()["items"]]
    assert decided == [2, 1]
    versions = desk.ask("GET", f"{path}/versions").json()["items"]
    assert [each["terms"]["parameters"]["slow"] for each in versions] == [4, 3]
    wrong = desk.ask("PATCH", path, json={"parameters": {"slow": 1}})
    assert (wrong.status_code, wrong.json()["field"]) == (422, "parameters.slow")
    assert desk.ask("PATCH", path, json={}).status_code == 422
    assert desk.ask("PATCH", path, json={"rules": RULES["rules"]}).status_code == 422


def test_states_follow_the_actions(desk: Desk) -> None:
    """An action that does not fit the state is a conflict, and one that changes nothing succeeds."""
    path = f"/{desk.create()['id']}"
    assert desk.ask("POST", f"{path}/pause").status_code == 409
    for action, state in (("start", "running"), ("start", "running"), ("pause", "paused"), ("resume", "running")):
        assert desk.ask("POST", f"{path}/{action}").json()["state"] == state
    paused = desk.ask("POST", f"{path}/pause", json={"reason": "holidays"}).json()
    assert paused["state_reason"] == "holidays"
    assert desk.ask("POST", f"{path}/start").status_code == 409
    assert desk.ask("POST", f"{path}/stop").json()["state"] == "stopped"
    assert desk.ask("POST", f"{path}/start").json()["state_reason"] is None
    assert desk.ask("POST", f"/{uuid4()}/start").status_code == 404


def test_a_name_is_taken_once_on_an_account_and_a_clone_gets_another(desk: Desk) -> None:
    made = desk.create(RULES)
    assert made["rules"] == RULES["rules"]
    assert desk.refused(RULES)[:2] == (409, "name")
    copy = desk.ask("POST", f"/{made['id']}/clone")
    assert copy.status_code == 201
    assert (copy.json()["name"], copy.json()["state"], copy.json()["rules"]) == ("rules-copy", "created", made["rules"])
    assert desk.ask("POST", f"/{made['id']}/clone", json={"name": "rules"}).status_code == 409


def test_others_see_a_strategy_only_if_they_may_operate(desk: Desk, market: System, visitor: TestClient) -> None:
    made = desk.create()
    other = trading_key(visitor, open_account(market, visitor))
    path = f"/api/strategies/{made['id']}"
    assert visitor.get(path, headers=other).status_code == 404
    assert visitor.post(f"{path}/start", headers=other).status_code == 404
    assert visitor.get("/api/strategies", headers=other).json()["items"] == []
    assert visitor.get(path, headers=KEY).json()["name"] == "cross"
    assert made["id"] in {each["id"] for each in visitor.get("/api/strategies", headers=KEY).json()["items"]}
    statement = "SELECT what FROM jobs.operator_actions WHERE subject = 'cross' ORDER BY at DESC LIMIT 1"
    assert [row.what for row in rows(market.contexts["gateway"].engine, statement)] == ["create_strategy"]


def test_the_kinds_have_the_schemas_of_their_parameters(desk: Desk) -> None:
    kinds = {each["kind"]: each for each in desk.ask("GET", "/kinds").json()["kinds"]}
    assert {"sma_crossover", "rules", "buy_and_hold", "pairs"} <= set(kinds)
    assert {"fast", "slow"} <= set(kinds["sma_crossover"]["schema"]["properties"])
    assert all(each["source"] and each["title"] for each in kinds.values())


def test_the_indicators_that_it_reads_are_kept_while_it_runs(desk: Desk, market: System) -> None:
    """An operator who names one of them keeps it beyond that."""
    job, context = marketdata_jobs.declared["update_indicators"], market.contexts["marketdata"]

    def kept() -> list[tuple[dict[str, str], bool, bool]]:
        job.run(RunContext(uuid4(), context, context.clock(), {}))
        asked = {"symbol": "AAPL", "interval": "1m", "name": "sma"}
        items = desk.client.get("/api/indicators", params=asked, headers=KEY).json()["items"]
        found = [(each["parameters"], each["by_hand"], each["by_strategies"]) for each in items]
        return sorted(found, key=lambda each: each[0]["period"])

    path = f"/{desk.create()['id']}"
    assert kept() == []
    desk.ask("POST", f"{path}/start")
    assert kept() == [({"period": "2"}, False, True), ({"period": "3"}, False, True)]
    named = {"symbol": "AAPL", "interval": "1m", "name": "sma", "parameters": {"period": 2}}
    assert desk.client.post("/api/indicators", json=named, headers=KEY).json()["by_hand"] is True
    eventually(lambda: kept()[0] == ({"period": "2"}, True, True))
    desk.ask("POST", f"{path}/pause")
    assert kept() == [({"period": "2"}, True, False)]


def test_unknown_ids_are_not_found(desk: Desk) -> None:
    unknown = UUID(int=7)
    for path in ("", "/decisions", "/signals", "/performance", "/versions"):
        assert desk.ask("GET", f"/{unknown}{path}").status_code == 404
