"""An order that is written to its row and read back is the order that it was, whatever its fields are."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection

from services.orders.persistence import executions
from services.orders.persistence.orders import (
    CHANGING,
    ORDERS,
    End,
    OrderRow,
    adding_orders,
    find_order,
    incoming,
    lock_open_orders,
    saving_adjusted_orders,
    saving_orders,
    saving_replaced,
)
from shared.bus.unit_of_work import ServiceContext
from shared.contracts.accounts import AccountSettings
from shared.contracts.orders import AUCTIONS, PRICES, OrderClass, OrderStatus, OrderType, Side, TimeInForce
from shared.contracts.reasons import CancelReason, RejectReason
from shared.exchange.matching.triggers import price_trigger
from shared.exchange.order import Account, Key, Leg, Order
from shared.exchange.refusal import Refusal
from shared.storage.driver import Call, together
from shared.storage.tables import columns_of
from tests.component.paper_exchange import Exchange
from tests.support import rows

#: Columns that only a later change of the order writes, each by SQL of its own.
WRITTEN_LATER = {"filled_at", "canceled_at", "expired_at", "replaced_at", "replaced_by", "adjusted_at"}
#: Fields of the order that a split changes, beside those that change anyway.
SPLIT = ("limit_price", "stop_price", "trail_price")

moments = st.integers(0, 10**13).map(lambda n: datetime(2026, 1, 1, tzinfo=UTC) + timedelta(microseconds=n))
amounts = st.decimals(Decimal("0.000000001"), Decimal(1_000_000), places=9)
exhaustive = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@st.composite
def open_orders(draw: st.DrawFn, account_id: UUID) -> Order:
    """Any open order that the table accepts."""
    type_ = draw(st.sampled_from(OrderType))
    prices: dict[str, Any] = {name: draw(amounts) for name in PRICES[type_]}
    if type_ is OrderType.TRAILING_STOP:
        prices.pop(draw(st.sampled_from(sorted(prices))))
    time_in_force = draw(st.sampled_from(TimeInForce))
    auction = time_in_force in AUCTIONS
    filled = draw(amounts)
    sized = draw(st.booleans())
    order_class = draw(st.sampled_from(OrderClass))
    return Order(
        account_id=account_id,
        id=draw(st.uuids()),
        symbol=draw(st.sampled_from(["AAPL", "IBM"])),
        side=draw(st.sampled_from(Side)),
        type=type_,
        qty=filled + draw(amounts) if sized else None,
        notional=None if sized else draw(amounts),
        accepted_at=draw(moments),
        active_at=draw(moments),
        time_in_force=time_in_force,
        extended_hours=draw(st.booleans()),
        **prices,
        hwm=draw(st.none() | amounts),
        triggered=draw(st.booleans()),
        carried=draw(amounts),
        filled_qty=filled,
        filled_avg_price=draw(st.none() | amounts),
        fills=draw(st.integers(0, 1000)),
        fees=draw(amounts),
        reserved=draw(amounts),
        held_for_orders=draw(amounts),
        expires_at=draw(moments if auction else st.none() | moments),
        auction_day=draw(st.dates()) if auction else None,
        auction_at=draw(moments) if auction else None,
        strategy_id=draw(st.none() | st.uuids()),
        status=draw(st.sampled_from([OrderStatus.ACCEPTED, OrderStatus.HELD, OrderStatus.PARTIALLY_FILLED])),
        order_class=order_class,
        order_group=None if order_class is OrderClass.SIMPLE else draw(st.uuids()),
        leg=draw(st.none() | st.sampled_from(Leg)),
        trace=draw(st.none() | st.text("0123456789abcdef-", max_size=55)),
        currency=draw(st.sampled_from(["USD", "EUR"])),
        filled_avg_rate=draw(amounts),
    )


@pytest.fixture
def account(exchange: Exchange) -> UUID:
    return exchange.open()


def row_of(connection: Connection, order: Order) -> Any:
    statement = "SELECT * FROM orders.orders WHERE account_id = %s AND id = %s"
    return connection.exec_driver_sql(statement, (order.account_id, order.id)).one()


@exhaustive
@given(data=st.data())
def test_an_order_that_comes_in_is_read_back_as_it_was(exchange: Exchange, account: UUID, data: st.DataObject) -> None:
    """Every field of it, and what its row says beside."""
    order = data.draw(open_orders(account))
    submitted_at, now = data.draw(moments), data.draw(moments)
    settings_ = AccountSettings.model_validate({"fills": {"fills_on": data.draw(st.sampled_from(["bar", "quote"]))}})
    owner = Account(account, Decimal(0), Decimal(0), 0, settings=settings_, generation=data.draw(st.integers(1, 9)))
    replaces = data.draw(st.none() | st.uuids())
    with exchange.orders.engine.connect() as connection:  # nothing is committed
        row = incoming(order, owner, f"my {order.id}", submitted_at, now, replaces=replaces)
        together(connection, adding_orders([row]))
        assert find_order(connection, account, order.id) == order
        assert lock_open_orders(connection, [(account, order.order_group or order.id)]) == [order]
        stored = row_of(connection, order)
        direction, trigger_price = price_trigger(order)
        assert (stored.trigger_direction, stored.trigger_price) == (direction, trigger_price)
        assert (stored.client_order_id, stored.submitted_at, stored.updated_at) == (f"my {order.id}", submitted_at, now)
        assert (stored.generation, stored.replaces) == (owner.generation, replaces)
        assert stored.on_bar == (settings_.fills.fills_on == "bar")
        assert stored.order_group == (order.order_group or order.id)


@exhaustive
@given(data=st.data())
def test_what_changes_is_read_back_as_it_became(exchange: Exchange, account: UUID, data: st.DataObject) -> None:
    """A price changes the fields that may change, a split the prices, too, and all else stays."""
    before = data.draw(open_orders(account))
    other = data.draw(open_orders(account).filter(lambda each: (each.qty is None) == (before.qty is None)))
    changes = {name: getattr(other, name) for name in CHANGING if name in columns_of(Order)}
    split: dict[str, Any] = {name: data.draw(amounts) for name in SPLIT if getattr(before, name) is not None}
    now = data.draw(moments)
    owner = Account(account, Decimal(0), Decimal(0), 0)
    with exchange.orders.engine.connect() as connection:
        together(connection, adding_orders([incoming(before, owner, "mine", now, now)]))
        together(connection, saving_orders([replace(before, **changes)], {}, now))
        assert find_order(connection, account, before.id) == replace(before, **changes)
        together(connection, saving_adjusted_orders([replace(before, **changes, **split)], now))
        assert find_order(connection, account, before.id) == replace(before, **changes, **split)
        assert row_of(connection, before).adjusted_at == now


def test_every_column_of_the_table_is_declared(exchange: Exchange) -> None:
    """A column that nobody writes, or a field without a column, is forgotten."""
    statement = """
    SELECT column_name FROM information_schema.columns
    WHERE table_schema = 'orders' AND table_name = 'orders' AND is_generated = 'NEVER'
    """
    stored = {row.column_name for row in rows(exchange.orders.engine, statement)}
    assert ORDERS.name == "orders.orders"
    assert stored - WRITTEN_LATER == set(columns_of(OrderRow))
    assert set(columns_of(Order)) <= set(columns_of(OrderRow))


def ended(order: Order, status: OrderStatus) -> Order:
    return replace(order, status=status, reserved=Decimal(0), held_for_orders=Decimal(0))


ENDS: Mapping[OrderStatus, tuple[End, str]] = {
    OrderStatus.FILLED: (End(), "filled_at"),
    OrderStatus.CANCELED: (End(cancel_reason=CancelReason.REQUESTED), "canceled_at"),
    OrderStatus.EXPIRED: (End(), "expired_at"),
    OrderStatus.REJECTED: (
        End(None, RejectReason.INSUFFICIENT_BUYING_POWER, "too little", '{"available": "0"}'),
        "updated_at",
    ),
}


@pytest.mark.parametrize("status", ENDS)
def test_an_end_has_its_time_and_its_reason(orders: ServiceContext, exchange: Exchange, status: OrderStatus) -> None:
    """Those of other ends stay empty, and no price concerns it any more."""
    submitted = exchange.submit(account := exchange.open(), "buy 10 AAPL limit", limit_price="50")
    end, time = ENDS[status]
    now = exchange.clock.now + timedelta(hours=1)
    with orders.engine.connect() as connection:
        order = ended(find_order(connection, account, submitted), status)
        together(connection, saving_orders([order], {order.key: end}, now))
        stored = row_of(connection, order)
        assert find_order(connection, account, submitted) == order
    assert (stored.cancel_reason, stored.reject_reason, stored.reject_message, stored.reject_details) == end
    assert (stored.trigger_direction, stored.trigger_price) == (None, None)
    times = {"filled_at", "canceled_at", "expired_at"}
    assert {name for name in times if getattr(stored, name) is not None} == times & {time}
    assert getattr(stored, time) == now


def test_an_order_that_was_replaced_names_its_successor(orders: ServiceContext, exchange: Exchange) -> None:
    submitted = exchange.submit(account := exchange.open(), "buy 10 AAPL limit", limit_price="50")
    successor = uuid4()
    with orders.engine.connect() as connection:
        order = ended(find_order(connection, account, submitted), OrderStatus.REPLACED)
        together(connection, saving_replaced(order, successor, exchange.clock.now))
        stored = row_of(connection, order)
    assert (stored.status, stored.replaced_by, stored.replaced_at) == ("replaced", successor, exchange.clock.now)


def test_an_order_that_is_rejected_was_never_accepted(orders: ServiceContext, exchange: Exchange) -> None:
    submitted = exchange.submit(account := exchange.open(), "buy 10 AAPL limit", limit_price="50")
    refusal = Refusal(RejectReason.QTY, "too many")
    with orders.engine.connect() as connection:
        order = replace(ended(find_order(connection, account, submitted), OrderStatus.REJECTED), id=uuid4())
        owner, now = Account(account, Decimal(0), Decimal(0), 0), exchange.clock.now
        together(connection, adding_orders([incoming(order, owner, "mine", now, now, refusal=refusal)]))
        stored = row_of(connection, order)
    assert (stored.accepted_at, stored.reject_reason, stored.reject_message) == (None, "qty", "too many")


def test_an_order_is_loaded_as_the_exchange_left_it(exchange: Exchange, monkeypatch: pytest.MonkeyPatch) -> None:
    """A field that the exchange changes and that is not saved would show here: parts, stops, trails and exits."""
    left: dict[Key, Order] = {}

    def noting(orders: Iterable[Order], ends: Mapping[Key, End], now: datetime) -> Call:
        left.update({order.key: order for order in orders})
        return saving_orders(orders, ends, now)

    monkeypatch.setattr(executions, "saving_orders", noting)
    account = exchange.open(fills={"participation": "1", "fills_on": "bar"})
    exits: dict[str, Any] = {"take_profit": {"limit_price": "110"}, "stop_loss": {"stop_price": "90"}}
    exchange.submit(account, order_class="bracket", **exits)
    exchange.submit(account, "buy 10 AAPL stop_limit", stop_price="101", limit_price="101")
    exchange.price("AAPL 100/100 100", ask_size="4")
    exchange.price("AAPL 100/100 100", ask_size="100")
    exchange.submit(account, "buy 5 IBM market")
    exchange.price("IBM 100/100 100")
    exchange.submit(account, "sell 5 IBM trailing_stop", trail_price="5")
    exchange.bar("IBM 108/108 108", "100", "110")
    exchange.bar("AAPL 102/102 102", "100", "103")
    exchange.price("AAPL 111/111 111", bid_size="3")
    assert {order.status for order in left.values()} >= {OrderStatus.FILLED, OrderStatus.PARTIALLY_FILLED}
    assert {order.triggered for order in left.values()} == {True, False}
    with exchange.orders.engine.connect() as connection:
        assert {key: find_order(connection, *key) for key in left} == left
