"""Risk limits over HTTP: set, shown with figure and limit, and the end of a halt."""

from uuid import uuid4

from starlette.testclient import TestClient

from embedded.system import System
from services.valuation.jobs import jobs
from shared.jobs.run_context import RunContext
from tests.component.http_trader import KEY, Trader, push
from tests.component.test_strategies_api import CROSSOVER, trading_key
from tests.support import eventually, rows

PATH = "/api/account/risk-limits"
TERMS = {"type": "market", "time_in_force": "day"}
ADD_BAR = """
INSERT INTO marketdata.market_data
SELECT 'AAPL', '1m', date_trunc('minute', now()) - interval '2 minutes', 100, 100, 100, 100, 1000, 'test'
"""


def snapshot(system: System) -> None:
    context = system.contexts["valuation"]
    jobs.declared["snapshot_accounts"].run(RunContext(uuid4(), context, context.clock(), {}))


def set_limits(trader: Trader, **limits: str) -> None:
    answer = trader.ask("PUT", PATH, json=limits)
    assert answer.status_code == 202, answer.text
    eventually(lambda: {k: v for k, v in trader.get(PATH)["limits"].items() if v is not None} == limits)


def test_an_account_is_halted_refuses_to_open_and_trades_again_after_a_resume(
    market: System, visitor: TestClient, trader: Trader
) -> None:
    """The state has figure and limit. Its strategy is paused, and starts only after the account was resumed."""
    trader.filled("100", qty="500")
    with market.contexts["marketdata"].engine.begin() as connection:
        connection.exec_driver_sql(ADD_BAR)
    made = trader.ask("POST", "/api/strategies", json=CROSSOVER)
    path = f"/api/strategies/{made.json()['id']}"
    set_limits(trader, max_concentration="0.4", max_drawdown="0.2")
    snapshot(market)
    state = eventually(lambda: (found := trader.get(PATH))["state"] == "halted" and found)
    figures = {each["kind"]: (each["value"], each["limit"]) for each in state["figures"]}
    assert figures["concentration"][1] == "0.4"
    assert float(figures["concentration"][0]) > 0.4
    assert (state["halt"]["kind"], state["largest_symbol"]) == ("concentration", "AAPL")
    status, message = trader.refused("POST", "/orders", json={"symbol": "AAPL", "qty": "1", "side": "buy"} | TERMS)
    assert (status, "has been halted since" in message) == (403, True)
    assert trader.order(qty="100", side="sell")["status"] in {"new", "accepted", "pending_new"}
    answer = trader.ask("POST", f"{path}/start")
    assert (answer.status_code, answer.json()["field"]) == (409, "account_id")
    own = trading_key(visitor, trader)
    assert visitor.post(f"{PATH}/resume", headers=own).status_code == 403
    resumed = trader.ask("POST", f"{PATH}/resume")
    assert (resumed.status_code, resumed.json()["state"], resumed.json()["halt"]) == (200, "active", None)
    (halt,) = trader.get(f"{PATH}/halts")["items"]
    assert halt["ended_by"] == trader.key["APCA-API-KEY-ID"]
    snapshot(market)
    assert trader.get(PATH)["marked_at"] is not None
    assert trader.ask("POST", f"{path}/start").status_code == 200
    assert trader.ask("POST", f"{path}/stop").status_code == 200
    actions = rows(
        market.contexts["gateway"].engine,
        "SELECT what FROM jobs.operator_actions WHERE subject = :a ORDER BY id",
        a=str(trader.account_id),
    )
    assert [row.what for row in actions][-2:] == ["set_risk_limits", "resume_account"]


def test_an_operator_sets_limits_of_any_account_and_resumes_it(
    market: System, visitor: TestClient, trader: Trader
) -> None:
    path = f"/api/accounts/{trader.account_id}/risk-limits"
    assert visitor.put(path, json={"max_gross_exposure": "0.01"}, headers=KEY).status_code == 202
    eventually(lambda: trader.get(PATH)["limits"]["max_gross_exposure"] == "0.01")
    trader.filled("100", qty="20")
    snapshot(market)
    eventually(lambda: visitor.get(path, headers=KEY).json()["state"] == "halted")
    assert visitor.post(f"{path}/resume", headers=KEY).json()["state"] == "active"
    assert visitor.post(f"{path}/resume", headers=KEY).status_code == 200
    (halt,) = visitor.get(f"{path}/halts", headers=KEY).json()["items"]
    assert (halt["kind"], halt["limit"], halt["ended_at"] is not None) == ("gross_exposure", "0.01", True)
    unknown = f"/api/accounts/{uuid4()}/risk-limits"
    assert visitor.get(unknown, headers=KEY).status_code == 404
    assert visitor.get(f"{unknown}/halts", headers=KEY).status_code == 404
    assert visitor.post(f"{unknown}/resume", headers=KEY).status_code == 404


def test_wrong_limits_are_refused_with_their_field(trader: Trader) -> None:
    for body, field in (
        ({"max_drawdown": "0"}, "max_drawdown"),
        ({"max_drawdown": "1.1"}, "max_drawdown"),
        ({"max_daily_loss": "-0.1"}, "max_daily_loss"),
        ({"max_concentration": "11"}, "max_concentration"),
        ({"max_loss": "0.1"}, "max_loss"),
    ):
        answer = trader.ask("PUT", PATH, json=body)
        assert (answer.status_code, answer.json()["field"]) == (422, field), body
    push(trader.system, "100")
