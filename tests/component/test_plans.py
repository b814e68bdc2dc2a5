"""What waits costs nothing, also where a plan was made while hardly anything waited: plans live as long as connections.

Rows that PostgreSQL reads are counted, not seconds.
"""

from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from shared.contracts.base import Message
from shared.contracts.orders import CancelOrder, SubmitOrder
from shared.contracts.prices import PricesUpdated
from shared.storage.engine import make_engine
from tests.component.exchange_desk import HANDLERS, Exchange
from tests.support import order, price, rows, value

#: Open orders of one account on one symbol, half of them trailing stops.
WAITING = 10_000
#: Orders that have ended, of one account; the tables are known to have these.
ENDED = 20_000
#: Rows that may be read for a step which concerns one of them.
FEW = 100

Step = Callable[[Exchange, UUID], None]


@pytest.fixture
def planned(exchange: Exchange) -> Iterator[Exchange]:
    """It has one connection, so all that follows is planned on that."""
    url = exchange.orders.engine.url
    exchange.orders.engine.dispose()
    exchange.orders.engine = make_engine(url.render_as_string(hide_password=False), name="plans", pool_size=1)
    yield exchange
    exchange.orders.engine.dispose()


def handle(exchange: Exchange, message: Message) -> None:
    """Without the proof of the books, which reads everything."""
    exchange.clock.move(seconds=1)
    with exchange.orders.unit_of_work() as uow:
        HANDLERS[type(message)](message, uow)


def submitted(exchange: Exchange, account: UUID, **terms: object) -> SubmitOrder:
    command = order(account, submitted_at=exchange.clock.now, **terms)
    handle(exchange, command)
    return command


def quote(exchange: Exchange, last: str) -> None:
    exchange.clock.move(seconds=1)
    exchange.sequences["AAPL"] += 1
    made = price("AAPL", last, at=exchange.clock.now, sequence=exchange.sequences["AAPL"])
    exchange.show(made)
    handle(exchange, PricesUpdated(prices=(made,), at=exchange.clock.now))


def became(exchange: Exchange, command: SubmitOrder) -> Any:
    (row,) = rows(exchange.orders.engine, _BECAME, account=command.account_id, id=command.order_id)
    return row


def buy_and_sell(exchange: Exchange, account: UUID) -> None:
    for side in ("buy", "sell"):
        command = submitted(exchange, account, side=side)
        quote(exchange, "100")
        assert became(exchange, command).status == "filled"


def trail(exchange: Exchange, account: UUID) -> None:
    """A price that no order waits for, and that one follows."""
    command = submitted(exchange, account, side="sell", type="trailing_stop", trail_price=Decimal(50))
    for last in ("100", "101"):
        quote(exchange, last)
    assert became(exchange, command).hwm == 101
    handle(exchange, CancelOrder(account_id=account, order_id=command.order_id, requested_at=exchange.clock.now))


def rest_and_cancel(exchange: Exchange, account: UUID) -> None:
    command = submitted(exchange, account, type="limit", limit_price=Decimal(1))
    handle(exchange, CancelOrder(account_id=account, order_id=command.order_id, requested_at=exchange.clock.now))
    assert became(exchange, command).status == "canceled"


@pytest.mark.parametrize("step", [buy_and_sell, trail, rest_and_cancel])
def test_what_rests_is_not_read(planned: Exchange, step: Step) -> None:
    """In another symbol or far from its price, of another account or the same one."""
    account = planned.open("100000000", shorting=True, multiplier=2)
    for ended in (account, planned.open()):
        crowd(planned, ended, "MSFT", ENDED, is_open=False)
    step(planned, account)
    analyze(planned)
    step(planned, account)
    crowd(planned, account, "IBM", WAITING)
    crowd(planned, planned.open(), "AAPL", WAITING)
    before = read(planned)
    step(planned, account)
    assert read(planned) - before < FEW


def analyze(exchange: Exchange) -> None:
    with exchange.orders.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.exec_driver_sql("ANALYZE orders.orders, orders.lots, orders.positions")


def crowd(exchange: Exchange, account: UUID, symbol: str, count: int, *, is_open: bool = True) -> None:
    """All at once, and nobody analyzes the table after it: of a large one, a tenth would have to change for that."""
    given = {"account": account, "symbol": symbol, "count": count, "is_open": is_open, "now": exchange.clock.now}
    with exchange.orders.engine.begin() as connection:
        connection.exec_driver_sql(_CROWD, given)


def read(exchange: Exchange) -> int:
    """Rows of the service's tables and entries of their indexes that were read so far."""
    with exchange.orders.engine.connect() as connection:
        connection.exec_driver_sql("SELECT pg_stat_force_next_flush()")
    return int(value(exchange.orders.engine, _READ))


_CROWD = """
INSERT INTO orders.orders (account_id, id, order_group, client_order_id, symbol, side, type, time_in_force, qty,
  limit_price,
                           trail_price, hwm, trigger_direction, trigger_price, status, submitted_at, accepted_at,
                           active_at,
                           updated_at)
SELECT %(account)s, id, id, id::text, %(symbol)s, 'buy', CASE WHEN trails THEN 'trailing_stop' ELSE 'limit' END,
       'gtc', 1, CASE WHEN NOT trails THEN 1 END, CASE WHEN trails THEN 900 END, CASE WHEN trails THEN 1 END,
       CASE WHEN %(is_open)s THEN CASE WHEN trails THEN 'above' ELSE 'below' END END,
       CASE WHEN %(is_open)s THEN CASE WHEN trails THEN 901 ELSE 1 END END,
       CASE WHEN %(is_open)s THEN 'accepted' ELSE 'canceled' END, %(now)s, %(now)s, %(now)s, %(now)s
FROM (SELECT gen_random_uuid() AS id, n %% 2 = 0 AS trails FROM generate_series(1, %(count)s) AS n) made
"""
_BECAME = "SELECT status, hwm FROM orders.orders WHERE account_id = :account AND id = :id"
_READ = """
SELECT (SELECT COALESCE(sum(seq_tup_read), 0) FROM pg_stat_user_tables WHERE schemaname = 'orders')
     + (SELECT COALESCE(sum(idx_tup_read), 0) FROM pg_stat_user_indexes WHERE schemaname = 'orders')
"""
