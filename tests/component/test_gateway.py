"""The HTTP API over the whole system on the in-process bus: the responses, and the rows behind them."""

import json
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from psycopg.types.json import Jsonb
from starlette.testclient import TestClient

from embedded.system import System
from services.gateway.http.auth import SCOPES
from services.gateway.trading import submissions
from services.orders.usecases.submit import submit_orders
from shared.bus.unit_of_work import ServiceContext, UnitOfWork
from shared.clock import utc_now
from shared.observability.metrics import exposition
from shared.settings import DEMO_ACCOUNT_ID
from tests.component.http_trader import KEY, ORDER, push, stored
from tests.support import eventually, order, rows, value

#: Alpaca's answer to a client order id that was used before.
DUPLICATE = {"code": 40010001, "message": "client_order_id must be unique"}


@pytest.fixture
def client(system: System) -> Iterator[TestClient]:
    """A client with the demo account's key, once that account is open."""
    with TestClient(system.app(), headers=KEY) as client:
        eventually(lambda: client.get("/v2/account").status_code == 200)
        yield client


def test_an_order_is_submitted_filled_and_shown_as_a_position(system: System, client: TestClient) -> None:
    """POST returns the decision. After the next price the position and the account follow."""
    placed = client.post("/v2/orders", json={**ORDER, "qty": "10.5"}).json()
    assert placed["status"] == "new"
    push(system, "100")
    eventually(lambda: client.get(f"/v2/orders/{placed['id']}").json()["status"] == "filled")
    order = client.get(f"/v2/orders/{placed['id']}").json()
    assert (order["filled_qty"], order["filled_avg_price"]) == ("10.5", "100.01")
    (position,) = client.get("/v2/positions").json()
    assert (position["symbol"], position["qty"], position["avg_entry_price"]) == ("AAPL", "10.5", "100.010476")
    assert client.get("/v2/positions/aapl").json() == position
    account = client.get("/v2/account").json()
    assert (account["cash"], account["equity"], account["long_market_value"]) == ("98949.89", "99999.89", "1050")


def test_a_far_limit_rests_is_listed_and_canceled(client: TestClient) -> None:
    """It reserves buying power while it is open, and releases it."""
    placed = client.post("/v2/orders", json={**ORDER, "type": "limit", "limit_price": 50}).json()
    assert [order["id"] for order in client.get("/v2/orders").json()] == [placed["id"]]
    assert client.get("/v2/account").json()["buying_power"] == "99500"
    assert client.delete(f"/v2/orders/{placed['id']}").status_code == 204
    assert client.get("/v2/orders").json() == []
    assert client.get("/v2/orders", params={"status": "closed"}).json()[0]["status"] == "canceled"
    assert client.get("/v2/account").json()["buying_power"] == "100000"
    assert client.delete(f"/v2/orders/{placed['id']}").status_code == 422


def test_all_open_orders_are_canceled_with_a_result_for_each(client: TestClient) -> None:
    """The status is 207, and no order stays open."""
    for _ in range(3):
        client.post("/v2/orders", json={**ORDER, "type": "limit", "limit_price": "50"})
    answer = client.delete("/v2/orders")
    assert answer.status_code == 207
    assert [each["status"] for each in answer.json()] == [200, 200, 200]
    assert client.get("/v2/orders").json() == []


def test_the_same_client_order_id_places_one_order(system: System, client: TestClient) -> None:
    """A second request is rejected, with the same terms or others, as at Alpaca."""
    body = {**ORDER, "client_order_id": "mine"}
    first = client.post("/v2/orders", json=body)
    for again in (body, {**body, "qty": "11"}):
        refused = client.post("/v2/orders", json=again)
        assert (refused.status_code, refused.json()) == (422, DUPLICATE)
    found = client.get("/v2/orders:by_client_order_id", params={"client_order_id": "mine"})
    assert found.json()["id"] == first.json()["id"]
    assert stored(system)[:2] == (1, 1)


def test_a_key_without_the_scope_may_not_operate_jobs(system: System, client: TestClient) -> None:
    """A bot's key trades, and does not operate jobs."""
    with system.contexts["gateway"].engine.begin() as connection:
        connection.exec_driver_sql("UPDATE gateway.api_keys SET scopes = ARRAY['trade']")
    with TestClient(system.app(), headers=KEY) as trader:
        assert trader.get("/v2/account").status_code == 200
        assert trader.post("/api/jobs/process_orders/trigger").status_code == 403
    del client


def test_insufficient_buying_power_and_shares_are_a_403(client: TestClient) -> None:
    """The message has the amounts, as Alpaca's clients expect."""
    buy = client.post("/v2/orders", json={**ORDER, "type": "limit", "limit_price": "50", "qty": "3000"})
    assert (buy.status_code, buy.json()["code"]) == (403, 40310000)
    assert "needed: 150000, available: 100000" in buy.json()["message"]
    sell = client.post("/v2/orders", json={**ORDER, "side": "sell"})
    assert (sell.status_code, "available: 0" in sell.json()["message"]) == (403, True)


def test_a_job_is_triggered_shown_and_toggled(system: System, client: TestClient) -> None:
    """202 with the run's id. The status shows that run, its outcome and counts, and the switch."""
    triggered = client.post("/api/jobs/update_positions/trigger")
    assert triggered.status_code == 202
    run_id = triggered.json()["run_id"]

    def shown() -> Any:
        jobs = {job["name"]: job for job in client.get("/api/jobs/status").json()["jobs"]}
        run = jobs["update_positions"]["last_run"]
        return jobs if run and run["id"] == run_id and run["outcome"] else None

    jobs = eventually(shown)
    assert set(jobs) >= {"trading_bot", "process_orders", "update_market_data", "update_positions"}
    run = jobs["update_positions"]["last_run"]
    assert (run["trigger"], run["outcome"], run["counts"]["accounts_valued"]) == ("manual", "succeeded", 1)
    off = client.put("/api/jobs/trading_bot/toggle", params={"enabled": "false"})
    assert off.json() == {"name": "trading_bot", "enabled": False}
    jobs = {job["name"]: job for job in client.get("/api/jobs/status").json()["jobs"]}
    assert (jobs["trading_bot"]["enabled"], jobs["trading_bot"]["next_slot"]) == (False, None)
    actions = rows(
        system.contexts["gateway"].engine, "SELECT who, what, subject FROM jobs.operator_actions ORDER BY id"
    )
    assert [tuple(action) for action in actions] == [
        ("TESTKEY", "trigger", "update_positions"),
        ("TESTKEY", "toggle", "trading_bot"),
    ]


def test_a_submission_without_an_answer_is_resent(system: System, client: TestClient) -> None:
    """An order is a row before it is a message. Its message is lost, and the sweep places it once."""
    order_id, gateway = uuid4(), system.contexts["gateway"]
    with gateway.engine.begin() as connection:  # as if every queue and outbox had been wiped after the commit
        connection.exec_driver_sql(
            "INSERT INTO gateway.submissions (order_id, account_id, client_order_id, message_id, command,"
            " submitted_at, sent_at) VALUES (%s, %s, 'lost', %s, %s, now(), now() - interval '1 minute')",
            (
                order_id,
                DEMO_ACCOUNT_ID,
                uuid4(),
                json.dumps(
                    {
                        **ORDER,
                        "order_id": str(order_id),
                        "account_id": str(DEMO_ACCOUNT_ID),
                        "client_order_id": "lost",
                        "submitted_at": utc_now().isoformat(),
                    }
                ),
            ),
        )
    assert client.get(f"/v2/orders/{order_id}").json()["status"] == "pending_new"
    for _ in range(2):
        with gateway.unit_of_work() as uow:
            submissions.resend_unanswered(uow, timedelta(seconds=5))
        eventually(lambda: client.get(f"/v2/orders/{order_id}").json()["status"] == "new")
    assert value(system.contexts["orders"].engine, "SELECT count(*) FROM orders.orders") == 1


def test_a_session_cookie_is_closed_to_scripts_and_other_sites(system: System) -> None:
    """HttpOnly, SameSite=Strict, invalid after the logout. Secrets are stored as hashes."""
    with TestClient(system.app()) as browser:
        wrong = browser.post("/api/session", json={"key_id": "TESTKEY", "secret_key": "wrong"})
        assert wrong.status_code == 401
        answer = browser.post("/api/session", json={"key_id": "TESTKEY", "secret_key": "test-secret-key"})
        shown = {"key_id": "TESTKEY", "account_id": str(DEMO_ACCOUNT_ID), "scopes": sorted(SCOPES), "operator": True}
        assert answer.json() == shown
        cookie = answer.headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=strict" in cookie
        eventually(lambda: browser.get("/v2/account").status_code == 200)
        assert browser.delete("/api/session", headers={"Sec-Fetch-Site": "same-origin"}).status_code == 204
        browser.cookies.clear()
        assert browser.get("/v2/account").status_code == 401
    (key,) = rows(system.contexts["gateway"].engine, "SELECT * FROM gateway.api_keys")
    assert b"test-secret-key" not in bytes(key.secret_hash)


def test_health_has_the_state_of_each_part(system: System, client: TestClient) -> None:
    """The system is healthy once the scheduler has ticked."""
    before = client.get("/healthz", headers={"APCA-API-KEY-ID": ""})
    assert (before.status_code, before.json()["scheduler"], before.json()["database"]) == (503, False, True)
    for tick in system.ticks():
        tick.send_with_options()
    eventually(lambda: client.get("/healthz").json()["consumers"])
    after = client.get("/healthz")
    assert (after.status_code, after.json()["healthy"]) == (200, True)


def test_the_clock_has_all_four_fields(client: TestClient) -> None:
    """The demo market is always open, and its day ends at midnight UTC. Bots cut off the offset's six characters."""
    clock = client.get("/v2/clock").json()
    assert clock["is_open"] is True
    assert clock["next_close"].endswith("T00:00:00+00:00")
    assert clock["timestamp"].endswith("+00:00")
    assert set(clock) == {"timestamp", "is_open", "next_open", "next_close"}


def test_an_unanswered_submission_is_resent_at_doubling_delays(system: System) -> None:
    """5, 10, 20 s … after it was submitted, while the orders service is down."""
    gateway, begun = system.contexts["gateway"], utc_now()
    with gateway.engine.begin() as connection:  # of an account that orders does not know, so it stays unanswered
        command = order(uuid4(), submitted_at=begun).model_dump_json()
        connection.exec_driver_sql(
            "INSERT INTO gateway.submissions (order_id, account_id, client_order_id, message_id, command,"
            " submitted_at, sent_at) VALUES (%s, %s, 'away', %s, %s, %s, %s)",
            (uuid4(), uuid4(), uuid4(), command, begun, begun),
        )
    sent = []
    for seconds in range(5, 100, 5):
        with gateway.engine.begin() as connection:
            uow = UnitOfWork(connection, "gateway", begun + timedelta(seconds=seconds, milliseconds=seconds))
            sent += [seconds] * submissions.resend_unanswered(uow, timedelta(seconds=5))
    assert sent == [5, 10, 20, 40, 80]


def test_metrics_need_an_operator_s_key(system: System, client: TestClient) -> None:
    """401 without a key, 403 with one that only trades, else the text that Prometheus reads."""
    shown = client.get("/metrics")
    assert (shown.status_code, shown.headers["content-type"].split(";")[0]) == (200, "text/plain")
    assert "paperprofit_messages_consumed_total{" in shown.text
    with TestClient(system.app()) as stranger:
        assert stranger.get("/metrics").status_code == 401
    with system.contexts["gateway"].engine.begin() as connection:
        connection.exec_driver_sql("UPDATE gateway.api_keys SET scopes = ARRAY['trade']")
    with TestClient(system.app(), headers=KEY) as trader:
        assert trader.get("/metrics").status_code == 403


def figure(text: str, name: str) -> float:
    """A figure of an exposition, 0 where it has none."""
    found = re.search(rf"^{re.escape(name)} (\S+)$", text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_metrics_tell_of_orders_requests_waits_and_prices(system: System, client: TestClient) -> None:
    """Each order is counted once, under what became of it. Requests are counted under their route's template."""
    names = {
        'paperprofit_orders_total{event="submitted"}': 2,
        'paperprofit_orders_total{event="accepted"}': 1,
        'paperprofit_orders_total{event="filled"}': 1,
        'paperprofit_orders_total{event="rejected"}': 1,
        'paperprofit_orders_rejected_total{reason="insufficient_buying_power"}': 1,
        "paperprofit_order_decision_seconds_count": 2,
        "paperprofit_order_fill_seconds_count": 1,
        'paperprofit_http_requests_total{method="POST",route="/v2/orders",status="200"}': 1,
        'paperprofit_http_requests_total{method="POST",route="/v2/orders",status="403"}': 1,
        'paperprofit_http_requests_total{method="GET",route="/v2/orders/{order_id}",status="200"}': 1,
        'paperprofit_http_requests_total{method="GET",route="unknown",status="404"}': 2,
        'paperprofit_http_request_seconds_count{method="POST",route="/v2/orders"}': 2,
    }
    at_least = [
        "paperprofit_pool_wait_seconds_count",
        "paperprofit_pool_use_seconds_count",
        'paperprofit_message_wait_seconds_count{queue="orders.commands"}',
        'paperprofit_message_handling_seconds_count{queue="orders.commands"}',
    ]
    before = client.get("/metrics").text
    placed = client.post("/v2/orders", json=ORDER).json()
    assert client.post("/v2/orders", json={**ORDER, "type": "limit", "limit_price": 50_000}).status_code == 403
    assert [client.get(f"/no/{number}").status_code for number in range(2)] == [404, 404]
    push(system, "100")
    eventually(lambda: value(system.contexts["orders"].engine, "SELECT count(*) FROM orders.fills") == 1)
    assert client.get(f"/v2/orders/{placed['id']}").status_code == 200
    eventually(lambda: figure(client.get("/metrics").text, "paperprofit_order_fill_seconds_count") > 0)
    after = client.get("/metrics").text
    assert {name: figure(after, name) - figure(before, name) for name in names} == names
    assert [name for name in at_least if figure(after, name) <= figure(before, name)] == []
    assert 0 < figure(after, "paperprofit_price_age_seconds") < 60


def test_an_order_whose_transaction_rolls_back_is_not_counted(system: System) -> None:
    """It is decided on again when its message is retried, and is counted then."""
    orders = system.contexts["orders"]
    eventually(lambda: rows(orders.engine, "SELECT FROM orders.accounts"), what="the demo's account is open")
    name = 'paperprofit_orders_total{event="accepted"}'
    before = figure(exposition(orders).decode(), name)

    def submit_and_fail() -> None:
        with orders.unit_of_work() as uow:
            submit_orders(uow, DEMO_ACCOUNT_ID, [order(DEMO_ACCOUNT_ID)])
            assert len(uow.after_commit) == 3
            raise RuntimeError

    with pytest.raises(RuntimeError):
        submit_and_fail()
    assert figure(exposition(orders).decode(), name) == before


def test_an_order_belongs_to_the_trace_of_its_request(system: System, client: TestClient) -> None:
    """The response has the request's traceparent, and the order stores it. Without one, a trace begins."""
    given = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
    answers = [client.post("/v2/orders", json=ORDER, headers=headers) for headers in ({"traceparent": given}, {})]
    traces = [answer.headers["traceparent"].split("-")[1] for answer in answers]
    assert traces[0] == given.split("-")[1] != traces[1]
    for answer, trace in zip(answers, traces, strict=True):
        kept = value(
            system.contexts["orders"].engine, "SELECT trace FROM orders.orders WHERE id = :id", id=answer.json()["id"]
        )
        assert kept.split("-")[1] == trace


def test_a_resent_submission_keeps_its_place(system: System) -> None:
    """It names the message that it followed at first, not the account's latest."""
    gateway, account_id = system.contexts["gateway"], uuid4()  # orders does not know the account, so none is answered
    with gateway.unit_of_work() as uow:
        submissions.add_submission(uow, order(account_id))
        first = uow.outgoing[-1]
    with gateway.unit_of_work() as uow:
        submissions.add_submission(uow, order(account_id))
        second = uow.outgoing[-1]
    assert (second.previous, second.key) == (first.message_id, first.key)
    with gateway.unit_of_work() as uow:
        uow.connection.exec_driver_sql("DELETE FROM gateway.outbox")  # as if both had been sent, and lost
        later = UnitOfWork(uow.connection, "gateway", uow.now + timedelta(minutes=1))
        assert submissions.resend_unanswered(later, timedelta(seconds=5)) == 2
    assert {(each.message_id, each.previous) for each in later.outgoing} == {
        (first.message_id, first.previous),
        (second.message_id, second.previous),
    }


def test_a_submission_that_this_release_cannot_parse_is_given_up(system: System) -> None:
    """An earlier release accepted fractional gtc orders. It ends as rejected, and the sweep goes on with the others."""
    gateway = system.contexts["gateway"]
    old, new = order(DEMO_ACCOUNT_ID), order(DEMO_ACCOUNT_ID)
    with gateway.unit_of_work() as uow:
        for each in (old, new):
            submissions.add_submission(uow, each)
        uow.outgoing.clear()  # neither was sent
        as_it_was = "UPDATE gateway.submissions SET command = command || %s WHERE order_id = %s"
        uow.connection.exec_driver_sql(as_it_was, (Jsonb({"qty": "0.5"}), old.order_id))
    later = ServiceContext("gateway", gateway.engine, lambda: utc_now() + timedelta(seconds=10))
    with later.unit_of_work() as uow:
        assert submissions.resend_unanswered(uow, timedelta(seconds=5)) == 1
    with later.unit_of_work() as uow:
        given_up = "SELECT reject_reason FROM gateway.submissions WHERE order_id = :id"
        assert value(gateway.engine, given_up, id=old.order_id) == "processing_failed"
