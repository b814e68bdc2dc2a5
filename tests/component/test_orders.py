"""Orders on the in-process bus and a real PostgreSQL: accepted, filled, canceled, refused, each exactly once."""

from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import dramatiq
import pytest

from embedded.system import System
from services.orders.usecases.catch_up import sweep
from services.orders.usecases.execute import fill_on
from services.orders.usecases.expire import expire
from shared.bus import outbox, tracing
from shared.bus.inprocess import wait_until_idle
from shared.bus.metrics import STALE
from shared.bus.unit_of_work import ServiceContext
from shared.clock import utc_now
from shared.contracts.orders import CancelOrder, OrderType, Side, TimeInForce
from shared.storage.driver import Call
from tests.support import (
    account,
    broken_invariants,
    eventually,
    executed,
    order,
    price,
    prices,
    rows,
    send,
    statuses,
    value,
)


@pytest.fixture
def orders(system: System) -> ServiceContext:
    return system.contexts["orders"]


@pytest.fixture
def opened(system: System, orders: ServiceContext, account_id: UUID) -> UUID:
    """An open account with 100,000 in cash."""
    send(system.contexts["gateway"], account(account_id))
    find = "SELECT count(*) FROM orders.accounts WHERE id = :a"
    eventually(lambda: value(orders.engine, find, a=account_id))
    return account_id


def settled(system: System) -> None:
    """Everything sent has been handled, retries included."""
    names = list(system.contexts)

    def drained() -> bool:
        wait_until_idle(system.broker, seconds=10)
        return not any(value(system.contexts[n].engine, f"SELECT count(*) FROM {n}.outbox") for n in names)

    eventually(drained, what="the outboxes drained")
    assert broken_invariants(system.contexts["orders"].engine) == {}


def test_a_market_order_waits_for_a_quote_and_fills_at_the_ask(
    system: System, orders: ServiceContext, opened: UUID
) -> None:
    """No price, no fill. The first quote after its acceptance fills it, whole, at the ask."""
    submitted = order(opened, qty=Decimal("10.5"))
    send(system.contexts["gateway"], submitted)
    eventually(lambda: statuses(orders.engine, opened).get(submitted.order_id) == "accepted")

    send(system.contexts["marketdata"], prices(price("AAPL", "100.13")))
    eventually(lambda: statuses(orders.engine, opened)[submitted.order_id] == "filled")
    settled(system)

    (fill,) = rows(orders.engine, "SELECT qty, price, amount FROM orders.fills WHERE account_id = :a", a=opened)
    assert (fill.qty, fill.price, fill.amount) == (Decimal("10.5"), Decimal("100.14"), Decimal("1051.47"))
    assert value(orders.engine, "SELECT cash FROM orders.accounts WHERE id = :a", a=opened) == Decimal("98948.53")


def test_a_quote_older_than_the_order_does_not_fill_it(system: System, orders: ServiceContext, opened: UUID) -> None:
    """A price that was known before the order came is no price for it."""
    submitted = order(opened)
    send(system.contexts["gateway"], submitted)
    eventually(lambda: statuses(orders.engine, opened).get(submitted.order_id) == "accepted")
    send(system.contexts["marketdata"], prices(price("AAPL", "100", at=utc_now() - timedelta(seconds=5))))
    settled(system)
    assert statuses(orders.engine, opened)[submitted.order_id] == "accepted"


def test_prices_of_a_symbol_are_never_applied_backwards(system: System, orders: ServiceContext, opened: UUID) -> None:
    """A price that comes after a newer one of its symbol fills nothing. In the same batch, another symbol's does."""
    send(system.contexts["marketdata"], prices(price("AAPL", "100", sequence=7)))
    settled(system)
    late, other = order(opened), order(opened, symbol="IBM")
    send(system.contexts["gateway"], late, other)
    eventually(lambda: len(statuses(orders.engine, opened)) == 2)
    dropped = STALE.labels("orders.prices")._value.get()
    send(system.contexts["marketdata"], prices(price("AAPL", "90", sequence=6), price("IBM", "50", sequence=1)))
    eventually(lambda: statuses(orders.engine, opened)[other.order_id] == "filled")
    settled(system)
    assert statuses(orders.engine, opened)[late.order_id] == "accepted"
    assert STALE.labels("orders.prices")._value.get() == dropped + 1
    send(system.contexts["marketdata"], prices(price("AAPL", "101", sequence=8)))
    eventually(lambda: statuses(orders.engine, opened)[late.order_id] == "filled")
    assert value(orders.engine, "SELECT sequence FROM orders.quotes WHERE symbol = 'AAPL'") == 8


@pytest.mark.parametrize(
    ("fields", "waits_at", "fills_at"),
    [
        ({"type": OrderType.LIMIT, "limit_price": Decimal(99)}, "100", "98.5"),
        ({"type": OrderType.STOP, "stop_price": Decimal(101)}, "100", "101"),
    ],
)
def test_a_resting_order_fills_only_when_its_price_is_reached(
    system: System, orders: ServiceContext, opened: UUID, fields: dict[str, object], waits_at: str, fills_at: str
) -> None:
    """A limit waits for the ask at or below it, a stop for the last price at or beyond it."""
    submitted = order(opened, **fields)
    send(system.contexts["gateway"], submitted)
    eventually(lambda: statuses(orders.engine, opened).get(submitted.order_id) == "accepted")
    send(system.contexts["marketdata"], prices(price("AAPL", waits_at, sequence=1)))
    settled(system)
    assert statuses(orders.engine, opened)[submitted.order_id] == "accepted"
    send(system.contexts["marketdata"], prices(price("AAPL", fills_at, sequence=2)))
    settled(system)
    assert statuses(orders.engine, opened)[submitted.order_id] == "filled"


def test_every_message_delivered_twice_acts_once(system: System, orders: ServiceContext, opened: UUID) -> None:
    """The whole journey with each message sent again under its id: one order, one fill, one round trip."""
    bought, sold = order(opened), order(opened, side=Side.SELL)
    ids = [uuid4() for _ in range(4)]
    for _ in range(2):
        send(system.contexts["gateway"], bought, message_id=ids[0])
        settled(system)
    first = prices(price("AAPL", "100", sequence=1))
    for _ in range(2):
        send(system.contexts["marketdata"], first, message_id=ids[1])
        settled(system)
    for _ in range(2):
        send(system.contexts["gateway"], sold, message_id=ids[2])
        settled(system)
    second = prices(price("AAPL", "110", sequence=2))
    for _ in range(2):
        send(system.contexts["marketdata"], second, message_id=ids[3])
        settled(system)
    assert value(orders.engine, "SELECT count(*) FROM orders.fills WHERE account_id = :a", a=opened) == 2
    (trip,) = rows(orders.engine, "SELECT realized_pl, qty FROM orders.round_trips WHERE account_id = :a", a=opened)
    assert (trip.realized_pl, trip.qty) == (Decimal("99.80"), Decimal(10))


def test_a_buy_beyond_buying_power_is_refused_before_any_change(
    system: System, orders: ServiceContext, opened: UUID
) -> None:
    """Open orders reserve: the second of two that fit alone is refused, with the amounts."""
    first = order(opened, type=OrderType.LIMIT, limit_price=Decimal(60), qty=Decimal(1000))
    second = order(opened, type=OrderType.LIMIT, limit_price=Decimal(60), qty=Decimal(1000))
    for each in (first, second):
        send(system.contexts["gateway"], each)
        settled(system)
    assert statuses(orders.engine, opened) == {first.order_id: "accepted", second.order_id: "rejected"}
    (refused,) = rows(orders.engine, "SELECT * FROM orders.orders WHERE id = :i", i=second.order_id)
    assert refused.reject_reason == "insufficient_buying_power"
    assert refused.reject_message == "insufficient buying power (needed: 60000, available: 40000)"


def test_a_sell_beyond_the_shares_not_promised_yet_is_refused(
    system: System, orders: ServiceContext, opened: UUID
) -> None:
    """Ten held, six held_for_orders to an open sell: five more cannot be sold."""
    send(system.contexts["gateway"], order(opened))
    settled(system)
    send(system.contexts["marketdata"], prices(price("AAPL", "100")))
    settled(system)
    far = {"type": OrderType.LIMIT, "limit_price": Decimal(500), "side": Side.SELL}
    first, second = order(opened, qty=Decimal(6), **far), order(opened, qty=Decimal(5), **far)
    for each in (first, second):
        send(system.contexts["gateway"], each)
        settled(system)
    after = statuses(orders.engine, opened)
    assert (after[first.order_id], after[second.order_id]) == ("accepted", "rejected")


def test_a_market_order_that_cannot_be_paid_when_it_would_fill_is_refused(
    system: System, orders: ServiceContext, opened: UUID
) -> None:
    """With no quote at submission nothing could be reserved. The fill itself checks."""
    submitted = order(opened, qty=Decimal(1001))
    send(system.contexts["gateway"], submitted)
    settled(system)
    assert statuses(orders.engine, opened)[submitted.order_id] == "accepted"
    send(system.contexts["marketdata"], prices(price("AAPL", "100")))
    settled(system)
    assert statuses(orders.engine, opened)[submitted.order_id] == "rejected"
    assert value(orders.engine, "SELECT cash FROM orders.accounts WHERE id = :a", a=opened) == 100_000


def test_a_cancel_releases_what_was_reserved(system: System, orders: ServiceContext, opened: UUID) -> None:
    """After the cancel the order never fills and the cash is free."""
    submitted = order(opened, type=OrderType.LIMIT, limit_price=Decimal(50))
    send(system.contexts["gateway"], submitted)
    settled(system)
    cancel = CancelOrder(account_id=opened, order_id=submitted.order_id, requested_at=utc_now())
    send(system.contexts["gateway"], cancel)
    settled(system)
    send(system.contexts["marketdata"], prices(price("AAPL", "40")))
    settled(system)
    assert statuses(orders.engine, opened)[submitted.order_id] == "canceled"
    assert value(orders.engine, "SELECT reserved FROM orders.accounts WHERE id = :a", a=opened) == 0


def test_a_cancel_that_overtakes_its_submit_is_parked_until_the_order_is_there(
    system: System, orders: ServiceContext, opened: UUID
) -> None:
    """The cancel comes first. The order still ends canceled."""
    submitted = order(opened, type=OrderType.LIMIT, limit_price=Decimal(50))
    cancel = CancelOrder(account_id=opened, order_id=submitted.order_id, requested_at=utc_now())
    send(system.contexts["gateway"], cancel)
    send(system.contexts["strategy"], submitted)
    eventually(lambda: statuses(orders.engine, opened).get(submitted.order_id) == "canceled")
    settled(system)


def test_a_second_order_under_the_same_client_id_is_refused(
    system: System, orders: ServiceContext, opened: UUID
) -> None:
    """client_order_id is unique per account, whoever sends it."""
    first = order(opened, client_order_id="mine")
    second = order(opened, client_order_id="mine")
    for each in (first, second):
        send(system.contexts["gateway"], each)
        settled(system)
    assert statuses(orders.engine, opened)[second.order_id] == "rejected"


def test_the_sweep_fills_what_a_lost_event_missed(system: System, orders: ServiceContext, opened: UUID) -> None:
    """A price is in marketdata's rows but its event never came: process_orders fills on it."""
    submitted = order(opened)
    send(system.contexts["gateway"], submitted)
    settled(system)
    with system.contexts["marketdata"].engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE marketdata.instruments SET sequence = 7, provider = 'test', last_price = 100, bid = 99, ask = 101,"
            " quoted_at = clock_timestamp() WHERE symbol = 'AAPL'"
        )
    assert [sweep(orders), sweep(orders)] == [1, 0]
    settled(system)
    (fill,) = rows(orders.engine, "SELECT price, price_sequence FROM orders.fills WHERE account_id = :a", a=opened)
    assert (fill.price, fill.price_sequence) == (101, 7)


def test_a_day_order_expires_at_the_end_of_its_session(system: System, orders: ServiceContext, opened: UUID) -> None:
    """The demo market's day ends at midnight UTC: after it the order is gone and its cash free."""
    day = order(opened, type=OrderType.LIMIT, limit_price=Decimal(50), time_in_force=TimeInForce.DAY)
    kept = order(opened, type=OrderType.LIMIT, limit_price=Decimal(50), time_in_force=TimeInForce.GTC)
    for each in (day, kept):
        send(system.contexts["gateway"], each)
        settled(system)
    tomorrow = ServiceContext("orders", orders.engine, lambda: utc_now() + timedelta(days=1))
    with tomorrow.unit_of_work() as uow:
        assert expire(uow) == 1
    settled(system)
    assert statuses(orders.engine, opened) == {day.order_id: "expired", kept.order_id: "accepted"}


def test_a_batch_of_fills_takes_as_many_statements_as_one_fill(
    system: System, orders: ServiceContext, opened: UUID
) -> None:
    """Statements per price batch are constant: 40 fills cost what 1 costs."""

    def statements(count: int, sequence: int) -> int:
        for _ in range(count):
            send(system.contexts["gateway"], order(opened, qty=Decimal(1)))
        settled(system)
        with executed() as seen, orders.unit_of_work() as uow:
            assert fill_on(uow, [price("AAPL", "10", sequence=sequence)], at=uow.now) == count
        settled(system)
        return seen[0]

    assert 10 < statements(1, 1) == statements(40, 2)


def test_an_order_is_one_trace_from_its_submit_to_its_fill(
    system: System, orders: ServiceContext, opened: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also what another's work brings about: the price that fills it is a trace of its own."""
    found: dict[str, str] = {}
    adding = outbox.adding

    def noting(*given: Any) -> list[Call]:
        for message in given[2]:
            envelope: dramatiq.Message[None] = dramatiq.Message.decode(message.body)
            if envelope.kwargs.get("order_id") == str(submitted.order_id) or "prices" in envelope.kwargs:
                found[envelope.actor_name] = tracing.trace_id_of(envelope.options["traceparent"])
        return adding(*given)

    monkeypatch.setattr("shared.bus.outbox.adding", noting)
    submitted = order(opened)
    with tracing.tracing("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"):
        send(system.contexts["gateway"], submitted)
    eventually(lambda: statuses(orders.engine, opened).get(submitted.order_id) == "accepted")
    send(system.contexts["marketdata"], prices(price("AAPL", "100")))
    eventually(lambda: statuses(orders.engine, opened)[submitted.order_id] == "filled")
    settled(system)
    journey = {found[name] for name in ("SubmitOrder.v1", "OrderAccepted.v1", "OrderFilled.v1")}
    assert journey == {"0af7651916cd43dd8448eb211c80319c"}
    assert found["PricesUpdated.v1"] not in journey


def test_the_embedded_bus_tells_figures_of_its_queues(system: System, opened: UUID) -> None:
    """Nothing waits any more. The command that opened the account came in and went out."""
    settled(system)
    figures = {each.queue: each for each in system.broker.queue_stats()}
    commands = figures["orders.commands"]
    assert (commands.ready, commands.unacknowledged, commands.consumers, commands.oldest_age) == (0, 0, 1, None)
    assert commands.rate_in > 0
    assert commands.rate_out > 0
