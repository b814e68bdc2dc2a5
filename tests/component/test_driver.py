"""Statements of the driver on a real PostgreSQL: their parameters and rows, and the connection after a failure."""

import signal
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import OperationalError

from shared.storage.driver import column, fetch, numbers, together
from shared.storage.engine import make_engine
from tests.component.test_engine import CUT
from tests.support import value

MICROSECOND = timedelta(microseconds=1)
COLUMNS: dict[str, st.SearchStrategy[Any]] = {
    "boolean": st.booleans(),
    "bytea": st.binary(max_size=50),
    "smallint": st.integers(-(2**15), 2**15 - 1),
    "date": st.dates(date(1900, 1, 1), date(2100, 1, 1)),
    "int": st.integers(-(2**31), 2**31 - 1),
    "bigint": st.integers(-(2**63), 2**63 - 1),
    "text": st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=50),
    "timestamptz": st.integers(-(2**49), 2**51).map(lambda n: datetime(2000, 1, 1, tzinfo=UTC) + n * MICROSECOND),
    "uuid": st.uuids(),
}
PLANNER = """
SELECT current_setting('plan_cache_mode') AS plan_cache_mode, current_setting('enable_seqscan') AS enable_seqscan,
       current_setting('enable_bitmapscan') AS enable_bitmapscan
"""
INSERT = "INSERT INTO orders.names (name) VALUES (%(name)s)"


@pytest.fixture
def engine(urls: dict[str, str]) -> Iterator[Engine]:
    made = make_engine(urls["orders"], name="pool", pool_size=1)
    with made.begin() as connection:
        connection.execute(text("CREATE TABLE orders.names (name text PRIMARY KEY)"))
    yield made
    made.dispose()


@pytest.fixture
def connection(engine: Engine) -> Iterator[Connection]:
    with engine.connect() as made:
        yield made


@pytest.mark.parametrize("kind", COLUMNS)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_column_arrives_as_it_was(connection: Connection, kind: str, data: st.DataObject) -> None:
    """With any values, None among them, whether encoded beforehand or not."""
    values = data.draw(st.lists(st.none() | COLUMNS[kind], max_size=8))
    statement = f"SELECT v FROM unnest(%(values)b::{kind}[]) AS v"
    for sent in (values, column(kind, values)):
        assert [row.v for row in fetch(connection, statement, {"values": sent})] == values


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(values=st.lists(st.none() | st.decimals(allow_nan=False, places=9, min_value=-(10**12), max_value=10**12)))
def test_numbers_arrive_as_they_were(connection: Connection, values: list[Decimal | None]) -> None:
    statement = "SELECT v FROM unnest(%(values)s::numeric[]) AS v"
    assert [row.v for row in fetch(connection, statement, {"values": numbers(values)})] == values


def test_times_are_exact_to_the_microsecond(connection: Connection) -> None:
    """Distinct times all over one second arrive unchanged."""
    start = datetime(2026, 11, 25, 7, 6, 5, tzinfo=UTC)
    values = [start + step * MICROSECOND for step in range(0, 1_000_000, 97)]
    statement = "SELECT v FROM unnest(%(values)b::timestamptz[]) AS v"
    assert [row.v for row in fetch(connection, statement, {"values": values})] == values


def test_single_values_take_the_type_of_their_place(connection: Connection) -> None:
    now, id_ = datetime.now(UTC), uuid4()
    statement = "SELECT %(id)s AS id, %(now)s AS now, CAST(%(name)s AS text) AS name, %(count)s + 1 AS count"
    (row,) = fetch(connection, statement, {"id": id_, "now": now, "name": "it's", "count": 2**40})
    assert tuple(row) == (id_, now, "it's", 2**40 + 1)


def test_each_statement_sees_those_before_it(connection: Connection) -> None:
    count = "SELECT count(*) AS n FROM orders.names"
    before, _, after = together(connection, (count, {}), (INSERT, {"name": "c"}), (count, {}))
    assert (before[0].n, after[0].n) == (0, 1)


def test_planner_settings_are_for_the_drivers_statements_only(connection: Connection) -> None:
    """Whichever API begins the transaction, and in whichever order they take turns."""
    for begun_by_sqlalchemy in (True, False):
        if begun_by_sqlalchemy:
            assert tuple(connection.execute(text(PLANNER)).one()) == ("auto", "on", "on")
        for _ in range(2):
            (row,) = fetch(connection, PLANNER, {})
            assert tuple(row) == ("force_generic_plan", "off", "off")
            assert tuple(connection.execute(text(PLANNER)).one()) == ("auto", "on", "on")
        together(connection, ("COMMIT", {}))
    assert tuple(connection.execute(text(PLANNER)).one()) == ("auto", "on", "on")


def test_a_failing_statement_raises_and_none_after_it_runs(engine: Engine) -> None:
    """The connection can be used again, also with statements that were prepared before the failure."""
    with engine.begin() as connection:
        together(connection, (INSERT, {"name": "first"}))
    with pytest.raises(psycopg.errors.UniqueViolation), engine.begin() as connection:
        together(connection, (INSERT, {"name": "first"}), (INSERT, {"name": "second"}))
    with engine.begin() as connection:
        together(connection, (INSERT, {"name": "third"}))
    assert names(engine) == ["first", "third"]


@pytest.mark.parametrize("often", [0, 8])
def test_statements_stay_usable_whatever_psycopg_drops(engine: Engine, often: int) -> None:
    """Psycopg prepares frequent statements itself, and drops all prepared statements at a rollback."""
    for name in ("rolled back", "returned", "committed", "again"):
        with engine.connect() as connection:
            for _ in range(often):
                connection.execute(text("SELECT 1"))
            together(connection, (INSERT, {"name": name}))
            if name == "rolled back" and often:
                connection.rollback()
            if name in {"committed", "again"}:
                connection.connection.commit()
    assert names(engine) == ["again", "committed"]


def names(engine: Engine) -> list[str]:
    with engine.begin() as connection:
        found = fetch(connection, "SELECT name FROM orders.names ORDER BY 1", {})
    return [row.name for row in found]


def test_a_connection_that_was_idle_is_tried_without_losing_what_is_prepared(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.storage.engine.IDLE_SECONDS", 0.0)
    for _ in range(8):
        with engine.begin() as connection:
            connection.execute(text("SELECT 1"))
            fetch(connection, "SELECT 1 AS one", {})
    with engine.begin() as connection:
        prepared = fetch(connection, "SELECT count(*) AS n FROM pg_prepared_statements WHERE name ~ '^paperprofit'", {})
    assert prepared[0].n == 2


def test_a_connection_that_is_cut_in_the_middle_is_not_used_again(urls: dict[str, str], engine: Engine) -> None:
    cutting = make_engine(urls["orders"], name="cutting")
    with pytest.raises((psycopg.OperationalError, OperationalError)), engine.begin() as connection:  # noqa: PT012
        fetch(connection, "SELECT 1 AS one", {})
        value(cutting, CUT)
        fetch(connection, "SELECT 1 AS one", {})
    with engine.begin() as connection:
        assert fetch(connection, "SELECT 1 AS one", {})[0].one == 1
    cutting.dispose()


class _Ended(BaseException):
    """As SystemExit of a signal's handler, and as a time limit."""


def test_an_end_in_the_middle_of_a_statement_is_raised_and_no_error_of_the_database(engine: Engine) -> None:
    """Otherwise a loop that waits for the database would go on after the signal to end."""

    def end(*_: object) -> None:
        raise _Ended

    before = signal.signal(signal.SIGALRM, end)
    try:
        with pytest.raises(_Ended), engine.begin() as connection:  # noqa: PT012
            fetch(connection, INSERT, {"name": "lost"})
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            fetch(connection, "SELECT pg_sleep(10)", {})
    finally:
        signal.signal(signal.SIGALRM, before)
    with engine.begin() as connection:
        assert fetch(connection, "SELECT count(*) AS n FROM orders.names", {})[0].n == 0
