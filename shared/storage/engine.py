"""Database engines: one per process and service, with bounded waits."""

import time
from typing import Any

import psycopg
from sqlalchemy import Engine, create_engine, event
from sqlalchemy.exc import InvalidatePoolError

from shared.storage.driver import forget, forget_returned
from shared.storage.sessions import NO_JIT, TCP_OF_CLIENT

#: A statement may take this long, and a lock be waited for this long, in milliseconds. They bound what a
#: worker thread's time limit cannot: an exception does not interrupt a system call.
STATEMENT_TIMEOUT_MS = 30_000
LOCK_TIMEOUT_MS = 10_000
#: A connection that was not used for longer is tried before it is handed out. One that was just used is not: that
#: would be a round trip for every transaction, and what was cut meanwhile is a transient error all the same.
IDLE_SECONDS = 1.0


def make_engine(url: str, *, name: str, pool_size: int = 10) -> Engine:
    """An engine whose sessions speak UTC, carry ``name`` in pg_stat_activity and cannot hang."""
    options = (
        f"-c timezone=UTC -c statement_timeout={STATEMENT_TIMEOUT_MS} -c lock_timeout={LOCK_TIMEOUT_MS}"
        f" -c idle_in_transaction_session_timeout=60000 {NO_JIT}"
    )
    engine = create_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=10,
        pool_use_lifo=True,  # the one that was just used has its statements prepared, and what they read at hand
        connect_args={
            "application_name": f"paperprofit-{name}",
            "options": options,
            "connect_timeout": 5,
            **TCP_OF_CLIENT,
        },
    )
    event.listen(engine, "checkin", _note_use)
    event.listen(engine, "checkout", _try_idle)
    event.listen(engine, "rollback", forget)
    event.listen(engine, "reset", forget_returned)
    return engine


def _note_use(_connection: Any, record: Any) -> None:
    record.info["used_at"] = time.monotonic()


def _try_idle(connection: Any, record: Any, _proxy: Any) -> None:
    """Raises InvalidatePoolError where the server has closed it; the pool then hands out a new one."""
    if time.monotonic() - record.info.get("used_at", time.monotonic()) < IDLE_SECONDS:
        return
    try:
        connection.execute("SELECT 1")
        connection.commit()  # after a rollback psycopg would drop all statements that were prepared
    except psycopg.OperationalError as error:
        raise InvalidatePoolError(str(error)) from error
