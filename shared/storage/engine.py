"""Database engines: one for each process and service, with bounded waits."""

import time
from typing import Any

import psycopg
from prometheus_client import Histogram, Summary
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

from shared.storage.driver import forget, forget_returned
from shared.storage.sessions import NO_JIT, TCP_OF_CLIENT

#: The longest that a statement may take and a lock be waited for, in milliseconds. The time limit of a worker thread
#: cannot bound them, because its exception does not interrupt a system call.
STATEMENT_TIMEOUT_MS = 30_000
LOCK_TIMEOUT_MS = 10_000
#: A connection that was idle for longer is tested before it is handed out. Others are not, which saves a round trip for
#: each transaction. If one of them was cut, that is a transient error.
IDLE_SECONDS = 1.0


WAIT = Histogram(
    "paperprofit_pool_wait_seconds",
    "Time that a transaction waits for a connection of the pool, or for a new one",
    buckets=(0.0001, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10),
)
#: The rate of its sum is the number of connections in use.
USE = Summary("paperprofit_pool_use_seconds", "Time that a transaction keeps a connection of the pool")


class MeasuredPool(QueuePool):
    """A pool that measures how long its users wait."""

    def _do_get(self) -> ConnectionPoolEntry:
        began = time.monotonic()
        try:
            return super()._do_get()
        finally:
            WAIT.observe(time.monotonic() - began)


def make_engine(url: str, *, name: str, pool_size: int = 10) -> Engine:
    """An engine whose sessions use UTC, show ``name`` in pg_stat_activity and cannot hang."""
    options = (
        f"-c timezone=UTC -c statement_timeout={STATEMENT_TIMEOUT_MS} -c lock_timeout={LOCK_TIMEOUT_MS}"
        f" -c idle_in_transaction_session_timeout=60000 {NO_JIT}"
    )
    engine = create_engine(
        url,
        poolclass=MeasuredPool,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=10,
        hide_parameters=True,  # an error of a statement does not tell clients' data
        pool_use_lifo=True,  # the connection used last has its statements prepared, and its caches warm
        connect_args={
            "application_name": f"paperprofit-{name}",
            "options": options,
            **TCP_OF_CLIENT,
        },
    )
    event.listen(engine, "checkin", _returned)
    event.listen(engine, "checkout", _test_idle)
    event.listen(engine, "rollback", forget)
    event.listen(engine, "rollback_savepoint", lambda connection, _name, _context: forget(connection))
    event.listen(engine, "reset", forget_returned)
    return engine


def _returned(_connection: Any, record: Any) -> None:
    record.info["used_at"] = now = time.monotonic()
    USE.observe(now - record.info.get("taken_at", now))  # it is missing where the connection was lost meanwhile


def _test_idle(connection: Any, record: Any, _proxy: Any) -> None:
    """Raises InvalidatePoolError where the server has closed the connection. The pool then hands out a new one."""
    record.info["taken_at"] = time.monotonic()
    if record.info["taken_at"] - record.info.get("used_at", time.monotonic()) < IDLE_SECONDS:
        return
    try:
        connection.execute("SELECT 1")
        connection.commit()  # a rollback would make psycopg drop all prepared statements
    except psycopg.OperationalError as error:
        raise InvalidatePoolError(str(error)) from error
