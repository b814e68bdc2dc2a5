"""``DELETE /v2/orders`` and ``DELETE /v2/positions`` take all, however many, in the same statements."""

from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from starlette.testclient import TestClient

from embedded.system import System
from shared.bus.unit_of_work import ServiceContext
from shared.clock import utc_now
from shared.contracts.orders import CancelOrder, CancelOrders, NewOrder, SubmitOrders
from shared.storage import driver
from tests.component.auction_days import move_to_new_york
from tests.component.http_trader import Trader, open_account, push
from tests.component.paper_exchange import Exchange
from tests.component.watching import outbox, statements
from tests.support import eventually, order, rows, send

#: More than a list has at most, and more than one command cancels.
MANY = 1_010
RESTING: dict[str, Any] = {"type": "limit", "limit_price": "1", "time_in_force": "gtc"}


def rest(trader: Trader, count: int) -> None:
    """Leave so many orders open."""
    account_id, orders = trader.account_id, trader.system.contexts["orders"]
    terms = {"qty": Decimal(1), "type": "limit", "limit_price": Decimal("0.01"), "time_in_force": "gtc"}
    made = [order(account_id, submitted_at=utc_now(), **terms) for _ in range(count)]
    given = tuple(NewOrder(**each.model_dump(exclude={"account_id"})) for each in made)
    for start in range(0, count, 1000):
        send(trader.system.contexts["gateway"], SubmitOrders(account_id=account_id, orders=given[start : start + 1000]))
    eventually(lambda: open_orders(orders, account_id) == count, what="the orders")


def open_orders(orders: ServiceContext, account_id: UUID) -> int:
    found = rows(orders.engine, "SELECT 1 FROM orders.orders WHERE account_id = :a AND is_open", a=account_id)
    return len(found)


def test_all_open_orders_are_canceled_however_many(trader: Trader) -> None:
    """Each has its result, and none is refused because its answer takes longer than the request waits."""
    rest(trader, MANY)
    answers = trader.ask("DELETE", "/orders").json()
    assert (len(answers), {answer["status"] for answer in answers}) == (MANY, {200})
    assert len({answer["id"] for answer in answers}) == MANY
    orders = trader.system.contexts["orders"]
    eventually(lambda: open_orders(orders, trader.account_id) == 0, what="the last cancel")


def test_a_cancel_on_its_way_is_a_200(trader: Trader) -> None:
    """As ``DELETE`` of one order is a 204 then. The body is the order, which still is open."""
    placed = trader.order(**RESTING)
    with trader.unanswered():
        (answer,) = trader.ask("DELETE", "/orders").json()
        assert (answer["id"], answer["status"], answer["body"]["status"]) == (placed["id"], 200, "new")
    trader.awaited(placed["id"], "canceled")


def test_an_order_that_was_not_taken_yet_is_canceled_too(trader: Trader) -> None:
    """It was submitted before, and the commands of an account are handled in their order."""
    with trader.unanswered():
        placed = trader.order(**RESTING)
        (answer,) = trader.ask("DELETE", "/orders").json()
        assert (answer["id"], answer["status"], answer["body"]["status"]) == (placed["id"], 200, "pending_new")
    trader.awaited(placed["id"], "canceled")


def test_many_orders_are_canceled_in_the_statements_of_one(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that ended, or do not exist, are refused by themselves. An id that is named twice counts once."""
    sent: list[int] = []
    run = driver.run_prepared

    def counted(used: Any, prepared: set[bytes], calls: Sequence[driver.Call]) -> Any:
        sent.append(len(calls))
        return run(used, prepared, calls)

    monkeypatch.setattr(driver, "run_prepared", counted)
    for count in (2, 2, 60):
        account = exchange.open()
        ids = [exchange.submit(account, "buy 1 AAPL limit", limit_price="1") for _ in range(count)]
        exchange.cancel(account, ids[0])
        named = (*ids, uuid4(), ids[1])
        sent.clear()
        with statements(exchange.orders.engine) as seen:
            exchange.handle(CancelOrders(account_id=account, order_ids=named, requested_at=exchange.clock.now))
        assert {exchange.status(each) for each in ids} == {"canceled"}
        told = outbox(exchange.orders)[-count - 1 :]
        assert [each.name for each in told] == ["OrderCanceled.v1"] * (count - 1) + ["CancelRejected.v1"] * 2
        assert [each.body["reason"] for each in told[-2:]] == ["not_cancelable", "unknown_order"]
        assert len({each.body["sequence"] for each in told}) == count + 1
        if count == 2:
            few = len(seen), list(sent)
    assert (len(seen), sent) == few


def test_a_bracket_is_canceled_as_a_whole(trader: Trader) -> None:
    """Its entry and its exits are named together, and each ends once."""
    for _ in range(3):
        trader.order(order_class="bracket", take_profit={"limit_price": "120"}, stop_loss={"stop_price": "90"})
    answers = trader.ask("DELETE", "/orders").json()
    assert [(answer["status"], answer["body"]["status"]) for answer in answers] == [(200, "canceled")] * 9
    assert trader.get("/orders") == []


def test_an_order_that_cannot_be_canceled_is_answered_with_its_own_refusal(exchange: Exchange) -> None:
    """The auction of one is too close. The others are canceled all the same."""
    move_to_new_york(exchange)
    account = exchange.open()
    day = exchange.submit(account, "buy 1 AAPL limit", limit_price="1")
    for_the_close = exchange.submit(account, "buy 1 AAPL market", time_in_force="cls")
    (due,) = rows(exchange.orders.engine, "SELECT auction_at FROM orders.orders WHERE id = :id", id=for_the_close)
    exchange.clock.now = due.auction_at - timedelta(minutes=1)
    both = (day, for_the_close)
    exchange.handle(CancelOrders(account_id=account, order_ids=both, requested_at=exchange.clock.now))
    assert [exchange.status(each) for each in both] == ["canceled", "accepted"]
    refused = outbox(exchange.orders)[-1]
    assert (refused.name, refused.body["reason"]) == ("CancelRejected.v1", "auction_closed")
    exchange.handle(CancelOrder(account_id=account, order_id=for_the_close, requested_at=exchange.clock.now))
    assert outbox(exchange.orders)[-1].body["message"] == refused.body["message"]


def test_positions_are_closed_while_the_cancels_of_their_orders_are_on_the_way(
    market: System, visitor: TestClient
) -> None:
    """The orders service cancels first, so the shares are free when the closing order comes."""
    trader = open_account(market, visitor)
    trader.filled("100")
    resting = trader.order(side="sell", type="limit", limit_price="150", time_in_force="gtc")
    with trader.unanswered():
        (answer,) = trader.ask("DELETE", "/positions", params={"cancel_orders": "true"}).json()
        assert (answer["status"], answer["body"]["status"]) == (200, "pending_new")
    trader.awaited(resting["id"], "canceled")
    trader.awaited(answer["body"]["id"], "new")
    push(market, "100")
    trader.awaited(answer["body"]["id"], "filled")
    assert trader.get("/positions") == []
    assert trader.books_hold()


def test_a_percentage_of_whole_shares_is_whole(trader: Trader) -> None:
    """Alpaca: a fraction is sold only if the position has one."""
    trader.filled("100", qty="7")
    assert trader.ask("DELETE", "/positions/AAPL", params={"percentage": "30"}).json()["qty"] == "2"


def test_a_refused_close_has_the_figures_as_fields(trader: Trader) -> None:
    """Alpaca's names, and strings. The entries of ``DELETE /v2/positions`` have them, too."""
    trader.filled("100")
    trader.order(side="sell", type="limit", limit_price="150", qty="4", time_in_force="gtc")
    refusal = {
        "code": 40310000,
        "message": "insufficient qty available for order (requested: 10, available: 6)",
        "available": "6",
        "existing_qty": "10",
        "held_for_orders": "4",
        "symbol": "AAPL",
    }
    answer = trader.ask("DELETE", "/positions/AAPL")
    assert (answer.status_code, answer.json()) == (403, refusal)
    (each,) = trader.ask("DELETE", "/positions").json()
    assert (each["status"], each["body"]) == (403, refusal)
