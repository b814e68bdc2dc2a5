"""The pool on a real PostgreSQL hands out connections that work, though the server has cut idle ones."""

import pytest
from sqlalchemy import Engine, text

from shared.storage.engine import RECYCLE_SECONDS, make_engine
from tests.support import value

CUT = """
SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
WHERE usename = current_user AND datname = current_database() AND application_name = 'paperprofit-pool'
"""


def test_connections_that_were_cut_while_idle_are_replaced(
    urls: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All connections of the pool, not only the first dead one."""
    monkeypatch.setattr("shared.storage.engine.IDLE_SECONDS", 0.0)
    pool, cutting = (make_engine(urls["orders"], name=name, pool_size=3) for name in ("pool", "cutting"))
    assert _use_all(pool, 3) == [1, 1, 1]
    assert value(cutting, CUT) == 3
    assert _use_all(pool, 3) == [1, 1, 1]
    pool.dispose()
    cutting.dispose()


def test_a_connection_that_was_just_used_is_not_tested_first(urls: dict[str, str]) -> None:
    """No statement is sent before the caller's own."""
    pool = make_engine(urls["orders"], name="pool", pool_size=1)
    for _ in range(2):
        value(pool, "SELECT 'mine'")
    with pool.connect() as connection:
        assert connection.connection.driver_connection is not None
        last = "SELECT query FROM pg_stat_activity WHERE application_name = 'paperprofit-pool'"
        watching = make_engine(urls["orders"], name="watching")
        assert value(watching, last) == "ROLLBACK"  # the end of the last transaction, and no SELECT 1
        watching.dispose()
    pool.dispose()


def test_an_old_connection_is_replaced(urls: dict[str, str]) -> None:
    """A younger one stays."""
    pool = make_engine(urls["orders"], name="pool", pool_size=1)
    pids = []
    for age in (0, RECYCLE_SECONDS - 60, 120):
        with pool.connect() as connection:
            pids.append(connection.execute(text("SELECT pg_backend_pid()")).scalar_one())
        with pool.connect() as connection:
            connection.connection._connection_record.starttime -= age
    pids.append(value(pool, "SELECT pg_backend_pid()"))
    assert pids[0] == pids[1] == pids[2] != pids[3]
    pool.dispose()


def _use_all(pool: Engine, size: int) -> list[int]:
    """The answers of all connections of the pool, taken out at the same time."""
    taken = [pool.connect() for _ in range(size)]
    try:
        return [connection.execute(text("SELECT 1")).scalar_one() for connection in taken]
    finally:
        for connection in taken:
            connection.close()
