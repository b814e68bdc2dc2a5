"""Database engines: one for each process and service, with bounded waits."""

import time
from typing import Any

import psycopg
from prometheus_client import Histogram, Summary
from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.pool import ConnectionPoolEntry, QueuePool

from shared.storage.driver import forget, forget_returned
from shared.storage.sessions import TCP_OF_CLIENT

#: A connection that was idle for longer is tested before it is handed out. Others are not, which saves a round trip for
#: each transaction. If one of them was cut, that is a transient error.
IDLE_SECONDS = 1.0
#: An older connection is replaced when it is handed out next. PostgreSQL's process for it keeps a plan of each prepared
#: statement and an entry of each table that it has used, and gives them back only when it ends.
RECYCLE_SECONDS = 600


WAIT = Histogram(
    "paperprofit_pool_wait_seconds",
    "Time that a transaction waits for a connection of the pool, or for a new one",
    buckets=(0.0001, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10),
)
#: The rate of its sum is the number of connections in use.
USE = Summary("paperprofit_pool_use_seconds", "Time that a transaction keeps a connection of the pool")


#: The settings of each session of an engine, as PostgreSQL shows them. The time limit of a worker thread cannot bound
#: statements and the wait for a lock, because its exception does not interrupt a system call.
SESSION = {
    "timezone": "UTC",
    "statement_timeout": "30s",
    "lock_timeout": "10s",
    "idle_in_transaction_session_timeout": "1min",
    "jit": "off",
}


class PoolerRefused(RuntimeError):
    """Something between us and PostgreSQL does not keep sessions apart, such as PgBouncer."""

    def __init__(self, detail: str) -> None:
        super().__init__(
            "PAPERPROFIT_DATABASE_URL leads to a pooler such as PgBouncer, and PaperProfit needs sessions of its own"
            f" (LISTEN, prepared statements, settings): name PostgreSQL itself there ({detail})"
        )


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
    options = " ".join(f"-c {setting}={given}" for setting, given in SESSION.items())
    engine = create_engine(
        url,
        poolclass=MeasuredPool,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=10,
        pool_recycle=RECYCLE_SECONDS,
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


def refusal_of(error: BaseException) -> PoolerRefused | None:
    """The refusal of a pooler that takes no settings of a session, if this error of a new connection is one."""
    return PoolerRefused("it takes no startup options") if "unsupported startup parameter" in str(error) else None


def refuse_pooler(connection: Connection) -> None:
    """Raise PoolerRefused where the session does not have the settings that it was opened with."""
    found = connection.execute(_SETTINGS, {"names": list(SESSION)})
    lost = {row.name: row.value for row in found if row.value != SESSION[row.name]}
    if lost:
        raise PoolerRefused(", ".join(f"{name} is {value}" for name, value in sorted(lost.items())))


_SETTINGS = text("""
SELECT name, current_setting(name) AS value FROM unnest(CAST(:names AS text[])) AS name
""")
