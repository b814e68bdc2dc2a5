"""A trade is a completed order: one row with the sums of its fills, written with its end."""

from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from services.orders.usecases.execute import fill_on
from shared.contracts.accounts import ResetAccount
from tests.component.paper_exchange import Exchange
from tests.support import executed, price, rows


@pytest.fixture
def account(exchange: Exchange) -> UUID:
    """It takes no more than the market shows, and pays a commission of one per cent."""
    return exchange.open(fills={"participation": "1", "commission": {"kind": "percent", "rate": "1"}})


def trades(exchange: Exchange) -> list[Any]:
    return rows(exchange.orders.engine, "SELECT * FROM orders.trades_v1 ORDER BY completed_at, order_id")


def test_an_order_that_filled_in_two_parts_is_one_trade(exchange: Exchange, account: UUID) -> None:
    """With the average of its prices, the sum of its fees, and the times of its submit, first fill and last fill."""
    submitted_at = exchange.clock.now
    order_id = exchange.submit(account, "buy 10 AAPL market", strategy_id=UUID(int=9))
    exchange.price("AAPL 100/100 100", ask_size="4")
    first_at = exchange.clock.now
    assert trades(exchange) == []
    exchange.price("AAPL 110/110 110", ask_size="100")
    (trade,) = trades(exchange)
    assert (trade.order_id, trade.account_id, trade.generation) == (order_id, account, 1)
    assert (trade.symbol, trade.side, trade.qty, trade.avg_price) == ("AAPL", "buy", 10, 106)
    assert (trade.fees, trade.currency) == (Decimal("10.60"), "USD")
    assert trade.realized_pl is None
    assert trade.strategy_id == UUID(int=9)
    assert (trade.submitted_at, trade.first_fill_at) == (submitted_at, first_at)
    assert trade.completed_at == exchange.clock.now


def test_what_a_trade_realised_is_that_of_all_its_fills(exchange: Exchange, account: UUID) -> None:
    """A sale in two parts, of which one wins 4 * 10 and one loses 6 * 5."""
    exchange.submit(account, "buy 10 AAPL market")
    exchange.price("AAPL 100/100 100", ask_size="100")
    exchange.submit(account, "sell 10 AAPL market")
    exchange.price("AAPL 110/110 110", bid_size="4")
    exchange.price("AAPL 95/95 95", bid_size="100")
    bought, sold = trades(exchange)
    assert (bought.side, bought.realized_pl) == ("buy", None)
    assert (sold.side, sold.qty, sold.avg_price, sold.realized_pl) == ("sell", 10, 101, 10)


def test_a_trade_that_closed_at_what_it_cost_realised_nothing(exchange: Exchange, account: UUID) -> None:
    """Zero is not the same as null, which says that it closed nothing."""
    for side in ("buy", "sell"):
        exchange.submit(account, f"{side} 10 AAPL market")
        exchange.price("AAPL 100/100 100", bid_size="100", ask_size="100")
    assert [trade.realized_pl for trade in trades(exchange)] == [None, 0]


def test_a_part_that_filled_before_the_cancel_is_a_trade(exchange: Exchange, account: UUID) -> None:
    order_id = exchange.submit(account, "buy 10 AAPL limit", limit_price="100")
    exchange.price("AAPL 100/100 100", ask_size="4")
    exchange.cancel(account, order_id)
    (trade,) = trades(exchange)
    assert (trade.order_id, trade.qty, trade.completed_at) == (order_id, 4, exchange.clock.now)


def test_a_part_that_filled_before_the_session_s_end_is_a_trade(exchange: Exchange, account: UUID) -> None:
    order_id = exchange.submit(account, "buy 10 AAPL limit", limit_price="100", time_in_force="day")
    exchange.price("AAPL 100/100 100", ask_size="4")
    assert exchange.expire(days=2) == 1
    (trade,) = trades(exchange)
    assert (trade.order_id, trade.qty, trade.completed_at) == (order_id, 4, exchange.clock.now)


def test_the_parts_before_and_after_a_replace_are_two_trades(exchange: Exchange, account: UUID) -> None:
    """Each under its own order's id, with what that order filled."""
    old = exchange.submit(account, "buy 10 AAPL limit", limit_price="100")
    exchange.price("AAPL 100/100 100", ask_size="4")
    new = exchange.replace(account, old, limit_price="101")
    exchange.price("AAPL 101/101 101", ask_size="100")
    assert [(trade.order_id, trade.qty, trade.avg_price) for trade in trades(exchange)] == [
        (old, 4, 100),
        (new, 6, 101),
    ]


def test_orders_that_never_filled_are_no_trades(exchange: Exchange, account: UUID) -> None:
    """Canceled, replaced, expired, rejected, and open ones."""
    terms = {"limit_price": "50"}
    exchange.cancel(account, exchange.submit(account, "buy 10 AAPL limit", **terms))
    exchange.replace(account, exchange.submit(account, "buy 10 AAPL limit", **terms), limit_price="51")
    exchange.submit(account, "buy 1 AAPL limit", limit_price="50", time_in_force="day")
    assert exchange.expire(days=2) == 1
    rejected = exchange.submit(account, "buy 100000 AAPL limit", **terms)
    assert exchange.status(rejected) == "rejected"
    assert trades(exchange) == []


def test_trades_of_an_earlier_generation_stay(exchange: Exchange, account: UUID) -> None:
    """A reset ends the open order. Its part belongs to the earlier generation."""
    exchange.submit(account, "buy 10 AAPL limit", limit_price="100")
    exchange.price("AAPL 100/100 100", ask_size="4")
    exchange.handle(ResetAccount(account_id=account, reset_id=uuid4(), cash=Decimal(5000)))
    exchange.submit(account, "buy 1 AAPL market")
    exchange.price("AAPL 100/100 100", ask_size="100")
    assert [(trade.generation, trade.qty) for trade in trades(exchange)] == [(1, 4), (2, 1)]


def test_only_a_batch_that_completes_orders_takes_a_statement_for_trades(exchange: Exchange, account: UUID) -> None:
    """One, however many orders are completed."""

    def statements(count: int, sizes: str) -> int:
        for _ in range(count):
            exchange.submit(account, "buy 2 IBM market")
        exchange.clock.move(seconds=1)
        exchange.sequences["IBM"] += 1
        shown = price("IBM", "100", at=exchange.clock.now, sequence=exchange.sequences["IBM"])
        shown = shown.model_copy(update={"ask_size": Decimal(sizes)})
        with executed() as seen, exchange.orders.unit_of_work() as uow:
            assert fill_on(uow, [shown], at=uow.now) == count
        return seen[0]

    part = statements(1, "1")
    (left,) = rows(exchange.orders.engine, "SELECT id FROM orders.orders WHERE is_open")
    exchange.cancel(account, left.id)
    assert statements(1, "100") == statements(20, "100") == part + 1


def test_the_trades_of_an_account_are_found_by_index_latest_first(exchange: Exchange, account: UUID) -> None:
    """A page after a given trade reads no other account's, and sorts nothing."""
    page = """
    EXPLAIN SELECT * FROM orders.trades_v1
    WHERE account_id = :account AND (completed_at, order_id) < (:at, :id)
    ORDER BY completed_at DESC, order_id DESC LIMIT 10
    """
    given = {"account": account, "at": exchange.clock.now + timedelta(days=1), "id": UUID(int=0)}
    with exchange.orders.engine.begin() as connection:
        connection.execute(text("SET LOCAL enable_seqscan = off"))
        connection.execute(text("SET LOCAL enable_bitmapscan = off"))
        plan = "\n".join(row[0] for row in connection.execute(text(page), given))
    assert "trades_by_time" in plan
    assert "Sort" not in plan
