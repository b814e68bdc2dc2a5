"""The set-up of PostgreSQL: a command makes roles and the job engine's tables, and services wait for it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from psycopg import sql
from sqlalchemy import Engine, make_url
from structlog.testing import capture_logs

from shared.contracts.routing import SERVICES
from shared.database_setup import set_up
from shared.storage.engine import make_engine
from shared.storage.migrate import ROOT, DatabaseTooOld, migrate_service
from tests.conftest import database, run_sql
from tests.support import rows, value

NEEDED = "jobs_v1_0006"


@pytest.fixture
def empty(postgres: str, template: dict[str, str]) -> Iterator[str]:
    """A superuser's URL of an empty database, in a server that has the roles."""
    name = f"empty_{os.getpid()}"
    run_sql(postgres, sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    yield make_url(postgres).set(database=name).render_as_string(hide_password=False)
    run_sql(postgres, sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def run_command(url: str, passwords: str) -> "subprocess.CompletedProcess[str]":
    """Run the command as a container does."""
    environment = {
        "PATH": os.environ["PATH"],
        "PAPERPROFIT_DATABASE_URL": url,
        "PAPERPROFIT_DATABASE_PASSWORDS": passwords,
    }
    command = [sys.executable, "-m", "shared.database_setup"]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=60)


def test_the_command_sets_up_an_empty_database(empty: str, template: dict[str, str]) -> None:
    """It runs twice. Then each service connects with its password and migrates its schema. No password is printed."""
    passwords = {service: str(make_url(url).password) for service, url in template.items()}
    for _ in range(2):
        done = run_command(empty, json.dumps(passwords))
        assert done.returncode == 0, done.stdout + done.stderr
        assert not [each for each in passwords.values() if each in done.stdout + done.stderr]
    for service in SERVICES:
        engine = make_engine(
            make_url(template[service]).set(database=make_url(empty).database).render_as_string(hide_password=False),
            name=service,
        )
        migrate_service(engine, service)
        assert value(engine, f"SELECT count(*) FROM {service}.outbox") == 0
        engine.dispose()


@pytest.mark.parametrize(
    ("passwords", "logged"),
    [('{"broker": "x"}', "names broker, which is no service"), ("secret", "PAPERPROFIT_DATABASE_PASSWORDS")],
)
def test_a_wrong_setting_ends_the_command_with_its_name(empty: str, passwords: str, logged: str) -> None:
    """The exit code is 1, and one line says what is wrong."""
    done = run_command(empty, passwords)
    assert done.returncode == 1
    assert logged in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_a_service_cannot_set_the_database_up(template: dict[str, str]) -> None:
    """Its role lacks the rights, and the command ends with one line."""
    done = run_command(template["orders"], "{}")
    assert done.returncode == 1
    assert "permission denied" in done.stdout + done.stderr
    assert "Traceback" not in done.stdout + done.stderr


@pytest.fixture
def orders(postgres: str, template: dict[str, str]) -> Iterator[Engine]:
    with database(postgres, template) as urls:
        engine = make_engine(urls["orders"], name="orders")
        yield engine
        engine.dispose()


def admin_url(postgres: str, engine: Engine) -> str:
    return make_url(postgres).set(database=engine.url.database).render_as_string(hide_password=False)


def as_of(postgres: str, engine: Engine, statement: bytes) -> str:
    """Change the schema jobs as a superuser, and return the superuser's URL."""
    url = admin_url(postgres, engine)
    run_sql(url, statement)
    return url


@pytest.mark.parametrize(
    ("found", "before"),
    [
        ("none", b"DROP TABLE jobs.alembic_version"),
        ("none", b"REVOKE SELECT ON jobs.alembic_version FROM paperprofit_services"),  # as an earlier release left it
        ("jobs_v1_0001", b"UPDATE jobs.alembic_version SET version_num = 'jobs_v1_0001'"),
    ],
)
def test_a_service_refuses_a_job_engine_that_is_not_set_up(
    postgres: str, orders: Engine, found: str, before: bytes
) -> None:
    """The sentence has both revisions and the command. The service does not migrate it, and has no right to."""
    as_of(postgres, orders, before)
    with pytest.raises(DatabaseTooOld, match=rf"at revision {found}, .* {NEEDED}: run python -m shared.database_setup"):
        migrate_service(orders, "orders")


def test_a_service_waits_for_the_set_up(postgres: str, orders: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both are started together. The service goes on as soon as the set-up has ended."""
    monkeypatch.setattr("shared.storage.migrate.PAUSE_SECONDS", 0.05)
    with ThreadPoolExecutor(1) as pool:
        url = as_of(postgres, orders, b"DROP SCHEMA jobs CASCADE")
        waiting = pool.submit(migrate_service, orders, "orders", seconds=30)
        set_up(url, {})
        waiting.result(30)
    assert [row.version_num for row in rows(orders, "SELECT version_num FROM jobs.alembic_version")] == [NEEDED]


def test_a_service_of_this_version_works_with_a_newer_job_engine(postgres: str, orders: Engine) -> None:
    """A replica that starts again during a rolling upgrade warns. Neither it nor the set-up changes the schema."""
    url = as_of(postgres, orders, b"UPDATE jobs.alembic_version SET version_num = 'jobs_v1_9999'")
    with capture_logs() as logs:
        migrate_service(orders, "orders")
        set_up(url, {})
    assert [log["revision"] for log in logs if log["log_level"] == "warning"] == ["jobs_v1_9999"] * 2
    assert value(orders, "SELECT version_num FROM jobs.alembic_version") == "jobs_v1_9999"
