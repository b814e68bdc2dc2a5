"""A database of the last revision before the initial migrations is carried over; an older one is refused.

``data/last_revision.sql.gz`` is a dump of a run on that revision: orders of every kind, a reset, a split, a dividend, a
halt, a margin account, an account in euros, and what the jobs wrote.
"""

import gzip
import itertools
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import Engine, make_url
from structlog.testing import capture_logs

from embedded.postgres_cluster import programs
from shared.contracts.routing import SERVICES
from shared.database_setup import set_up
from shared.storage.engine import make_engine
from shared.storage.migrate import ROOT, DatabaseTooOld, migrate_service, migrations_of
from tests.conftest import run_sql
from tests.support import broken_invariants, rows, value

DUMP = Path(__file__).parent / "data" / "last_revision.sql.gz"
#: Tables that are dropped on purpose: nothing reads them any more.
DROPPED = {"account_values", "sequences"}
RENAMED = {"orders.trades": "orders.round_trips", "orders.taken": "orders.consumed"}
_numbers = itertools.count()

Urls = dict[str, str]


@pytest.fixture
def old(postgres: str, template: Urls) -> Iterator[Urls]:
    """The services' URLs of a database as the last revision left it, but for the set-up, which migrates ``jobs``."""
    name = f"carried_{next(_numbers)}"
    run_sql(postgres, sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    run_sql(postgres, sql.SQL("GRANT CONNECT ON DATABASE {} TO paperprofit_services").format(sql.Identifier(name)))
    dump = gzip.decompress(DUMP.read_bytes()).decode()
    statements = "\n".join(line for line in dump.splitlines() if not line.startswith("\\"))
    with psycopg.connect(plain(in_database(postgres, name)), autocommit=True) as connection:
        connection.execute(statements.encode())
    set_up(in_database(postgres, name), {})
    yield {service: in_database(url, name) for service, url in template.items()}
    run_sql(postgres, sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def in_database(url: str, name: str) -> str:
    return make_url(url).set(database=name).render_as_string(hide_password=False)


def plain(url: str) -> str:
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def migrated(urls: Urls) -> Urls:
    for service in SERVICES:
        engine = make_engine(urls[service], name=service)
        migrate_service(engine, service)
        engine.dispose()
    return urls


def counts(postgres: str, urls: Urls) -> dict[str, int]:
    """How many rows each table has, by schema and name."""
    with psycopg.connect(plain(in_database(postgres, database_of(urls)))) as connection:
        tables = connection.execute(
            "SELECT schemaname || '.' || tablename FROM pg_tables WHERE schemaname = ANY(%s)", ([*SERVICES, "jobs"],)
        ).fetchall()
        return {name: count(connection, name) for (name,) in tables}


def count(connection: "psycopg.Connection[Any]", table: str) -> int:
    row = connection.execute(f"SELECT count(*) FROM {table}".encode()).fetchone()
    assert row is not None
    return int(row[0])


def database_of(urls: Urls) -> str:
    return str(make_url(urls["orders"]).database)


def schema_of(postgres: str, urls: Urls) -> list[str]:
    """The statements of the schema, as pg_dump has them, in an order of their own.

    The order of a table's columns and the names of NOT NULL constraints do not matter; partitions come and go.
    """
    command = [str(programs() / "pg_dump"), "--schema-only", plain(in_database(postgres, database_of(urls)))]
    dump = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    lines = [line for line in dump.splitlines() if line and not line.startswith(("--", "\\", "SET ", "SELECT "))]
    statements = re.split(r"(?<=;)\n", "\n".join(lines))
    normal = [re.sub(r"CONSTRAINT \w+ NOT NULL", "NOT NULL", each) for each in statements]
    return sorted(
        "\n".join(sorted(line.rstrip(",") for line in each.splitlines())) if each.startswith("CREATE TABLE") else each
        for each in normal
        if not re.search(r"market_data_\d{4}", each)
    )


def test_the_schema_that_is_carried_over_is_that_of_an_empty_database(postgres: str, old: Urls, urls: Urls) -> None:
    """By pg_dump, statement by statement; so both take every later migration."""
    assert schema_of(postgres, migrated(old)) == schema_of(postgres, urls)


def test_every_row_is_kept(postgres: str, old: Urls) -> None:
    """Also the round trips, which were called trades; each completed order gets its trade."""
    before = counts(postgres, old)
    after = counts(postgres, migrated(old))
    assert before["orders.trades"] > 0
    kept = {RENAMED.get(name, name): number for name, number in before.items() if name.partition(".")[2] not in DROPPED}
    assert {name: after[name] for name in kept} == kept
    orders = make_engine(old["orders"], name="test")
    ended = "SELECT count(*) FROM orders.orders WHERE NOT is_open AND filled_qty > 0"
    assert value(orders, "SELECT count(*) FROM orders.trades") == value(orders, ended) > 0
    orders.dispose()


def test_strategies_keep_their_averages_and_sizes(old: Urls) -> None:
    """The columns of the crossover are parameters and sizing of its kind, and its first version has them."""
    strategy = make_engine(migrated(old)["strategy"], name="test")
    found = rows(strategy, "SELECT * FROM strategy.strategies s JOIN strategy.versions v ON v.strategy_id = s.id")
    assert found
    for row in found:
        assert (row.kind, row.state, row.parameters) == ("sma_crossover", "running", {"fast": 5, "slow": 20})
        assert row.sizing == {"kind": "qty", "value": "10", "max_position_qty": "50"}
        assert row.terms["parameters"] == row.parameters
    outcomes = "SELECT DISTINCT outcome FROM strategy.decisions WHERE order_id IS NOT NULL"
    assert {row.outcome for row in rows(strategy, outcomes)} <= {"ordered"}
    strategy.dispose()


def test_the_books_hold_after_it(old: Urls) -> None:
    """All invariants, those of the trades too; and an order that its group had ended says so by the new name."""
    orders = make_engine(migrated(old)["orders"], name="test")
    assert broken_invariants(orders) == {}
    assert "family" not in {row.cancel_reason for row in rows(orders, "SELECT cancel_reason FROM orders.orders")}
    orders.dispose()


def test_messages_that_wait_have_the_new_names(old: Urls) -> None:
    """A consumer of this version reads them."""
    marketdata = make_engine(old["marketdata"], name="test")
    body = b'{"actor_name":"x","kwargs":{"symbol":"AAPL","adjustment":3}}'
    with marketdata.begin() as connection:
        connection.exec_driver_sql(
            "INSERT INTO marketdata.outbox (message_id, exchange, routing_key, key, shard, mandatory, body)"
            " VALUES (gen_random_uuid(), 'paperprofit.events', 'marketdata.auction_held.v1', 'waits', 1, true, %s)",
            (body,),
        )
    migrated(old)
    (row,) = rows(marketdata, "SELECT routing_key, body FROM marketdata.outbox WHERE key = 'waits'")
    assert row.routing_key == "marketdata.official_price_published.v1"
    assert b'"split_count":3' in row.body
    marketdata.dispose()


def test_an_older_database_is_refused_with_what_to_do(old: Urls) -> None:
    """Nothing of it changes."""
    engine = make_engine(old["orders"], name="test")
    set_revision(engine, "orders", "orders_0008")
    with pytest.raises(DatabaseTooOld, match=r"orders_0008.*orders_0009.*begin with an empty database"):
        migrate_service(engine, "orders")
    assert value(engine, "SELECT version_num FROM orders.alembic_version") == "orders_0008"
    assert value(engine, "SELECT to_regclass('orders.round_trips')") is None
    engine.dispose()


@pytest.mark.parametrize("service", ["orders", "gateway"])
def test_a_start_on_an_older_database_ends_with_the_sentence(old: Urls, service: str) -> None:
    """A worker and the gateway exit with it before they serve anything, and without a traceback."""
    engine = make_engine(old[service], name="test")
    set_revision(engine, service, f"{service}_0001")
    engine.dispose()
    environment = {
        **os.environ,
        "PAPERPROFIT_DATABASE_URL": old[service],
        "PAPERPROFIT_RABBITMQ_URL": "amqp://127.0.0.1:1",
    }
    command = [sys.executable, "-m", f"services.{service}"]
    ended = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 1
    assert f"{service}: the schema {service} of this database is at revision {service}_0001" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_carry_over_that_fails_changes_nothing(old: Urls, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is one transaction with the revision that it leads to."""
    engine = make_engine(old["orders"], name="test")
    read_text = Path.read_text

    def broken(path: Path, **options: Any) -> str:
        text = read_text(path, **options)
        return f"{text}\nSELECT 1 / 0;" if path == migrations_of("orders") / "carry_over.sql" else text

    with monkeypatch.context() as patch:
        patch.setattr(Path, "read_text", broken)
        with pytest.raises(Exception, match="division by zero"):
            migrate_service(engine, "orders")
    assert value(engine, "SELECT version_num FROM orders.alembic_version") == "orders_0009"
    migrate_service(engine, "orders")
    assert value(engine, "SELECT count(*) FROM orders.round_trips") > 0
    engine.dispose()


def test_a_schema_that_a_newer_version_migrated_stays_as_it_is(urls: Urls) -> None:
    """A replica of this version that starts again during a rolling upgrade warns, and works."""
    engine = make_engine(urls["orders"], name="test")
    set_revision(engine, "orders", "orders_v1_9999")
    with capture_logs() as logs:
        migrate_service(engine, "orders")
    assert [log["revision"] for log in logs if log["log_level"] == "warning"] == ["orders_v1_9999"]
    assert value(engine, "SELECT version_num FROM orders.alembic_version") == "orders_v1_9999"
    engine.dispose()


def set_revision(engine: Engine, schema: str, revision: str) -> None:
    with engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE {schema}.alembic_version SET version_num = '{revision}'")
