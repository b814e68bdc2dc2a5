"""A populated database of an earlier commit is upgraded: its books and values stay, its orders fill, its keys work.

``data/populated.sql.gz`` was made by the code of the commit before key names, revocation and given up submissions came.
``python -m tests.populated_database`` makes a new one, as its docstring says. Make one before a release, with the code
of the release before.
"""

import gzip
import itertools
import json
import re
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import sql
from starlette.testclient import TestClient

from embedded.system import System
from shared.clock import utc_now
from shared.database_setup import set_up
from tests.component.http_trader import KEY, push
from tests.component.test_carry_over import Urls, counts, in_database, migrated, plain, schema_of
from tests.conftest import run_sql, running_system
from tests.populated_database import OTHER_KEY, SHOWN, WAITING_ACCOUNT
from tests.support import broken_invariants, eventually, rows, value

DATA = Path(__file__).parent / "data"
MADE = json.loads((DATA / "populated.json").read_text())
#: They follow the day.
OF_TODAY = {"balance_asof", "last_equity"}
_DAY = re.compile(r"\b20\d\d-\d\d-\d\d\b")
_numbers = itertools.count()


@pytest.fixture
def populated(postgres: str, template: Urls) -> Iterator[Urls]:
    """The services' URLs of the database as it was made, moved to today, so that its open orders still are."""
    name = f"populated_{next(_numbers)}"
    run_sql(postgres, sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    run_sql(postgres, sql.SQL("GRANT CONNECT ON DATABASE {} TO paperprofit_services").format(sql.Identifier(name)))
    passed = utc_now().date() - date.fromisoformat(MADE["day"])
    lines = gzip.decompress((DATA / "populated.sql.gz").read_bytes()).decode().splitlines()
    dump = "\n".join(line for line in lines if not line.startswith("\\"))
    with psycopg.connect(plain(in_database(postgres, name)), autocommit=True) as connection:
        connection.execute(_DAY.sub(lambda found: moved(found[0], passed), dump).encode())
    set_up(in_database(postgres, name), {})
    yield {service: in_database(url, name) for service, url in template.items()}
    run_sql(postgres, sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def moved(day: str, by: timedelta) -> str:
    return str(date.fromisoformat(day) + by)


def test_every_row_is_kept_and_the_schema_is_that_of_a_new_database(postgres: str, populated: Urls, urls: Urls) -> None:
    before = counts(postgres, populated)
    for table in ("orders.fills", "orders.lots", "orders.dead_letters", "gateway.sessions", "gateway.outbox"):
        assert before[table] > 0, table
    after = counts(postgres, migrated(populated))
    assert {name: after[name] for name in before} == before
    assert schema_of(postgres, populated) == schema_of(postgres, urls)


def test_books_and_values_stay_and_orders_fill(populated: Urls, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two accounts with their keys, and a command that waited in the outbox during the upgrade."""
    monkeypatch.setattr("tests.component.http_trader._sequences", itertools.count(1000))
    with running_system(populated) as system, TestClient(system.app()) as client:
        engine = system.contexts["orders"].engine
        eventually(lambda: value(engine, "SELECT count(*) FROM orders.accounts WHERE id = :id", id=WAITING_ACCOUNT))
        assert broken_invariants(engine) == {}
        for key in (KEY, OTHER_KEY):
            for path in SHOWN:
                shown = client.get(path, headers=key).json()
                assert same(MADE["shown"][key["APCA-API-KEY-ID"]][path], shown) == [], path
        fill_what_was_open(system)
        assert broken_invariants(engine) == {}


def fill_what_was_open(system: System) -> None:
    """A limit order and the entry of a bracket in each account, and then the bracket's profit."""
    engine = system.contexts["orders"].engine
    filled = "SELECT id FROM orders.orders WHERE status = 'filled'"
    before = len(rows(engine, filled))
    push(system, "49")
    eventually(lambda: len(rows(engine, filled)) >= before + 4)
    push(system, "61")
    took_profit = "SELECT count(*) = 2 FROM orders.orders WHERE leg = 'take_profit' AND status = 'filled'"
    eventually(lambda: value(engine, took_profit))


def same(old: Any, new: Any, place: str = "") -> list[str]:
    """The places at which the new JSON differs from the old one. Times have moved, and new fields may have come."""
    if isinstance(old, dict):
        return [each for key in old.keys() - OF_TODAY for each in same(old[key], new.get(key), f"{place}.{key}")]
    if isinstance(old, list):
        pairs = itertools.zip_longest(old, new)
        return [each for number, (a, b) in enumerate(pairs) for each in same(a, b, f"{place}[{number}]")]
    if isinstance(old, str) and _DAY.match(old):
        return [] if isinstance(new, str) and _DAY.match(new) else [place]
    return [] if old == new else [f"{place}: {old} became {new}"]
