"""Values on the in-process bus and a real PostgreSQL: an account is worth its cash and its shares at the last price."""

import random
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import text

from embedded.system import System
from services.marketdata.persistence.instruments import Instrument, add_instruments
from services.marketdata.service import prepare
from services.orders.persistence.accounts import open_account
from services.valuation import values
from services.valuation.jobs import jobs
from shared.bus.inprocess import wait_until_idle
from shared.bus.unit_of_work import ServiceContext
from shared.contracts.base import routing_key
from shared.contracts.orders import Side
from shared.contracts.valuation import AccountsValued
from shared.jobs.run_context import Counts, RunContext
from shared.money import ZERO, cents, cents_up
from shared.service import DatabaseUnavailable, migrate_when_ready
from shared.storage.engine import make_engine
from shared.storage.migrate import migrate_service
from tests.component.scripted_prices import push
from tests.component.watching import context_of, outbox, statements
from tests.conftest import database
from tests.support import account, eventually, order, rows, send, value

SYMBOLS = ("AAPL", "FB", "GOOG", "IBM", "MSFT")
CASH = "100000"
#: How another service asks for one account.
LOOKUPS = [
    ("account_values_v1", "account_id = $1"),
    ("account_values_v1", "account_id = ANY($1::uuid[])"),
    ("current_positions_v1", "account_id = $1"),
    ("current_positions_v1", "account_id = $1 AND symbol = $2"),
]
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
        context_of("marketdata", urls) as marketdata,
        context_of("orders", urls) as orders,
        context_of("valuation", urls) as valuation,
    ):
        prepare(marketdata)
        yield Books(marketdata, orders, valuation)


@pytest.fixture
def valued(system: System) -> list[Any]:
    """The bodies of the AccountsValued events, as they come."""
    published_bodies: list[Any] = []
    key = routing_key(AccountsValued, AccountsValued.service)
    system.broker.listen([key], lambda _name, body: published_bodies.append(body))
    return published_bodies


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
    """Accounts with random cash, each with a random part of the symbols. Some hold nothing."""
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
    found = rows(valuation.engine, "SELECT account_id, equity FROM valuation.account_values_v1")
    return {row.account_id: row.equity for row in found}


def update_positions(context: ServiceContext, run_id: UUID) -> Counts:
    return jobs.declared["update_positions"].run(RunContext(run_id, context, context.clock(), {}))


def test_every_batch_of_prices_values_its_holders(system: System, valued: list[Any]) -> None:
    """50 random accounts, ten batches: live equity is right to the cent, and published for all holders of a symbol.

    A batch within the pause after another is published when the pause is over.
    """
    dice = random.Random(5)
    holdings = add_holders(system.contexts["orders"], dice, 50)
    for number in range(1, 11):
        batch = random_prices(dice)
        if number > 1:
            batch = {symbol: batch[symbol] for symbol in dice.sample(SYMBOLS, 2)}
        push(system.contexts["marketdata"], batch)
        settled(system)
        publish_waiting(system.contexts["valuation"])
        settled(system)
        holders = {id_ for id_, held in holdings.items() if held.keys() & batch}
        assert len(valued) == number
        published = {UUID(each["account_id"]): Decimal(each["equity"]) for each in valued[-1]["values"]}
        expected = worth(system.contexts["orders"])
        assert published == {id_: expected[id_] for id_ in holders}
        assert live(system.contexts["valuation"]) == expected


def publish_waiting(valuation: ServiceContext) -> None:
    """Publish the symbols that wait for the end of the pause, as the thread of a worker does."""

    def published() -> bool:
        with valuation.unit_of_work() as uow:
            values.publish_changed(uow)
        return not rows(valuation.engine, "SELECT FROM valuation.changed_symbols")

    eventually(published, what="no symbol waits")


def test_a_price_that_nobody_holds_publishes_nothing(system: System, valued: list[Any]) -> None:
    """No event without a changed value."""
    push(system.contexts["marketdata"], {"AAPL": "100"})
    settled(system)
    assert valued == []


def test_a_new_rate_values_the_accounts_whose_positions_it_converts(system: System, valued: list[Any]) -> None:
    """Bought at the euro's ask and the share's. Worth what the euro's last price says, from that price on."""
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
    cash = Decimal(CASH) - cents_up(10 * Decimal("100.01") * Decimal("1.11"))
    for last in ("1.20", "0.90"):
        push(marketdata, {"EUR/USD": last})
        settled(system)
        publish_waiting(system.contexts["valuation"])
        settled(system)
        ((published,),) = [each["values"] for each in valued[-1:]]
        assert (published["account_id"], published["cash"]) == (str(holder), str(cash))
        assert Decimal(published["equity"]) == cash + 1000 * Decimal(last) == live(system.contexts["valuation"])[holder]


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
        assert live(system.contexts["valuation"]) == worth(system.contexts["orders"])
    assert value(system.contexts["orders"].engine, "SELECT count(*) FROM orders.fills") > 4


def test_update_positions_keeps_one_summary_per_account_and_one_value_per_position(
    books: Books,
) -> None:
    """Each is right to the cent, with the profit or loss against its cost. The same run again adds nothing."""
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
    (published,) = outbox(books.valuation)
    assert [(each["account_id"], each["equity"]) for each in published.body["values"]] == [
        (str(opening.account_id), "2500.25")
    ]


def test_a_position_without_a_price_adds_nothing_yet(books: Books) -> None:
    """Before the first price of its symbol an account is worth its cash: no price is made up."""
    add_holders(books.orders, random.Random(3), 5)
    update_positions(books.valuation, uuid4())
    cash = {row.id: row.cash for row in rows(books.orders.engine, "SELECT id, cash FROM orders.accounts")}
    assert live(books.valuation) == cash


def test_a_transaction_of_orders_sees_the_value_that_its_own_writes_make(books: Books) -> None:
    """Orders decides by the value while it changes cash and positions. Nobody else sees that before the commit."""
    opening = account(uuid4(), CASH)
    push(books.marketdata, {"AAPL": "100", "IBM": "50"})
    with books.orders.engine.begin() as connection:
        open_account(connection, opening, books.orders.clock())
    with books.orders.engine.begin() as connection:
        for symbol, qty, cost in (("AAPL", 10, 900), ("IBM", -4, -240)):
            position = {"id": opening.account_id, "symbol": symbol, "qty": qty, "cost": cost}
            connection.execute(text(_HOLD), position)
        seen = connection.execute(text(_VALUE), {"id": opening.account_id}).one()
        before = rows(books.valuation.engine, _VALUE, id=opening.account_id)
    assert tuple(seen) == (100_000, 1000, -200, 800, 100_800, 140, 2)
    assert [tuple(row) for row in before] == [(100_000, 0, 0, 0, 100_000, 0, 0)]
    assert rows(books.valuation.engine, _VALUE, id=opening.account_id) == [seen]


def test_other_services_read_each_position_with_its_value(books: Books) -> None:
    """In the account's currency, to the cent. Null where the symbol never had a price, or the currency a rate."""
    with books.marketdata.engine.begin() as connection:
        euro, yen = Instrument("SAP", "SAP", currency="EUR"), Instrument("SONY", "Sony", currency="JPY")
        add_instruments(connection, [euro, yen, Instrument("EUR/USD", "Euro")])
    push(books.marketdata, {"AAPL": "10.01", "SAP": "100", "SONY": "3000", "EUR/USD": "1.10"})
    opening = account(uuid4(), CASH)
    with books.orders.engine.begin() as connection:
        open_account(connection, opening, books.orders.clock())
        for symbol in ("AAPL", "IBM", "SAP", "SONY"):
            connection.execute(text(_HOLD), {"id": opening.account_id, "symbol": symbol, "qty": "1.5", "cost": 20})
    found = rows(books.orders.engine, "SELECT * FROM valuation.current_positions_v1 ORDER BY symbol")
    assert {(row.account_id, row.asset_class, row.qty, row.cost) for row in found} == {
        (opening.account_id, "us_equity", Decimal("1.5"), 20)
    }
    assert [(row.symbol, row.currency, row.last, row.rate, row.value, row.unrealized_pl) for row in found] == [
        ("AAPL", "USD", Decimal("10.01"), 1, Decimal("15.02"), Decimal("-4.98")),
        ("IBM", "USD", None, 1, None, None),
        ("SAP", "EUR", 100, Decimal("1.10"), 165, 145),
        ("SONY", "JPY", 3000, None, None, None),
    ]
    assert rows(books.orders.engine, _VALUE, id=opening.account_id) == [
        (100_000, Decimal("180.02"), 0, Decimal("180.02"), Decimal("100180.02"), Decimal("140.02"), 2)
    ]


@pytest.mark.parametrize("settings", [(), ("plan_cache_mode", "enable_seqscan", "enable_bitmapscan")])
@pytest.mark.parametrize(("relation", "lookup"), LOOKUPS)
def test_the_value_of_one_account_is_looked_up_whatever_plan_is_kept(
    crowded: Books, settings: tuple[str, ...], relation: str, lookup: str
) -> None:
    """By index among 20,000 positions of others, with a plan that serves any account: as PostgreSQL plans, and as
    orders' own transactions have it plan.
    """
    with crowded.orders.engine.begin() as connection:
        for name in settings:
            connection.exec_driver_sql(f"SET LOCAL {name} = {'force_generic_plan' if 'plan' in name else 'off'}")
        statement = f"SELECT * FROM valuation.{relation} WHERE {lookup}"
        plan = connection.exec_driver_sql(f"EXPLAIN (GENERIC_PLAN) {statement}").scalars().all()
    assert [line for line in plan if "Seq Scan on positions" in line or "Seq Scan on accounts" in line] == [], plan
    assert [line for line in plan if re.search(r"Index Cond: \(\(?account_id = ", line)], plan


@pytest.mark.parametrize("settings", [(), ("plan_cache_mode", "enable_seqscan", "enable_bitmapscan")])
def test_a_kept_plan_reads_few_rows_for_one_account(books: Books, settings: tuple[str, ...]) -> None:
    """Made while there was hardly a position, kept while 20,000 came."""
    one = uuid4()
    with books.orders.engine.connect() as connection:
        for name in ("plan_cache_mode", *settings):
            connection.exec_driver_sql(f"SET {name} = {'force_generic_plan' if 'plan' in name else 'off'}")
        connection.exec_driver_sql(
            "PREPARE value (uuid[]) AS SELECT * FROM valuation.account_values_v1 WHERE account_id = ANY($1)"
        )
        execute = f"EXECUTE value (ARRAY['{one}'::uuid])"
        connection.exec_driver_sql(execute)
        connection.commit()
        crowd(books.orders, one)
        plan = connection.exec_driver_sql(f"EXPLAIN (ANALYZE, TIMING OFF) {execute}").scalars().all()
    assert max(int(found) for line in plan for found in re.findall(r"rows=(\d+)(?:\.\d+)? loops", line)) <= 10, plan
    assert not [line for line in plan if re.search(r"Rows Removed by \w+ \w+: \d{4}", line)], plan


def test_some_accounts_are_looked_up_whatever_plan_is_kept(books: Books) -> None:
    """By index, also in a plan that serves for any list of accounts and was made while there were hardly any."""
    one = uuid4()
    with statements(books.valuation.engine) as seen, books.valuation.engine.begin() as connection:
        values.values_of(connection, [one])
        values.values_of_holders(connection, ["AAPL"])
        values.values_of_holders(connection, ["EUR/USD"])
        values.values_of(connection, [one] * values.MANY)
        connection.exec_driver_sql("SET LOCAL enable_seqscan = off")
        for each, column in zip(seen[:4], ("id", "symbol", "symbol", "account_id"), strict=True):
            statement = re.sub(r"%\((accounts|symbols)\)s(::\w+\[\])?", r"$1\2", each)
            plan = connection.exec_driver_sql(f"EXPLAIN (GENERIC_PLAN) {statement}").scalars().all()
            assert [line for line in plan if f"Index Cond: ({column} = ANY" in line], plan


def test_a_start_waits_for_the_views_of_other_services(
    postgres: str, template: dict[str, str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Services start in any order: valuation migrates as soon as orders and marketdata have, and says once that it
    waits.
    """
    tried: list[str] = []

    def migrate_others(seconds: float) -> None:
        """Migrate another service in each pause."""
        assert seconds > 0
        for service in {"": ["orders"], "orders": ["marketdata"]}.get(",".join(tried), []):
            migrate_service(engines[service], service)
            tried.append(service)

    with database(postgres, template, migrated=False) as urls, ExitStack() as stack:
        engines = {service: make_engine(urls[service], name=service) for service in urls}
        for engine in engines.values():
            stack.callback(engine.dispose)
        valuation = ServiceContext("valuation", engines["valuation"])
        with pytest.raises(
            DatabaseUnavailable, match=r"not ready after 0 s: relation \"orders.positions_v1\" does not exist"
        ):
            migrate_when_ready(valuation, seconds=0)
        caplog.clear()
        monkeypatch.setattr("shared.service.time.sleep", migrate_others)
        migrate_when_ready(valuation, seconds=60)
        assert rows(valuation.engine, "SELECT * FROM valuation.account_values_v1") == []
    assert tried == ["orders", "marketdata"]
    lines = [record.getMessage() for record in caplog.records if "view" in record.getMessage()]
    assert lines == ["a view of another service is away; waiting for it"]


@pytest.fixture
def crowded(books: Books) -> Books:
    crowd(books.orders, uuid4())
    return books


def crowd(orders: ServiceContext, account_id: UUID) -> None:
    """Five positions each of the account and of 4,000 others, which PostgreSQL has analyzed."""
    with orders.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for statement in (_CROWD_ACCOUNTS, _CROWD_POSITIONS, "ANALYZE orders.accounts, orders.positions"):
            connection.execute(text(statement), {"one": account_id, "symbols": list(SYMBOLS)})


_HOLD = "INSERT INTO orders.positions VALUES (:id, :symbol, :qty, :cost, now())"
_VALUE = """
SELECT cash, long_value, short_value, market_value, equity, unrealized_pl, positions
FROM valuation.account_values_v1 WHERE account_id = :id
"""
_CROWD_ACCOUNTS = """
INSERT INTO orders.accounts (id, number, name, currency, cash, created_at)
SELECT id, id, 'test', 'USD', 1000, now()
FROM (SELECT CAST(:one AS uuid) AS id UNION ALL SELECT gen_random_uuid() FROM generate_series(1, 4000)) made
"""
_CROWD_POSITIONS = """
INSERT INTO orders.positions
SELECT a.id, symbol, 1, 10, now() FROM orders.accounts a CROSS JOIN unnest(CAST(:symbols AS text[])) AS symbol
"""
