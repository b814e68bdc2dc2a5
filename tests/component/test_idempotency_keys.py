"""``Idempotency-Key``: a request that is repeated with its key places one order, and gets the first answer again."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import httpx2
import pytest
from starlette.testclient import TestClient

from embedded.system import System
from services.gateway.retention import Retention
from services.gateway.trading import idempotency
from shared.clock import utc_now
from tests.component.http_trader import ORDER, Trader, open_account, push
from tests.support import value

RESTING: dict[str, Any] = {**ORDER, "type": "limit", "limit_price": "50", "time_in_force": "gtc"}
BRACKET: dict[str, Any] = {
    **ORDER,
    "order_class": "bracket",
    "take_profit": {"limit_price": "120"},
    "stop_loss": {"stop_price": "90"},
}


def post(trader: Trader, body: dict[str, Any], key: str = "once") -> httpx2.Response:
    headers = {**trader.key, "Idempotency-Key": key}
    return trader.client.request("POST", "/v2/orders", headers=headers, json=body)


def orders_of(trader: Trader) -> int:
    engine = trader.system.contexts["orders"].engine
    return int(value(engine, "SELECT count(*) FROM orders.orders WHERE account_id = :a", a=trader.account_id))


@pytest.mark.parametrize(
    "body", [RESTING, BRACKET, {**RESTING, "client_order_id": "mine"}], ids=["limit", "bracket", "client-id"]
)
def test_a_repeated_request_gets_the_first_answer_whatever_became_of_the_order(
    trader: Trader, body: dict[str, Any]
) -> None:
    """To the letter, also after the order ended. One with its fields in another order, or with nulls, is the same."""
    first = post(trader, body)
    count = orders_of(trader)
    again = post(trader, {"notional": None, **dict(reversed(body.items()))})
    assert (again.status_code, again.json()) == (200, first.json())
    assert trader.ask("DELETE", f"/orders/{first.json()['id']}").status_code == 204
    assert post(trader, body).json() == first.json()
    assert orders_of(trader) == count


def test_a_rejection_is_repeated(trader: Trader) -> None:
    """The order was refused then, so it is refused now, even if the account could take it."""
    body = {**RESTING, "qty": "5000"}
    first = post(trader, body)
    assert (first.status_code, first.json()["code"]) == (403, 40310000)
    funded = trader.ask("POST", "/api/account/transfers", json={"amount": "500000"})
    assert funded.status_code < 300, funded.text
    again = post(trader, body)
    assert (again.status_code, again.json()) == (403, first.json())
    assert post(trader, body, key="another").status_code == 200


def test_another_order_with_the_key_is_a_422(trader: Trader) -> None:
    """Nothing is placed, and the text says what to do."""
    post(trader, RESTING)
    for change in ({"qty": "11"}, {"symbol": "IBM"}, {"client_order_id": "mine"}):
        answer = post(trader, {**RESTING, **change})
        assert (answer.status_code, answer.json()["code"]) == (422, 42210000)
        assert answer.json()["message"] == idempotency.KEY_IS_TAKEN
    assert orders_of(trader) == 1


def test_twenty_requests_at_once_place_one_order_and_get_one_answer(trader: Trader) -> None:
    """The first is still in flight when the others come."""
    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: post(trader, RESTING), range(20)))
    assert Counter(answer.status_code for answer in answers) == {200: 20}
    assert {answer.text for answer in answers} == {answers[0].text}
    assert orders_of(trader) == 1


def test_a_request_that_is_repeated_before_the_decision_waits_for_it(trader: Trader) -> None:
    """The first answer was only pending_new. The decision is the answer that is kept."""
    with trader.unanswered():
        first = post(trader, RESTING).json()
        pending = post(trader, RESTING).json()
        assert (first["status"], pending["status"], pending["id"]) == ("pending_new", "pending_new", first["id"])
    decided = post(trader, RESTING).json()
    assert (decided["id"], decided["status"]) == (first["id"], "new")
    trader.ask("DELETE", f"/orders/{first['id']}")
    assert post(trader, RESTING).json() == decided


def test_a_crash_before_the_answer_was_kept_is_repaired(trader: Trader) -> None:
    """The order was placed, and its answer was lost with the process."""
    first = post(trader, RESTING).json()
    with trader.system.contexts["gateway"].engine.begin() as connection:
        connection.exec_driver_sql("UPDATE gateway.idempotency_keys SET status = NULL, answer = NULL")
    again = post(trader, RESTING).json()
    assert (again["id"], again["status"]) == (first["id"], "new")
    assert orders_of(trader) == 1


def test_an_order_that_the_gateway_refuses_does_not_use_its_key(trader: Trader) -> None:
    """It was never submitted, so the key is free for it once it is right."""
    trader.order(**RESTING, client_order_id="mine")
    for wrong in ({"symbol": "NOPE"}, {"qty": "0"}, {"client_order_id": "mine"}):
        assert post(trader, {**RESTING, **wrong}).status_code == 422
    assert post(trader, RESTING).status_code == 200


def test_a_key_belongs_to_its_account(market: System, visitor: TestClient, trader: Trader) -> None:
    """Two accounts may choose the same."""
    other = open_account(market, visitor)
    first, second = post(trader, RESTING).json(), post(other, RESTING).json()
    assert first["id"] != second["id"]
    assert other.ask("DELETE", "/orders").status_code == 207


def test_a_repeated_close_closes_once(trader: Trader) -> None:
    """Also after the position is gone. Another part of it is another request."""
    trader.filled("100")

    def closed(key: str, **query: str) -> httpx2.Response:
        headers = {**trader.key, "Idempotency-Key": key}
        return trader.client.request("DELETE", "/v2/positions/AAPL", headers=headers, params=query)

    first = closed("part", qty="4").json()
    assert closed("part", qty="4").json() == first
    assert closed("part", qty="5").json()["message"] == idempotency.KEY_IS_TAKEN
    rest = closed("rest", qty="6").json()
    push(trader.system, "100")
    for order in (first, rest):
        trader.awaited(order["id"], "filled")
    assert trader.get("/positions") == []
    assert closed("rest", qty="6").json() == rest


@pytest.mark.parametrize("key", ["", "x" * 256, "a\tb"])
def test_a_key_is_short_and_printable(trader: Trader, key: str) -> None:
    """The header is named, and nothing is placed."""
    answer = post(trader, RESTING, key=key)
    assert (answer.status_code, "Idempotency-Key" in answer.json()["message"]) == (422, True)
    assert orders_of(trader) == 0


def test_a_key_is_kept_for_a_day(trader: Trader) -> None:
    """Retention removes it then, and the order stays."""
    post(trader, RESTING, key="old")
    gateway = trader.system.contexts["gateway"]
    with gateway.engine.begin() as connection:
        old = utc_now() - timedelta(hours=25)
        connection.exec_driver_sql("UPDATE gateway.idempotency_keys SET created_at = %s WHERE key = 'old'", (old,))
    post(trader, RESTING, key="new")
    Retention(gateway).remove_old_rows()
    left = value(
        gateway.engine, "SELECT array_agg(key) FROM gateway.idempotency_keys WHERE account_id = :a", a=trader.account_id
    )
    assert left == ["new"]
    assert orders_of(trader) == 2
