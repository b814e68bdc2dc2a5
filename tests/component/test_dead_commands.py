"""A command that no try could handle is answered, has no effect later, and leaves nothing jammed."""

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from embedded.system import System
from services.gateway.trading import submissions
from services.gateway.trading.submissions import CLOCKS_DIFFER
from shared.bus import outbox
from shared.bus.dead_letters import requeue_dead_letters
from shared.bus.unit_of_work import UnitOfWork
from shared.clock import utc_now
from shared.contracts.orders import SUBMISSION_LASTS, SubmitOrder
from shared.observability.log_record import Line, line_of
from shared.observability.logs import is_informative
from tests.component.http_trader import ORDER, Trader, push
from tests.support import eventually, order, rows, value

RESTING: dict[str, Any] = {"type": "limit", "limit_price": "50", "time_in_force": "gtc"}
CODE = 42210000


def bug(*_: object) -> None:
    raise ZeroDivisionError("the bug")


def refused_by_storage(uow: UnitOfWork, *_: object) -> None:
    uow.run(("SELECT 1 / 0", {}))


def letters(system: System) -> list[int]:
    found = rows(system.contexts["orders"].engine, "SELECT id FROM orders.dead_letters ORDER BY id")
    return [row.id for row in found]


@pytest.mark.parametrize("failure", [bug, refused_by_storage])
def test_an_order_whose_command_dies_is_rejected(
    market: System, trader: Trader, monkeypatch: pytest.MonkeyPatch, failure: Callable[..., None]
) -> None:
    """The waiting request is answered, every route shows the rejection, and the next order goes through."""
    client_id = f"mine {uuid4()}"
    with monkeypatch.context() as patch:
        patch.setattr("services.orders.usecases.submit.enter_orders", failure)
        answer = trader.ask("POST", "/orders", json={**ORDER, "client_order_id": client_id})
    assert (answer.status_code, answer.json()["code"]) == (422, CODE)
    assert "could not be processed and was not placed: try again" in answer.json()["message"]
    shown = trader.get("/orders:by_client_order_id", client_order_id=client_id)
    assert shown["status"] == "rejected"
    assert [each["id"] for each in trader.get("/orders", status="closed")] == [shown["id"]]
    assert trader.order(client_order_id=client_id)["status"] == "new"
    assert trader.get("/orders", status="open")[0]["client_order_id"] == client_id


def test_a_requeued_command_of_a_rejected_order_has_no_effect(
    market: System, trader: Trader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its client has been told that it is not placed, once."""
    orders, before = market.contexts["orders"].engine, letters(market)
    with monkeypatch.context() as patch:
        patch.setattr("services.orders.usecases.submit.enter_orders", refused_by_storage)
        assert trader.ask("POST", "/orders", json=ORDER).status_code == 422
    (letter,) = set(letters(market)) - set(before)
    sequence = value(orders, "SELECT sequence FROM orders.accounts WHERE id = :id", id=trader.account_id)
    with market.contexts["gateway"].unit_of_work() as uow:
        requeue_dead_letters(uow, "orders", [letter], who="operator")
    eventually(lambda: letter not in letters(market))
    bought = trader.filled("100")  # its command is handled after the requeued one was sent
    assert [each["status"] for each in trader.get("/orders", status="all")] == ["filled", "rejected"]
    assert trader.get("/positions")[0]["qty"] == bought["qty"]
    after = value(orders, "SELECT sequence FROM orders.accounts WHERE id = :id", id=trader.account_id)
    assert after == sequence + 3  # accepted, filled, and the position


def test_a_change_whose_command_dies_leaves_the_order_as_it_was(
    trader: Trader, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A replace and a cancel, of one order or many, are refused at once. Both go through after the mend."""
    placed = trader.order(**RESTING)
    path = f"/orders/{placed['id']}"
    with monkeypatch.context() as patch:
        for use_case in ("replace.replace_order", "cancel.cancel_order", "cancel.cancel_orders"):
            patch.setattr(f"services.orders.usecases.{use_case}", refused_by_storage)
        for method, given in (("PATCH", {"json": {"qty": "20"}}), ("DELETE", {})):
            status, message = trader.refused(method, path, **given)
            assert (status, "could not be processed, and the order is as it was" in message) == (422, True)
        (many,) = trader.ask("DELETE", "/orders").json()
        assert many["status"] == 422
    assert (trader.get(path)["qty"], trader.get(path)["status"]) == ("10", "new")
    replaced = trader.ask("PATCH", path, json={"qty": "20"}).json()
    assert trader.ask("DELETE", f"/orders/{replaced['id']}").status_code == 204


def test_cash_whose_command_dies_is_refused(trader: Trader, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transfer and a reset are refused at once, and the account is as it was and not jammed."""
    with monkeypatch.context() as patch:
        for use_case in ("move_cash", "reset_account"):
            patch.setattr(f"services.orders.usecases.cash.{use_case}", refused_by_storage)
        moved = trader.refused("POST", "/api/account/transfers", json={"amount": "5"})
        reset = trader.refused("POST", "/api/account/reset", json={"cash": "7"})
    assert moved == (422, moved[1])
    assert "the transfer could not be processed and was not booked" in moved[1]
    assert reset == (422, reset[1])
    assert "the reset could not be processed" in reset[1]
    assert trader.get("/account")["cash"] == "100000"
    assert trader.ask("POST", "/api/account/transfers", json={"amount": "5"}).status_code in {200, 201}
    assert trader.get("/account")["cash"] == "100005"


def sent_changed(system: System, command: SubmitOrder, old: bytes, new: bytes) -> None:
    """Submit the order in a form that orders cannot read, as a gateway of another release might."""
    with system.contexts["gateway"].unit_of_work() as uow:
        submissions.add_submission(uow, command)
        (sent,) = uow.outgoing
        assert old in sent.body
        uow.outgoing[:] = [sent._replace(body=sent.body.replace(old, new))]


@pytest.mark.parametrize(("old", "new"), [(b'"AAPL"', b'"no symbol"'), (b"SubmitOrder.v1", b"SubmitOrder.v9")])
def test_a_command_that_orders_cannot_read_is_rejected_by_the_gateway(
    market: System, trader: Trader, old: bytes, new: bytes
) -> None:
    """Its dead letter is discarded, so that no requeue places the order, and neither does another copy."""
    before, gateway = letters(market), market.contexts["gateway"]
    command = order(trader.account_id, client_order_id=f"mine {uuid4()}")
    sent_changed(market, command, old, new)
    eventually(lambda: letters(market) != before)
    (dead,) = set(letters(market)) - set(before)
    with gateway.unit_of_work() as uow:
        submissions.resend_unanswered(uow, timedelta(hours=1))
    shown = trader.get(f"/orders/{command.order_id}")
    assert (shown["status"], shown["client_order_id"]) == ("rejected", command.client_order_id)
    for status in ("closed", "all"):
        for query in ({}, {"nested": "true"}, {"symbols": "AAPL"}):
            listed = trader.get("/orders", status=status, **query)
            assert [each["id"] for each in listed] == [str(command.order_id)]
    assert trader.get("/orders", status="open") == []
    assert trader.get("/orders:by_client_order_id", client_order_id=command.client_order_id)["status"] == "rejected"
    eventually(lambda: dead not in letters(market))
    with gateway.unit_of_work() as uow:
        row = uow.connection.exec_driver_sql(
            "SELECT message_id FROM gateway.submissions WHERE order_id = %s", (command.order_id,)
        ).one()
    if new == b"SubmitOrder.v9":
        return
    with gateway.unit_of_work() as uow:
        uow.publish(command, message_id=row.message_id)
    placed = trader.order(client_order_id=command.client_order_id)
    assert [each["id"] for each in trader.get("/orders", status="open")] == [placed["id"]]


def test_an_idempotency_key_repeats_the_rejection(trader: Trader, monkeypatch: pytest.MonkeyPatch) -> None:
    key = {**trader.key, "Idempotency-Key": str(uuid4())}
    with monkeypatch.context() as patch:
        patch.setattr("services.orders.usecases.submit.enter_orders", refused_by_storage)
        first = trader.client.post("/v2/orders", json=ORDER, headers=key)
    again = trader.client.post("/v2/orders", json=ORDER, headers=key)
    assert first.status_code == again.status_code == 422
    assert first.json() == again.json()


def test_no_order_of_yesterday_is_placed(market: System, trader: Trader) -> None:
    """The gateway gives it up later than orders refuses it, so that no copy of its command places it after that."""
    gateway, long_ago = market.contexts["gateway"], utc_now() - SUBMISSION_LASTS - timedelta(minutes=1)
    lost, late = (order(trader.account_id, submitted_at=long_ago) for _ in range(2))
    with gateway.unit_of_work() as uow:
        submissions.add_submission(uow, lost)
        uow.outgoing.clear()
        uow.connection.exec_driver_sql(
            "UPDATE gateway.submissions SET submitted_at = %s, sent_at = %s WHERE order_id = %s",
            (long_ago, long_ago, lost.order_id),
        )
    resent = []
    for minutes in (0, CLOCKS_DIFFER // timedelta(minutes=1)):
        with gateway.engine.begin() as connection:
            at = UnitOfWork(connection, "gateway", utc_now() + timedelta(minutes=minutes))
            submissions.resend_unanswered(at, timedelta(0))
            resent.append(len([each for each in at.outgoing if each.routing_key == "orders.submit_order.v1"]))
    assert resent == [1, 0]
    with gateway.unit_of_work() as uow:
        uow.publish(late, message_id=uuid4())  # not behind the lost one
    for command in (lost, late):
        found = eventually(lambda command=command: rejected(trader, command.order_id))  # type: ignore[misc]
        assert found["status"] == "rejected"
    assert (
        value(
            market.contexts["orders"].engine,
            "SELECT reject_reason FROM orders.orders WHERE id = :id",
            id=late.order_id,
        )
        == "submitted_too_long_ago"
    )


def rejected(trader: Trader, order_id: UUID) -> Any:
    found = trader.ask("GET", f"/orders/{order_id}")
    return found.json() if found.status_code == 200 and found.json()["status"] == "rejected" else None


def test_a_submission_in_the_outbox_is_not_resent(market: System) -> None:
    """The relay or RabbitMQ is away, and a second copy would help nobody."""
    with market.contexts["gateway"].engine.connect() as connection:
        uow = UnitOfWork(connection, "gateway", utc_now())
        submissions.add_submission(uow, order(uuid4()))
        uow.run(*outbox.adding(connection, "gateway", uow.outgoing, uow.now))
        later = UnitOfWork(connection, "gateway", utc_now() + timedelta(minutes=1))
        assert submissions.resend_unanswered(later, timedelta(seconds=5)) == 0
        connection.exec_driver_sql("DELETE FROM gateway.outbox")
        assert submissions.resend_unanswered(later, timedelta(seconds=5)) == 1


class Kept(logging.Handler):
    """Keeps the lines that the system log would."""

    def __init__(self) -> None:
        super().__init__()
        self.addFilter(is_informative)
        self.lines: list[Line] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(line_of(record, "orders"))


def test_one_failing_message_is_one_error_in_the_log(
    market: System, trader: Trader, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Its retries are lines below a warning, no line has the message's body, and all have the order's trace."""
    trace, kept = uuid4().hex, Kept()
    headers = {**trader.key, "traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
    logging.getLogger().addHandler(kept)
    try:
        with monkeypatch.context() as patch, caplog.at_level(logging.INFO):
            patch.setattr("services.orders.usecases.submit.enter_orders", bug)
            answer = trader.client.post("/v2/orders", json={**ORDER, "qty": "4711"}, headers=headers)
    finally:
        logging.getLogger().removeHandler(kept)
    assert answer.status_code == 422
    of_order = [line for line in kept.lines if line.trace_id == trace]
    assert [line.message for line in of_order] == ["message is tried again"] * 2 + ["dead letter"]
    assert [line.message for line in kept.lines if line.level not in {"INFO", "DEBUG"}] == ["dead letter"]
    assert not [line for line in kept.lines if "4711" in str(line)]


def test_a_position_belongs_to_the_trace_of_the_order_that_changed_it(market: System, trader: Trader) -> None:
    """Not to that of the price, as OrderFilled does."""
    trace = uuid4().hex
    headers = {**trader.key, "traceparent": f"00-{trace}-00f067aa0ba902b7-01"}
    seen: dict[str, str] = {}
    publish = UnitOfWork.publish

    def record(uow: UnitOfWork, message: Any, **options: Any) -> UUID:
        seen[message.wire_name()] = options.get("trace") or ""
        return publish(uow, message, **options)

    placed = trader.client.post("/v2/orders", json=ORDER, headers=headers).json()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(UnitOfWork, "publish", record)
        push(market, "100")
        trader.awaited(placed["id"], "filled")
    assert trace in seen["OrderFilled.v1"]
    assert trace in seen["PositionChanged.v1"]
