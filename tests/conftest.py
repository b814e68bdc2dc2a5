"""Fixtures: one PostgreSQL and one RabbitMQ for the session, a database and a virtual host of its own per test."""

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import psycopg
import pytest
import structlog
from psycopg import sql
from sqlalchemy import make_url

from embedded.database import service_urls
from embedded.system import System
from services.gateway.settings import Settings
from shared.clock import Clock, utc_now
from shared.contracts.routing import SERVICES
from shared.database_setup import set_up
from shared.storage.engine import make_engine
from shared.storage.migrate import ROOT, migrate_service
from tests.servers.choice import postgres_server, rabbit_server
from tests.servers.rabbitmq import RabbitServer

TEMPLATE = "paperprofit_template"
_numbers = itertools.count(1)
#: Between two files of tests/e2e, which take minutes and many processes, so many other files are started.
APART = 12


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start the longest files early and apart, so that the last minutes are not spent on one of them alone."""
    files = dict.fromkeys(item.path for item in items)
    slow = [path for path in files if path.parent.name == "e2e"]
    order = ("integration", "contracts", "component", "unit")
    others = [path for folder in order for path in files if path.parent.name == folder]
    others += [path for path in files if path not in slow and path.parent.name not in order]
    for number, path in enumerate(slow):
        others.insert(number * (APART + 1), path)
    place = {path: number for number, path in enumerate(others)}
    items.sort(key=lambda item: place[item.path])


@pytest.fixture(scope="session", autouse=True)
def environment() -> Iterator[None]:
    """The tests' own settings; nothing of the developer's environment leaks in."""
    patch = pytest.MonkeyPatch()
    for name in list(os.environ):
        if name.startswith("PAPERPROFIT_") and not name.startswith("PAPERPROFIT_TEST_"):
            patch.delenv(name)
    patch.setenv("PAPERPROFIT_JOBS_CONFIG", str(ROOT / "config" / "jobs.toml"))
    structlog.configure(  # through logging, so that pytest captures it
        processors=[structlog.stdlib.render_to_log_kwargs],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    yield
    patch.undo()


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """A superuser's URL of a real PostgreSQL."""
    with postgres_server() as url:
        yield url


@pytest.fixture(scope="session")
def rabbit() -> Iterator[RabbitServer]:
    with rabbit_server() as server:
        yield server


@pytest.fixture(scope="session")
def template(postgres: str) -> dict[str, str]:
    """A migrated database that the tests' databases are copies of; the services' URLs of it."""
    run_sql(postgres, sql.SQL("CREATE DATABASE {}").format(sql.Identifier(TEMPLATE)))
    urls = service_urls(_in_database(postgres, TEMPLATE))
    for service in SERVICES:
        engine = make_engine(urls[service], name=service)
        migrate_service(engine, service)
        engine.dispose()
    return urls


@pytest.fixture
def urls(postgres: str, template: dict[str, str]) -> Iterator[dict[str, str]]:
    """The services' URLs of a database that this test has for itself."""
    with database(postgres, template) as own:
        yield own


@contextmanager
def database(postgres: str, template: dict[str, str], *, migrated: bool = True) -> Iterator[dict[str, str]]:
    """The services' URLs of a new database, which only the set-up has been run on unless it is ``migrated``."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    origin = sql.Identifier(TEMPLATE if migrated else "template1")
    copy = sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY").format(sql.Identifier(name), origin)
    run_sql(postgres, copy)
    if not migrated:  # service_urls would give the roles new passwords, which the other databases' URLs do not have
        set_up(_in_database(postgres, name), {})
    grant = sql.SQL("GRANT CONNECT ON DATABASE {} TO paperprofit_services").format(sql.Identifier(name))
    run_sql(postgres, grant)
    try:
        yield {service: _in_database(url, name) for service, url in template.items()}
    finally:
        run_sql(postgres, sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def run_sql(url: str, statement: sql.Composed | bytes) -> None:
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute(statement)


def _in_database(url: str, name: str) -> str:
    return make_url(url).set(database=name).render_as_string(hide_password=False)


class FakeClock:
    """A clock that stands still until it is moved."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def move(self, **by: float) -> datetime:
        self.now += timedelta(**by)
        return self.now


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(utc_now())


@pytest.fixture
def system(urls: dict[str, str]) -> Iterator[System]:
    """All services on the in-process bus, without the price feed: a test pushes its own prices."""
    with running_system(urls) as system:
        yield system


@contextmanager
def running_system(urls: dict[str, str], clock: Clock = utc_now) -> Iterator[System]:
    settings = Settings(demo=True, threads=4, pool_size=10, api_key_id="TESTKEY", api_secret_key="test-secret-key")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PAPERPROFIT_DEMO", "true")
        patch.setattr("embedded.system.WORKER_TIMEOUT_MS", 50)
        system = System(urls, settings, clock)
        system.prepare()
        with system.running(feeds=False):
            yield system


@pytest.fixture
def account_id() -> UUID:
    return uuid4()
