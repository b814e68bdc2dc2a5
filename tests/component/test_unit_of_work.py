"""A unit of work on a real PostgreSQL: when a write is seen, when it is sent, and when it is rolled back."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from shared.bus.envelope import actor_name
from shared.bus.inbox import AlreadyHandled, record
from shared.bus.ordering import OutOfTurn, record_in_turn
from shared.bus.unit_of_work import ServiceContext, UnitOfWork
from shared.contracts.accounts import OpenAccount
from shared.storage import driver
from shared.storage.driver import COMMIT, Call
from tests.component.watching import context_of
from tests.support import account, price, prices, rows, value

COUNT: Call = ("SELECT count(*)::int AS n FROM orders.effects", {})
PLANNER = """
SELECT current_setting('plan_cache_mode') AS plan_cache_mode, current_setting('enable_seqscan') AS enable_seqscan,
       current_setting('enable_bitmapscan') AS enable_bitmapscan
"""
USUAL, BY_INDEX = ("auto", "on", "on"), ("force_generic_plan", "off", "off")
COMMANDS = "orders.commands"
CONSUMER = actor_name(COMMANDS, OpenAccount.wire_name())


@pytest.fixture
def orders(urls: dict[str, str]) -> Iterator[ServiceContext]:
    """The context of orders, with an empty table of effects."""
    with context_of("orders", urls) as context:
        with context.engine.begin() as connection:
            connection.execute(text("CREATE TABLE orders.effects (id int GENERATED ALWAYS AS IDENTITY, name text)"))
        yield context


def insert(name: str) -> Call:
    return "INSERT INTO orders.effects (name) VALUES (%(name)s)", {"name": name}


def effects(context: ServiceContext) -> list[str]:
    return [row.name for row in rows(context.engine, "SELECT name FROM orders.effects ORDER BY id")]


@contextmanager
def round_trips() -> Iterator[list[list[str]]]:
    """The statements of each round trip, through the driver or through psycopg's cursors."""
    seen: list[list[str]] = []
    execute, run = psycopg.Cursor.execute, driver.run_prepared

    def executing(cursor: Any, query: Any, *given: Any, **options: Any) -> Any:
        seen.append([str(query)])
        return execute(cursor, query, *given, **options)

    def running(used: Any, prepared: set[bytes], calls: Sequence[Call]) -> Any:
        seen.append([statement for statement, _ in calls])
        return run(used, prepared, calls)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(psycopg.Cursor, "execute", executing)
        patch.setattr(driver, "run_prepared", running)
        yield seen


def test_a_run_is_seen_by_later_reads(orders: ServiceContext) -> None:
    """Those of the driver in the same and in the next round trip, and those of SQLAlchemy."""
    with orders.unit_of_work() as uow:
        _, same = uow.run(insert("first"), COUNT)
        (following,) = uow.run(COUNT)
        assert (same[0].n, following[0].n) == (1, 1)
        assert uow.connection.execute(text(COUNT[0])).scalar_one() == 1
    assert effects(orders) == ["first"]


def test_a_call_at_commit_is_not_seen_before_the_commit(orders: ServiceContext) -> None:
    """Not by the driver, not by SQLAlchemy, and not by a run after it."""
    with orders.unit_of_work() as uow:
        uow.at_commit(insert("late"))
        uow.run(insert("early"))
        assert uow.run(COUNT)[0][0].n == 1
        assert uow.connection.execute(text(COUNT[0])).scalar_one() == 1
    assert effects(orders) == ["early", "late"]


def test_calls_at_commit_the_outbox_and_the_commit_are_one_round_trip(orders: ServiceContext) -> None:
    """In the order in which they were given, and nothing is sent after it."""
    with round_trips() as seen, orders.unit_of_work() as uow:
        uow.begin(COUNT)
        uow.at_commit(insert("first"), insert("second"))
        uow.publish(prices(price("AAPL", 1)))
        uow.at_commit(insert("third"))
        begun = len(seen)
    (last,) = seen[begun:]
    assert last[:3] == [insert("")[0]] * 3
    assert "INSERT INTO orders.outbox" in last[3]
    assert last[4:] == [COMMIT[0]]
    assert effects(orders) == ["first", "second", "third"]
    assert value(orders.engine, "SELECT count(*) FROM orders.outbox") == 1


def test_a_block_that_raises_writes_nothing(orders: ServiceContext) -> None:
    """Neither its runs, nor its calls at commit, nor its messages. No relay is notified."""
    with pytest.raises(ZeroDivisionError), orders.unit_of_work() as uow:  # noqa: PT012
        uow.run(insert("run"))
        uow.at_commit(insert("at commit"))
        uow.publish(prices(price("AAPL", 1)))
        raise ZeroDivisionError
    assert effects(orders) == []
    assert value(orders.engine, "SELECT count(*) FROM orders.outbox") == 0
    assert not orders.committed.is_set()


def test_a_call_at_commit_that_fails_rolls_everything_back(orders: ServiceContext) -> None:
    """The error is raised from the block, and the next unit of work of the same connection is not disturbed."""
    with pytest.raises(psycopg.errors.DivisionByZero), orders.unit_of_work() as uow:  # noqa: PT012
        uow.run(insert("run"))
        uow.publish(prices(price("AAPL", 1)))
        uow.at_commit(insert("before"), ("SELECT 1 / (count(*) - count(*)) FROM orders.effects", {}), insert("after"))
    with orders.unit_of_work() as uow:
        uow.at_commit(insert("next"))
    assert effects(orders) == ["next"]
    assert value(orders.engine, "SELECT count(*) FROM orders.outbox") == 0


def test_a_duplicate_rolls_back_the_calls_of_its_begin(orders: ServiceContext) -> None:
    """The inbox row and the calls share a round trip, so the calls ran before the duplicate was recognised."""

    def handle(message_id: str) -> None:
        with orders.unit_of_work() as uow:
            record(uow, "consumer", message_id)
            (found,) = uow.begin(("INSERT INTO orders.effects (name) VALUES ('effect') RETURNING name", {}))
            assert found[0].name == "effect"

    message_id = str(uuid4())
    handle(message_id)
    with round_trips() as seen, pytest.raises(AlreadyHandled):
        handle(message_id)
    assert ["INTO orders.effects" in statement for statement in seen[0]] == [False, True]
    assert effects(orders) == ["effect"]


def test_a_message_out_of_turn_rolls_back_the_calls_of_its_begin(orders: ServiceContext) -> None:
    """Its inbox row too: once the predecessor is handled, the same message has its effect."""

    def handle(message_id: str, previous: str | None) -> None:
        with orders.unit_of_work() as uow:
            record_in_turn(uow, COMMANDS, CONSUMER, message_id, previous)
            uow.begin(insert(message_id))

    first, second = str(uuid4()), str(uuid4())
    with pytest.raises(OutOfTurn):
        handle(second, first)
    assert effects(orders) == []
    handle(first, None)
    handle(second, first)
    assert effects(orders) == [first, second]


def test_a_unit_of_work_that_never_begins_records_its_message_at_the_commit(orders: ServiceContext) -> None:
    """A duplicate is then recognised at the commit, and the effect is rolled back with it."""

    def handle(message_id: str) -> None:
        with orders.unit_of_work() as uow:
            record(uow, "consumer", message_id)
            uow.run(insert("run"))
            uow.at_commit(insert("at commit"))
            uow.publish(prices(price("AAPL", 1)))

    message_id = str(uuid4())
    handle(message_id)
    with pytest.raises(AlreadyHandled):
        handle(message_id)
    assert effects(orders) == ["run", "at commit"]
    assert value(orders.engine, "SELECT count(*) FROM orders.inbox") == 1
    assert value(orders.engine, "SELECT count(*) FROM orders.outbox") == 1


def test_a_message_in_order_is_linked_before_the_commit(orders: ServiceContext) -> None:
    """The second names the first, whether in one unit of work or in two, and both are committed with their effect."""
    account_id = uuid4()
    with orders.unit_of_work() as uow:
        first, second = (uow.publish(account(account_id)) for _ in range(2))
        uow.at_commit(insert("first"))
    with orders.unit_of_work() as uow:
        third = uow.publish(account(account_id))
    (head,) = rows(orders.engine, "SELECT message_id, previous FROM orders.outbox_heads")
    assert (head.message_id, head.previous) == (third, second)
    assert [row.message_id for row in rows(orders.engine, "SELECT message_id FROM orders.outbox ORDER BY id")] == [
        first,
        second,
        third,
    ]
    assert effects(orders) == ["first"]


@pytest.mark.parametrize("sqlalchemy_first", [True, False])
def test_planner_settings_never_reach_a_statement_of_sqlalchemy(
    orders: ServiceContext, *, sqlalchemy_first: bool
) -> None:
    """Whichever API begins the transaction, in whichever order they take turns, and after a duplicate."""

    def check(uow: UnitOfWork, *apis: str) -> None:
        for api in apis:
            if api == "driver":
                assert tuple(uow.run((PLANNER, {}))[0][0]) == BY_INDEX
            else:
                assert tuple(uow.connection.execute(text(PLANNER)).one()) == USUAL

    order = ("sqlalchemy", "driver") if sqlalchemy_first else ("driver", "sqlalchemy")
    message_id = str(uuid4())
    for _ in range(2):
        with orders.unit_of_work() as uow:
            check(uow, *order, *order)
            uow.publish(prices(price("AAPL", 1)))
    with orders.unit_of_work() as uow:
        record(uow, "consumer", message_id)
        assert tuple(uow.begin((PLANNER, {}))[0][0]) == BY_INDEX
        check(uow, *order)
    with pytest.raises(AlreadyHandled), orders.unit_of_work() as uow:  # noqa: PT012
        record(uow, "consumer", message_id)
        uow.begin()
    with orders.engine.connect() as connection:
        assert tuple(connection.execute(text(PLANNER)).one()) == USUAL


@pytest.mark.parametrize("api", ["driver", "sqlalchemy"])
def test_a_block_that_swallows_a_database_error_does_not_pass_for_committed(orders: ServiceContext, api: str) -> None:
    """PostgreSQL answers the COMMIT of a failed transaction with a rollback, which is no error to psycopg."""
    with pytest.raises(psycopg.errors.InFailedSqlTransaction), orders.unit_of_work() as uow:  # noqa: PT012
        record(uow, "consumer", str(uuid4()))
        uow.begin(insert("lost"))
        with suppress(DBAPIError, psycopg.Error):
            if api == "driver":
                uow.run(("SELECT 1 / (count(*) - count(*)) FROM orders.effects", {}))
            else:
                uow.connection.execute(text("SELECT 1 / 0"))
    assert effects(orders) == []
