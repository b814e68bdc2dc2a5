"""The nightly proof: each way to break the books is found, by the name of what does not hold."""

from typing import Any
from uuid import UUID, uuid4

import pytest

from services.orders.jobs import BooksBroken, jobs
from services.orders.persistence.invariants import INVARIANTS
from shared.jobs.run_context import Counts, RunContext
from tests.component.paper_exchange import Exchange


def prove(exchange: Exchange) -> Counts:
    return jobs.declared["prove_books"].run(RunContext(uuid4(), exchange.orders, exchange.clock.now, {}))


@pytest.fixture
def account(exchange: Exchange) -> UUID:
    """Bought and sold a part of it, has an exit pair open, and an order that was replaced."""
    account = exchange.open(fills={"participation": "1", "commission": {"kind": "percent", "rate": "1"}})
    exits: dict[str, Any] = {"take_profit": {"limit_price": "110"}, "stop_loss": {"stop_price": "90"}}
    exchange.submit(account, order_class="bracket", **exits)
    exchange.price("AAPL 100/100 100", ask_size="100")
    exchange.price("AAPL 111/111 111", bid_size="4")
    resting = exchange.submit(account, "buy 1 AAPL limit", limit_price="50")
    exchange.replace(account, resting, limit_price="51")
    return account


def test_books_that_add_up_are_proven(exchange: Exchange, account: UUID) -> None:
    """Every invariant, however many rows there are."""
    assert prove(exchange) == {"invariants_proven": len(INVARIANTS)}
    assert exchange.held(account) == 6


FILLED = "an order's filled quantity is the sum of its fills, at most its quantity"
TRADE = "an ended order with fills is one trade, with their sums; no other order is one"
BREAKS = [
    ("cash is the sum of the ledger", "UPDATE orders.accounts SET cash = cash + 0.01"),
    (
        "cash is deposits, dividends, interest, cash in lieu and fills, recomputed",
        "UPDATE orders.fills SET price = price + 1, amount = amount + qty WHERE side = 'buy'",
    ),
    (
        "a fill's amount is its value to the cent, rounded against the trader",
        "UPDATE orders.fills SET amount = amount + CASE side WHEN 'buy' THEN -0.01 ELSE 0.01 END",
    ),
    (
        "closing orders hold at most the position",
        "UPDATE orders.orders SET held_for_orders = 6.1 WHERE leg = 'take_profit'",
    ),
    (
        "closing orders hold at most the position",
        "UPDATE orders.orders SET held_for_orders = 1 WHERE leg IS NULL AND is_open",
    ),
    ("a position is the sum of its fills", "UPDATE orders.fills SET qty = qty + 1 WHERE side = 'buy'"),
    ("a position is its open lots", "UPDATE orders.lots SET qty = qty - 1"),
    ("a position is the sum of its ledger entries", "DELETE FROM orders.positions"),
    (
        "realised P&L is that of the round trips",
        "UPDATE orders.round_trips SET proceeds = proceeds + 1, realized_pl = realized_pl + 1",
    ),
    ("an order's fees are those of its fills", "UPDATE orders.orders SET fees = fees + 1 WHERE fills > 0"),
    ("cash + cost of lots + fees - realised P&L - dividends = deposits", "UPDATE orders.fills SET fee = fee + 1"),
    ("an account reserves the sum of its open orders", "UPDATE orders.accounts SET reserved = reserved + 1"),
    (FILLED, "UPDATE orders.orders SET filled_qty = filled_qty - 1 WHERE filled_qty > 1"),
    (
        "a fill lies on its quote or in its bar, which is newer than the order",
        "UPDATE orders.fills SET quoted_at = quoted_at - interval '1 hour'",
    ),
    (
        "a fill lies on its quote or in its bar, which is newer than the order",
        "UPDATE orders.fills SET price = price + 20 WHERE side = 'buy'",
    ),
    (
        "a fill is converted at the rate that it names, on its side of the pair's quote",
        "UPDATE orders.fills SET rate = 1.1, amount = round(amount * 1.1, 2)",
    ),
    (
        "an order for an auction fills in it alone, at its price, and no other order does",
        "UPDATE orders.fills SET stage = 'auction', price = last, slippage = 0",
    ),
    (
        "nothing fills after its end",
        (
            "UPDATE orders.orders SET status = 'canceled', canceled_at = filled_at - interval '1 s', qty = qty + 1,"
            " reserved = 0, held_for_orders = 0 WHERE status = 'filled'"
        ),
    ),
    (
        "every ledger entry of a fill has its fill, once",
        (
            "INSERT INTO orders.ledger (account_id, at, kind, reference, cash)"
            " SELECT account_id, at, kind, gen_random_uuid(), 0 FROM orders.ledger WHERE kind = 'fill' LIMIT 1"
        ),
    ),
    (
        "a dividend is paid by the entry of the ledger that it has, once",
        (
            "INSERT INTO orders.dividends SELECT account_id, gen_random_uuid(), 1, symbol, qty, 1, updated_at,"
            " updated_at, updated_at, qty FROM orders.positions"
        ),
    ),
    (
        "two open exits of an order group have the same quantity left",
        "UPDATE orders.orders SET qty = qty - 1 WHERE leg = 'stop_loss'",
    ),
    (TRADE, "DELETE FROM orders.trades"),
    (TRADE, "UPDATE orders.trades SET qty = qty - 1"),
    (TRADE, "UPDATE orders.trades SET realized_pl = 0 WHERE realized_pl IS NULL"),
    (
        "a fill's realised P&L is that of the round trips that it ended",
        "UPDATE orders.fills SET realized_pl = realized_pl + 1",
    ),
    (
        TRADE,
        (
            "INSERT INTO orders.trades SELECT account_id, id, 1, symbol, side, 1, 1, currency, 0, NULL, NULL,"
            " submitted_at, submitted_at, submitted_at FROM orders.orders WHERE status = 'replaced'"
        ),
    ),
]


@pytest.mark.parametrize(("name", "statement"), BREAKS)
def test_each_way_to_break_the_books_is_found(exchange: Exchange, account: UUID, statement: str, name: str) -> None:
    """A hand in the database goes past all code. The run fails, and says where."""
    with exchange.orders.engine.begin() as connection:
        connection.exec_driver_sql(statement)
    assert account
    with pytest.raises(BooksBroken) as found:
        prove(exchange)
    assert name in found.value.args[0]


def test_every_invariant_has_a_way_to_break_it() -> None:
    """But for what the database itself refuses."""
    refused = {"nothing is reserved or held for an ended order"}
    assert {name for name, _ in BREAKS} | refused == set(INVARIANTS)
