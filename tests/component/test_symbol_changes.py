"""A symbol changes: everything of it moves to the new one, and trading goes on under that."""

from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

from services.marketdata.actors import enter_corporate_action
from services.orders.persistence.renaming import TABLES
from shared.contracts.corporate_actions import ActionKind, CorporateActionApplied, EnterCorporateAction
from tests.component.paper_exchange import Exchange
from tests.component.watching import outbox
from tests.support import rows, value


def change(exchange: Exchange, new_symbol: str = "META", old: str = "AAPL") -> list[CorporateActionApplied]:
    """Change the symbol now. Returns the messages about actions."""
    command = EnterCorporateAction(
        action_id=uuid4(),
        symbol=old,
        kind=ActionKind.SYMBOL_CHANGE,
        new_symbol=new_symbol,
        effective_at=exchange.clock.move(seconds=1),
    )
    with exchange.marketdata.unit_of_work() as uow:
        enter_corporate_action(command, uow)
    sent = [each.body for each in outbox(exchange.marketdata) if each.name == "CorporateActionApplied.v1"]
    return [CorporateActionApplied.model_validate(body) for body in sent]


def symbols(exchange: Exchange, table: str) -> set[str]:
    schema, _, _ = table.partition(".")
    context = exchange.marketdata if schema == "marketdata" else exchange.orders
    return {row.symbol for row in rows(context.engine, f"SELECT DISTINCT symbol FROM {table}") if row.symbol}


def test_positions_orders_bars_and_history_move_to_the_new_symbol(exchange: Exchange) -> None:
    """The books add up, the resting order fills on the new symbol's price, and the holder can sell."""
    account = exchange.open()
    exchange.submit(account, "buy 20 AAPL market")
    exchange.price("AAPL 100/100 100")
    exchange.submit(account, "sell 5 AAPL market")
    exchange.price("AAPL 101/101 101")
    resting = exchange.submit(account, "buy 3 AAPL limit", limit_price="90")
    exchange.missed([("100", "101", "99", "100")])
    with exchange.marketdata.engine.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO marketdata.halts (id, symbol, reason, began_at, ended_at) VALUES (%s, 'AAPL', 'news', %s, %s)",
            (uuid4(), exchange.clock.now - timedelta(1), exchange.clock.now),
        )
    (event,) = change(exchange)
    assert (event.new_symbol, event.split_count, event.last) == ("META", 1, Decimal(100))
    exchange.handle(event)
    assert exchange.held(account, "META") == 15
    assert exchange.order(resting).symbol == "META"
    for table in (f"orders.{name}" for name in TABLES):
        assert symbols(exchange, table) <= {"META"}, table
    for table in ("market_data", "halts", "corporate_actions"):
        assert symbols(exchange, f"marketdata.{table}") == {"META"}, table
    said = {
        (body["symbol"], Decimal(body["qty"])) for name, body in exchange.said(account) if name == "PositionChanged"
    }
    assert {("AAPL", Decimal(0)), ("META", Decimal(15))} <= said
    exchange.sequences["META"] = exchange.sequences["AAPL"] + 1
    exchange.price("META 89/89 89", split_count=1)
    assert exchange.status(resting) == "filled"
    assert exchange.held(account, "META") == 18
    exchange.submit(account, "sell 18 META market")
    exchange.price("META 95/95 95", split_count=1)
    assert exchange.held(account, "META") == 0


def test_the_old_instrument_is_retired_and_its_positions_have_a_price_until_they_move(exchange: Exchange) -> None:
    """Between the two halves the position is valued at the last price. Afterwards its value is the same."""
    account = exchange.open()
    exchange.submit(account)
    exchange.price("AAPL 100/100 100")
    worth = "SELECT sum(qty * last * rate) FROM valuation.current_positions_v1 WHERE account_id = :id"
    (event,) = change(exchange)
    instruments = {row.symbol: row for row in rows(exchange.marketdata.engine, "SELECT * FROM marketdata.instruments")}
    assert (instruments["AAPL"].tradable, instruments["AAPL"].status) == (False, "retired")
    assert (instruments["META"].tradable, instruments["META"].last_price) == (True, 100)
    assert instruments["META"].id != instruments["AAPL"].id
    assert value(exchange.valuation.engine, worth, id=account) == 1000
    exchange.handle(event)
    assert value(exchange.valuation.engine, worth, id=account) == 1000
    exchange.handle(event)
    assert exchange.held(account, "META") == 10


def test_a_symbol_of_another_instrument_is_not_taken(exchange: Exchange) -> None:
    """The change is left out with its reason, and the next actions are applied."""
    account = exchange.open()
    exchange.submit(account)
    exchange.price("AAPL 100/100 100")
    assert change(exchange, "IBM") == []
    (row,) = rows(exchange.marketdata.engine, "SELECT * FROM marketdata.corporate_actions_v1")
    assert row.applied_at is not None
    assert row.correction == {"left_out": "IBM is another instrument"}
    assert [event.new_symbol for event in change(exchange)] == ["META"]


def test_every_table_of_the_books_with_a_symbol_is_known(exchange: Exchange) -> None:
    """A new one would keep the old symbol."""
    found: list[Any] = rows(
        exchange.orders.engine,
        "SELECT table_name FROM information_schema.columns c JOIN information_schema.tables USING (table_schema,"
        " table_name) WHERE table_schema = 'orders' AND column_name = 'symbol' AND table_type = 'BASE TABLE'",
    )
    assert {row.table_name for row in found} == {*TABLES, "quotes", "consumed"}
