"""Every session that an embedded run opens, as the kernel and PostgreSQL see it."""

import re
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import psycopg
import pytest
from sqlalchemy import Engine

from embedded.database import service_urls
from embedded.postgres_cluster import PostgresCluster
from embedded.system import System
from services.gateway.settings import Settings
from shared.bus.notify import NotificationListener
from shared.storage.migrate import ROOT
from tests.support import eventually, rows

LASTING = """
SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted
UNION SELECT pid FROM pg_stat_activity WHERE query LIKE 'LISTEN%'
"""
OPENING = r"psycopg\.connect\(|[^_.]create_engine\(|Connection\.connect\("
SERVER_TCP = "SELECT name, setting FROM pg_settings WHERE name LIKE 'tcp\\_%' ORDER BY name"


class Opened(NamedTuple):
    """A session right after it was opened. ``socket`` holds the options of the client's socket."""

    pid: int
    jit: str
    connect_timeout: str | None
    socket: dict[str, int]
    server: dict[str, str]


def client_options(connection: "psycopg.Connection[Any]") -> dict[str, int]:
    with socket.fromfd(connection.fileno(), socket.AF_INET, socket.SOCK_STREAM) as end:
        tcp = {name: getattr(socket, name) for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_KEEPCNT")}
        found = {name: end.getsockopt(socket.IPPROTO_TCP, option) for name, option in tcp.items()}
        found["TCP_USER_TIMEOUT"] = end.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT)
        found["SO_KEEPALIVE"] = end.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    return found


def opened_as(connection: "psycopg.Connection[Any]") -> Opened:
    try:
        jit = connection.execute("SHOW jit").fetchall()[0][0]
        server = dict(connection.execute(SERVER_TCP).fetchall())
    finally:
        connection.rollback()
    connect_timeout = connection.info.get_parameters().get("connect_timeout")
    return Opened(connection.info.backend_pid, jit, connect_timeout, client_options(connection), server)


def lasting(engine: Engine) -> set[int]:
    """The processes of the sessions that hold an advisory lock or listen."""
    return {row.pid for row in rows(engine, LASTING)}


@pytest.fixture(scope="module")
def opened() -> Iterator[list[Opened]]:
    """All sessions of a run on its own cluster: setup, migrations, pools, relays, LISTEN and the feed's lock."""
    seen: list[Opened] = []
    connect = psycopg.connect

    def watched(*given: Any, **options: Any) -> "psycopg.Connection[Any]":
        connection = connect(*given, **options)
        seen.append(opened_as(connection))
        return connection

    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.setenv("PAPERPROFIT_DEMO", "true")
        patch.setattr(psycopg, "connect", watched)
        folder = stack.enter_context(TemporaryDirectory(prefix="paperprofit-sessions-"))
        urls = service_urls(stack.enter_context(PostgresCluster(Path(folder) / "postgres", durable=False)))
        system = System(urls, Settings(demo=True, threads=2))
        system.prepare()
        stack.enter_context(system.running())
        orders = system.contexts["orders"]  # a role may read the activity of its own sessions
        wake = NotificationListener(orders)
        stack.callback(wake.stop)
        wake.start()
        eventually(lambda: len(lasting(orders.engine)) > len(urls) + 1, what="the relays, the feed and LISTEN")
        assert lasting(orders.engine) <= {session.pid for session in seen}
        yield seen


def test_no_session_compiles_statements(opened: list[Opened]) -> None:
    """A plan that looks expensive would be compiled at every execution, which takes longer than the statement."""
    assert {session.jit for session in opened} == {"off"}


def test_a_client_gives_up_a_server_that_vanished_within_seconds(opened: list[Opened]) -> None:
    """The kernel probes an idle connection after 5 s, and gives up after 10 s without an answer."""
    wanted = {"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 2, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 10_000}
    for session in opened:
        assert session.socket.pop("SO_KEEPALIVE") != 0
        assert session.socket == wanted


def test_no_client_waits_long_for_an_address_that_does_not_answer(opened: list[Opened]) -> None:
    """A name may point to several addresses, of which each has this time. The cluster asks itself for less."""
    assert {session.connect_timeout for session in opened} <= {"5", "2"}


def test_every_session_is_opened_with_these_settings() -> None:
    """By ``make_engine`` or with ``session_info``, which the sessions above have in common."""
    sources = [path for package in ("shared", "services", "embedded") for path in (ROOT / package).rglob("*.py")]
    opening = {path.name: path.read_text() for path in sources if re.search(OPENING, path.read_text())}
    assert set(opening) == {"engine.py", "database_setup.py", "postgres_cluster.py"}
    assert all("TCP_OF_CLIENT" in text or "session_info(" in text for text in opening.values())


def test_the_server_gives_up_a_client_that_vanished_within_seconds(opened: list[Opened]) -> None:
    """As PostgreSQL reads it from the socket. Then the locks of the session are free."""
    wanted = {
        "tcp_keepalives_count": "3",
        "tcp_keepalives_idle": "5",
        "tcp_keepalives_interval": "2",
        "tcp_user_timeout": "10000",
    }
    assert [session.server for session in opened if session.server != wanted] == []
