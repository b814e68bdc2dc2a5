"""Lists of orders read the orders that they show, however many others rest or have ended.

Rows that PostgreSQL reads are counted, not seconds. The plans are made before most of the rows exist, as in production:
a plan lives as long as its connection.
"""

from collections.abc import Iterator
from datetime import datetime, timedelta
from statistics import median
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy import Connection, Engine

from services.gateway.trading import order_queries
from services.gateway.trading.requests import OrderQuery
from shared.storage.engine import make_engine
from tests.component.paper_exchange import Exchange
from tests.component.test_plans import FEW, analyze, ask, read

#: Orders of the account when the plans are made, and those that are added after it.
EARLIER, LATER = 5_000, 20_000
DAY = timedelta(days=1)


@pytest.fixture
def gateway(urls: dict[str, str]) -> Iterator[Engine]:
    """An engine with one connection, so that every statement uses the plans of the first ones."""
    engine = make_engine(urls["gateway"], name="plans", pool_size=1)
    yield engine
    engine.dispose()


def crowd(exchange: Exchange, account: UUID, symbol: str, count: int, status: str, until: datetime) -> None:
    """Add limit orders of one status, a millisecond apart, the last one at ``until``."""
    given = {"account": account, "symbol": symbol, "count": count, "status": status, "until": until}
    with exchange.orders.engine.begin() as connection:
        connection.exec_driver_sql(_CROWD, given)


def rows_read(engine: Engine, account: UUID, query: OrderQuery) -> int:
    """Return the rows that the list reads, on average of twelve times."""

    def question(connection: Connection, account_id: UUID, _order_id: UUID) -> None:
        assert order_queries.orders(connection, account_id, query)

    before = read(engine)
    ask(engine, question, account, account)
    return (read(engine) - before) // 12


CLOSED: list[dict[str, Any]] = [
    {"status": "closed"},
    {"status": "closed", "nested": True},
    {"status": "closed", "direction": "asc"},
    {"status": "closed", "symbols": "AAPL"},
    {"status": "open", "symbols": "AAPL"},
    {"status": "open", "symbols": "AAPL", "nested": True},
    {"status": "all", "symbols": "AAPL"},
    {"status": "all"},
]


@pytest.mark.parametrize("query", CLOSED, ids=str)
def test_resting_orders_that_a_list_does_not_show_are_not_read(
    exchange: Exchange, gateway: Engine, query: dict[str, Any]
) -> None:
    """The account has orders of AAPL, open and ended, and then many newer ones of IBM rest."""
    account, now = exchange.open("100000000"), exchange.clock.now
    crowd(exchange, account, "MSFT", EARLIER, "canceled", now - 3 * DAY)
    for status in ("canceled", "accepted"):
        crowd(exchange, account, "AAPL", 10, status, now - 2 * DAY)
    analyze(exchange)
    asked = OrderQuery(**query, limit=10)
    before = rows_read(gateway, account, asked)
    crowd(exchange, account, "IBM", LATER, "accepted", now)
    assert rows_read(gateway, account, asked) - before < FEW


OPEN: list[dict[str, Any]] = [
    {"status": "open"},
    {"status": "open", "nested": True},
    {"status": "open", "symbols": "IBM"},
]


@pytest.mark.parametrize("query", OPEN, ids=str)
def test_ended_orders_are_not_read_for_the_open_ones(
    exchange: Exchange, gateway: Engine, query: dict[str, Any]
) -> None:
    """A few old orders rest, and many newer ones have ended."""
    account, now = exchange.open("100000000"), exchange.clock.now
    crowd(exchange, account, "MSFT", EARLIER, "canceled", now - 3 * DAY)
    crowd(exchange, account, "IBM", 10, "accepted", now - 2 * DAY)
    analyze(exchange)
    asked = OrderQuery(**query)
    before = rows_read(gateway, account, asked)
    crowd(exchange, account, "IBM", LATER, "canceled", now)
    assert rows_read(gateway, account, asked) - before < FEW


def test_ended_orders_are_not_read_for_the_open_ones_of_the_page(exchange: Exchange, gateway: Engine) -> None:
    """The page shows all open orders, without a limit that would bound the rows.

    The median leaves out rows that other connections read before, and that PostgreSQL counts late.
    """

    def question(connection: Connection, account_id: UUID, _order_id: UUID) -> None:
        assert len(order_queries.open_orders(connection, account_id)) == 60

    account, now = exchange.open("100000000"), exchange.clock.now
    crowd(exchange, account, "MSFT", EARLIER, "canceled", now - 3 * DAY)
    crowd(exchange, account, "IBM", 60, "accepted", now - 2 * DAY)
    analyze(exchange)
    ask(gateway, question, account, account)
    crowd(exchange, account, "IBM", LATER, "canceled", now)
    counts = []
    for _ in range(5):
        before = read(gateway)
        ask(gateway, question, account, account)
        counts.append((read(gateway) - before) // 12)
    assert median(counts) < 60 + FEW


_CROWD = """
INSERT INTO orders.orders (account_id, id, order_group, client_order_id, symbol, side, type, time_in_force, qty,
  limit_price, trigger_direction, trigger_price, status, submitted_at, accepted_at, active_at, updated_at)
SELECT %(account)s, id, id, id::text, %(symbol)s, 'buy', 'limit', 'gtc', 1, 1,
       CASE WHEN %(status)s = 'accepted' THEN 'below' END, CASE WHEN %(status)s = 'accepted' THEN 1 END,
       %(status)s, at, at, at, at
FROM (SELECT gen_random_uuid() AS id, %(until)s - n * interval '1 millisecond' AS at
      FROM generate_series(0, %(count)s - 1) AS n) made
"""
