"""Rebalances over HTTP: a preview, its orders in their turn, targets that are kept, and all that is refused."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from starlette.testclient import TestClient

from embedded.system import System
from services.strategy.jobs import jobs
from services.strategy.rebalancing.follower import RebalanceFollower
from shared.jobs.run_context import RunContext
from tests.component.http_trader import Trader, open_account, push
from tests.support import eventually, value

REBALANCE, TARGETS = "/api/account/rebalance", "/api/account/targets"


@pytest.fixture
def owner(market: System, visitor: TestClient) -> Iterator[Trader]:
    """An account of 100,000 with 800 AAPL at 100."""
    for symbol in ("AAPL", "IBM", "MSFT"):
        push(market, "100", symbol)
    trader = open_account(market, visitor)
    trader.filled("100", qty="800")
    yield trader
    trader.ask("DELETE", TARGETS)
    trader.ask("DELETE", "/orders")
    assert trader.books_hold()


def asked(trader: Trader, path: str, body: Any = None) -> Any:
    answer = trader.ask("POST", path, json=body) if body is not None else trader.ask("POST", path)
    assert answer.status_code in {200, 202}, answer.text
    return answer.json()


def awaited(trader: Trader, rebalance_id: str, state: str) -> Any:
    """Return the rebalance once it has this state. This system runs no threads of services, so the test advances it."""
    follower = RebalanceFollower(trader.system.contexts["strategy"])

    def there() -> Any:
        follower.advance()
        found = trader.get(f"/api/account/rebalances/{rebalance_id}")
        return found if found["state"] == state else None

    return eventually(there, what=f"rebalance {state}")


def run_job(system: System, run_id: Any = None) -> Any:
    context = system.contexts["strategy"]
    return jobs.declared["rebalance_accounts"].run(RunContext(run_id or uuid4(), context, context.clock(), {}))


def weights(found: Any) -> dict[str, tuple[float, float]]:
    return {each["symbol"]: (float(each["before"]), float(each["after"])) for each in found["weights"]}


def test_a_preview_sends_nothing_and_its_orders_are_sent_sells_first(market: System, owner: Trader) -> None:
    """The buy waits for the fill of the sell. Sent again, the preview is answered as it is."""
    preview = asked(owner, f"{REBALANCE}/preview", {"weights": {"AAPL": "0.3", "IBM": "0.5"}, "cash": "0.1"})
    assert preview["state"] == "planned"
    assert [(each["symbol"], each["side"]) for each in preview["orders"]] == [("AAPL", "sell"), ("IBM", "buy")]
    before, after = weights(preview)["AAPL"]
    assert (round(before, 2), round(after, 2)) == (0.8, 0.3)
    assert owner.get("/orders", status="open") == []
    begun = asked(owner, REBALANCE, {"preview_id": preview["id"]})
    assert (begun["id"], begun["state"]) == (preview["id"], "selling")
    assert [each["status"] for each in begun["orders"]] == ["sent", "planned"]
    sell = begun["orders"][0]
    assert (sell["client_order_id"], sell["qty"]) == (f"rebalance-{begun['id']}-AAPL", preview["orders"][0]["qty"])
    assert asked(owner, REBALANCE, {"preview_id": preview["id"]})["state"] == "selling"
    eventually(lambda: owner.ask("GET", f"/orders/{sell['order_id']}").status_code == 200)
    why = owner.ask("GET", f"/api/orders/{sell['order_id']}/why").json()["sentences"]
    assert why[0].startswith(f"The rebalance {begun['id']} sent the order. It was begun by a request, at ")
    assert "AAPL has a target of 30.00 %. Its weight was 80." in why[1]
    push(market, "100")
    buying = awaited(owner, begun["id"], "buying")
    buy = buying["orders"][1]
    assert (buy["status"], float(buy["qty"])) == ("sent", 499)  # of an equity that paid the spread
    eventually(lambda: owner.ask("GET", f"/orders/{buy['order_id']}").status_code == 200)
    push(market, "100", "IBM")
    done = awaited(owner, begun["id"], "done")
    assert done["progress"] == {"ended": 2, "total": 2, "filled": 2}
    held = {each["symbol"]: each["qty"] for each in owner.get("/positions")}
    assert held == {"AAPL": str(800 - int(sell["qty"])), "IBM": "499"}


def test_buys_spend_only_the_proceeds_that_filled(market: System, owner: Trader) -> None:
    """The sell is canceled after nothing of it was filled: the buy is cut to the cash that was there."""
    begun = asked(owner, REBALANCE, {"weights": {"AAPL": "0.1", "IBM": "0.8"}})
    sell = begun["orders"][0]["order_id"]
    eventually(lambda: owner.ask("GET", f"/orders/{sell}").status_code == 200)
    assert owner.ask("DELETE", f"/orders/{sell}").status_code == 204
    buying = awaited(owner, begun["id"], "buying")
    buy = buying["orders"][1]
    assert 190 < float(buy["qty"]) < 199
    assert buy["note"].startswith("cut from 799 to")
    assert buying["orders"][0]["note"] == "the order is canceled"
    eventually(lambda: owner.ask("GET", f"/orders/{buy['order_id']}").status_code == 200)
    push(market, "100", "IBM")
    ended = awaited(owner, begun["id"], "incomplete")
    assert ended["reason"] == "not all was filled: AAPL"


def test_one_rebalance_is_under_way_at_a_time_and_can_be_canceled(owner: Trader) -> None:
    """A preview goes beside it."""
    body = {"weights": {"AAPL": "0.3"}}
    begun = asked(owner, REBALANCE, body)
    answer = owner.ask("POST", REBALANCE, json=body)
    assert (answer.status_code, begun["id"] in answer.json()["detail"]) == (409, True)
    eventually(lambda: owner.ask("GET", f"/orders/{begun['orders'][0]['order_id']}").status_code == 200)
    preview = asked(owner, f"{REBALANCE}/preview", body)
    assert preview["left_out"][0]["reason"] == "open_order"
    assert asked(owner, f"/api/account/rebalances/{begun['id']}/cancel")["state"] == "canceled"
    eventually(lambda: owner.get("/orders", status="open") == [])
    listed = [(each["id"], each["state"]) for each in owner.get("/api/account/rebalances")["items"]]
    assert set(listed) == {(begun["id"], "canceled"), (preview["id"], "planned")}
    other = open_account(owner.system, owner.client)
    assert other.ask("GET", f"/api/account/rebalances/{begun['id']}").status_code == 404
    assert other.ask("POST", REBALANCE, json={"preview_id": preview["id"]}).status_code == 404


def test_a_rebalance_without_orders_is_done_at_once(owner: Trader) -> None:
    done = asked(owner, REBALANCE, {"weights": {"AAPL": "0.8"}, "band": {"kind": "absolute", "value": "0.1"}})
    assert (done["state"], done["orders"], done["left_out"][0]["reason"]) == ("done", [], "within_band")


def test_the_job_rebalances_accounts_that_keep_targets_when_a_band_is_broken(market: System, owner: Trader) -> None:
    """The same run starts it once. Without a body, a preview is of the targets that are kept."""
    kept = {"weights": {"AAPL": "0.8", "IBM": "0.1"}, "band": {"kind": "absolute", "value": "0.2"}}
    assert owner.ask("GET", TARGETS).json()["targets"] is None
    assert owner.ask("POST", f"{REBALANCE}/preview").json()["field"] == "weights"
    stored = owner.ask("PUT", TARGETS, json=kept).json()
    assert (stored["targets"]["weights"], stored["started_at"]) == (kept["weights"], None)
    assert run_job(market)["rebalances_started"] == 0
    owner.ask("PUT", TARGETS, json={**kept, "band": {"kind": "relative", "value": "0.5"}})
    assert [each["symbol"] for each in asked(owner, f"{REBALANCE}/preview")["orders"]] == ["IBM"]
    run_id = uuid4()
    assert run_job(market, run_id)["rebalances_started"] == 1
    assert run_job(market, run_id)["rebalances_started"] == 0
    (found,) = [each for each in owner.get("/api/account/rebalances")["items"] if each["state"] != "planned"]
    assert (found["trigger"], found["state"]) == ("schedule", "buying")
    buy = found["orders"][0]["order_id"]
    eventually(lambda: owner.ask("GET", f"/orders/{buy}").status_code == 200)
    push(market, "100", "IBM")
    awaited(owner, found["id"], "done")
    assert run_job(market)["rebalances_started"] == 0
    assert owner.ask("DELETE", TARGETS).json()["targets"] is None


def test_what_is_wrong_is_refused_with_its_field(owner: Trader) -> None:
    before = value(owner.system.contexts["strategy"].engine, "SELECT count(*) FROM strategy.rebalances")
    for body, status, field in (
        ({"weights": {"AAPL": "0.7", "IBM": "0.4"}}, 422, "weights"),
        ({"weights": {"AAPL": "0.7"}, "cash": "0.4"}, 422, "weights"),
        ({"weights": {"NOPE": "0.5"}}, 422, "weights.NOPE"),
        ({"weights": {"AAPL": "-0.1"}}, 422, "weights.AAPL"),
        ({"weights": {"AAPL": "2"}}, 422, "weights.AAPL"),
        ({"weights": {}}, 422, "weights"),
        ({"cash": "0.1"}, 422, "weights"),
        ({"weights": {"AAPL": "0.1"}, "band": {"kind": "odd"}}, 422, "band.kind"),
    ):
        for path in (f"{REBALANCE}/preview", REBALANCE, TARGETS):
            answer = owner.ask("PUT" if path == TARGETS else "POST", path, json=body)
            assert (answer.status_code, answer.json()["field"]) == (status, field), (path, body)
    assert owner.ask("POST", REBALANCE, json={"preview_id": str(uuid4())}).status_code == 404
    mixed = owner.ask("POST", REBALANCE, json={"preview_id": str(uuid4()), "weights": {"AAPL": "0.5"}})
    assert (mixed.status_code, mixed.json()["field"]) == (422, "preview_id")
    assert value(owner.system.contexts["strategy"].engine, "SELECT count(*) FROM strategy.rebalances") == before


def test_the_follower_runs_on_its_own_thread_and_two_of_them_take_each_step_once(owner: Trader, market: System) -> None:
    """The buy is sent once, though two processes follow the rebalance."""
    followers = [RebalanceFollower(market.contexts["strategy"]) for _ in range(2)]
    for each in followers:
        each.start()
    try:
        begun = asked(owner, REBALANCE, {"weights": {"AAPL": "0.6", "IBM": "0.1"}})
        sell, buy = (each["order_id"] for each in begun["orders"])
        eventually(lambda: owner.ask("GET", f"/orders/{sell}").status_code == 200)
        push(market, "100")
        eventually(lambda: owner.ask("GET", f"/orders/{buy}").status_code == 200)
        push(market, "100", "IBM")
        path = f"/api/account/rebalances/{begun['id']}"
        eventually(lambda: owner.get(path)["state"] == "done", what="rebalance done")
    finally:
        for each in followers:
            each.stop()
    engine = market.contexts["strategy"].engine
    sent = "SELECT count(*) FROM orders.orders_v1 WHERE account_id = :a AND symbol = 'IBM'"
    assert value(engine, sent, a=owner.account_id) == 1
