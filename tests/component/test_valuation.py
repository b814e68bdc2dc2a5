"""Values on the in-process bus and a real PostgreSQL: an account is worth its cash and its shares at the last price."""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest

from embedded.system import System
from services.marketdata.service import prepare
from services.marketdata.store import Instrument, add_instruments
from services.orders.persistence.accounts import open_account
from services.valuation.jobs import jobs
from services.valuation.store import revalue
from shared.bus.inprocess import wait_until_idle
from shared.bus.unit_of_work import ServiceContext
from shared.contracts.base import routing_key
from shared.contracts.orders import Side
from shared.contracts.valuation import AccountsValued
from shared.jobs.run_context import Counts, RunContext
from shared.money import ZERO, cents
from tests.component.scripted_prices import push
from tests.component.watching import outbox, statements, unit_of
from tests.conftest import FakeClock
from tests.support import account, eventually, order, rows, send, value

SYMBOLS = ("AAPL", "FB", "GOOG", "IBM", "MSFT")
CASH = "100000"
Holdings = Mapping[UUID, Mapping[str, Decimal]]


@dataclass
class Books:
    """The services that a valuation reads of and the one that values, without a bus between them."""

    marketdata: ServiceContext
    orders: ServiceContext
    valuation: ServiceContext


@pytest.fixture
def books(urls: dict[str, str]) -> Iterator[Books]:
    with (
        unit_of("marketdata", urls) as marketdata,
        unit_of("orders", urls) as orders,
        unit_of("valuation", urls) as valuation,
    ):
        prepare(marketdata)
        yield Books(marketdata, orders, valuation)


@pytest.fixture
def valued(system: System) -> list[Any]:
    """The bodies of the AccountsValued events, as they come."""
    heard: list[Any] = []
    key = routing_key(AccountsValued, AccountsValued.service)
    system.broker.listen([key], lambda _name, body: heard.append(body))
    return heard


def settled(system: System) -> None:
    """Everything sent has been handled."""

    def drained() -> bool:
        wait_until_idle(system.broker, seconds=10)
        return not any(
            value(context.engine, f"SELECT count(*) FROM {name}.outbox") for name, context in system.contexts.items()
        )

    eventually(drained, what="the outboxes drained")


def random_prices(dice: random.Random) -> dict[str, Decimal]:
    return {symbol: Decimal(dice.randrange(500, 50_000)) / 100 for symbol in SYMBOLS}


def random_qty(dice: random.Random) -> Decimal:
    """Up to 20 shares, to the billionth."""
    return Decimal(dice.randrange(1, 20 * 10**9)).scaleb(-9)


def add_holders(orders: ServiceContext, dice: random.Random, number: int) -> Holdings:
    """Accounts with random cash, each with a random part of the symbols; some hold nothing."""
    holdings: dict[UUID, dict[str, Decimal]] = {}
    with orders.engine.begin() as connection:
        for _ in range(number):
            id_ = UUID(int=dice.getrandbits(128))
            cash = Decimal(dice.randrange(10**7)) / 100
            holdings[id_] = {symbol: random_qty(dice) for symbol in dice.sample(SYMBOLS, dice.randrange(4))}
            connection.exec_driver_sql(
                "INSERT INTO orders.accounts (id, number, name, currency, cash, created_at)"
                " VALUES (%s, %s, 'test', 'USD', %s, now())",
                (id_, str(id_), cash),
            )
            for symbol, qty in holdings[id_].items():
                connection.exec_driver_sql(
                    "INSERT INTO orders.positions VALUES (%s, %s, %s, %s, now())", (id_, symbol, qty, cents(qty * 100))
                )
    return holdings


def worth(orders: ServiceContext) -> dict[UUID, Decimal]:
    """Each account's cash and its shares at the last price, to the cent, computed here from the rows."""
    cash = {row.id: row.cash for row in rows(orders.engine, "SELECT id, cash FROM orders.accounts")}
    held = rows(
        orders.engine,
        "SELECT p.account_id, p.qty, i.last FROM orders.positions p"
        " JOIN marketdata.instruments_v1 i USING (symbol) WHERE i.last IS NOT NULL",
    )
    for row in held:
        cash[row.account_id] += cents(row.qty * row.last)
    return cash


def live(valuation: ServiceContext) -> dict[UUID, Decimal]:
    found = rows(valuation.engine, "SELECT account_id, equity FROM valuation.account_values")
    return {row.account_id: row.equity for row in found}


def update_positions(context: ServiceContext, run_id: UUID) -> Counts:
    return jobs.declared["update_positions"].run(RunContext(run_id, context, context.clock(), {}))


def test_every_batch_of_prices_values_its_holders_in_one_event(system: System, valued: list[Any]) -> None:
    """50 random accounts, ten batches: live equity is right to the cent, told once for all who hold a symbol."""
    dice = random.Random(5)
    holdings = add_holders(system.contexts["orders"], dice, 50)
    for number in range(1, 11):
        batch = random_prices(dice)
        if number > 1:
            batch = {symbol: batch[symbol] for symbol in dice.sample(SYMBOLS, 2)}
        push(system.contexts["marketdata"], batch)
        settled(system)
        holders = {id_ for id_, held in holdings.items() if held.keys() & batch}
        assert len(valued) == number
        told = {UUID(each["account_id"]): Decimal(each["equity"]) for each in valued[-1]["values"]}
        expected = worth(system.contexts["orders"])
        assert told == {id_: expected[id_] for id_ in holders}
        assert live(system.contexts["valuation"]) == {id_: expected[id_] for id_, held in holdings.items() if held}


def test_a_price_that_nobody_holds_says_nothing(system: System, valued: list[Any]) -> None:
    """No event without a changed value."""
    push(system.contexts["marketdata"], {"AAPL": "100"})
    settled(system)
    assert valued == []


def test_a_new_rate_is_news_for_who_holds_something_at_it(system: System, valued: list[Any]) -> None:
    """Bought at the euro's ask and the share's; worth what the euro's last price says, from that price on."""
    marketdata, holder = system.contexts["marketdata"], uuid4()
    with marketdata.engine.begin() as connection:
        add_instruments(connection, [Instrument("SAP", "SAP", currency="EUR"), Instrument("EUR/USD", "Euro")])
    send(system.contexts["gateway"], account(holder, CASH), account(uuid4(), CASH))
    push(marketdata, {"SAP": "100", "EUR/USD": "1.10"})
    settled(system)
    send(system.contexts["gateway"], order(holder, symbol="SAP"))
    settled(system)
    push(marketdata, {"SAP": "100"})
    settled(system)
    cash = Decimal(CASH) - cents(10 * Decimal("100.01") * Decimal("1.11"))
    for last in ("1.20", "0.90"):
        push(marketdata, {"EUR/USD": last})
        settled(system)
        ((told,),) = [each["values"] for each in valued[-1:]]
        assert (told["account_id"], told["cash"]) == (str(holder), str(cash))
        assert Decimal(told["equity"]) == cash + 1000 * Decimal(last) == live(system.contexts["valuation"])[holder]


def test_live_equity_follows_every_fill(system: System) -> None:
    """Random buys and sells of four accounts on moving prices: after each batch cash and shares add up to equity."""
    dice = random.Random(7)
    accounts = [uuid4() for _ in range(4)]
    send(system.contexts["gateway"], *(account(id_, CASH) for id_ in accounts))
    settled(system)
    for _ in range(4):
        for id_ in accounts:
            fields = {"symbol": dice.choice(SYMBOLS), "side": dice.choice(list(Side)), "qty": random_qty(dice)}
            send(system.contexts["gateway"], order(id_, **fields))
        settled(system)
        push(system.contexts["marketdata"], random_prices(dice))
        settled(system)
        equity = live(system.contexts["valuation"])
        traded = {
            row.account_id for row in rows(system.contexts["orders"].engine, "SELECT account_id FROM orders.fills")
        }
        expected = worth(system.contexts["orders"])
        assert equity == {id_: expected[id_] for id_ in traded}
    assert value(system.contexts["orders"].engine, "SELECT count(*) FROM orders.fills") > 4


def test_update_positions_keeps_one_summary_per_account_and_one_value_per_position(
    books: Books,
) -> None:
    """Each is right to the cent, with the profit or loss against its cost; the same run again adds nothing."""
    orders, valuation = books.orders, books.valuation
    holdings = add_holders(orders, random.Random(1), 20)
    push(books.marketdata, random_prices(random.Random(2)))
    positions = sum(len(held) for held in holdings.values())
    run_id = uuid4()
    assert update_positions(valuation, run_id) == {"accounts_valued": 20, "positions_valued": positions}
    first = snapshot(valuation)
    assert update_positions(valuation, run_id) == {"accounts_valued": 0, "positions_valued": 0}
    assert snapshot(valuation) == first

    summaries, values = first
    assert {row.account_id: row.equity for row in summaries} == worth(orders)
    assert {row.account_id: row.positions for row in summaries} == {id_: len(h) for id_, h in holdings.items()}
    assert {(row.account_id, row.symbol): row.qty for row in values} == {
        (id_, symbol): qty for id_, held in holdings.items() for symbol, qty in held.items()
    }
    for row in values:
        assert row.market_value == cents(row.qty * row.price)
        assert row.unrealized_pl == row.market_value - row.cost
    for row in summaries:
        of_account = [each for each in values if each.account_id == row.account_id]
        assert row.unrealized_pl == sum((each.unrealized_pl for each in of_account), ZERO)


def snapshot(valuation: ServiceContext) -> tuple[list[Any], list[Any]]:
    summaries = rows(valuation.engine, "SELECT * FROM valuation.account_summaries ORDER BY account_id, run_id")
    values = rows(valuation.engine, "SELECT * FROM valuation.position_values ORDER BY account_id, symbol, run_id")
    return summaries, values


def test_another_run_adds_another_summary(books: Books) -> None:
    """The history of an account is one summary per run."""
    add_holders(books.orders, random.Random(1), 5)
    for _ in range(3):
        update_positions(books.valuation, uuid4())
    assert len(snapshot(books.valuation)[0]) == 15


def test_an_account_without_positions_is_worth_its_cash(books: Books) -> None:
    """Its summary, its live value and the event say so, before it has ever traded."""
    opening = account(uuid4(), "2500.25")
    with books.orders.engine.begin() as connection:
        open_account(connection, opening, books.orders.clock())
    update_positions(books.valuation, uuid4())
    (summary,), values = snapshot(books.valuation)
    assert (summary.account_id, summary.cash, summary.equity) == (opening.account_id, opening.cash, opening.cash)
    assert (summary.market_value, values) == (0, [])
    assert live(books.valuation) == {opening.account_id: opening.cash}
    (told,) = outbox(books.valuation)
    assert [(each["account_id"], each["equity"]) for each in told.body["values"]] == [
        (str(opening.account_id), "2500.25")
    ]


def test_a_position_without_a_price_adds_nothing_yet(books: Books) -> None:
    """Before the first price of its symbol an account is worth its cash: no price is made up."""
    add_holders(books.orders, random.Random(3), 5)
    update_positions(books.valuation, uuid4())
    cash = {row.id: row.cash for row in rows(books.orders.engine, "SELECT id, cash FROM orders.accounts")}
    assert live(books.valuation) == cash


def test_a_late_valuation_does_not_replace_a_newer_one(books: Books, clock: FakeClock) -> None:
    """Live values carry their time: what was computed for an earlier moment is dropped, and not told."""
    now = clock.now
    add_holders(books.orders, random.Random(3), 1)
    valuation = ServiceContext("valuation", books.valuation.engine, clock)
    for seconds in (0, -1):
        clock.now = now + timedelta(seconds=seconds)
        update_positions(valuation, uuid4())
    (row,) = rows(valuation.engine, "SELECT at FROM valuation.account_values")
    assert row.at == now
    assert len(outbox(valuation)) == 1


def test_some_accounts_are_looked_up_whatever_plan_is_kept(books: Books) -> None:
    """By index, also in a plan that serves for any list of accounts and was made while there were hardly any."""
    one = uuid4()
    with statements(books.valuation.engine) as seen, books.valuation.engine.begin() as connection:
        revalue(connection, [one], books.valuation.clock())
        connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        statement = seen[0].replace("%(accounts)s", "$1").replace("%(now)s", "now()")
        plan = connection.exec_driver_sql(f"EXPLAIN (GENERIC_PLAN) {statement}").scalars().all()
    assert [line for line in plan if "Index Cond: (id = ANY" in line], plan
