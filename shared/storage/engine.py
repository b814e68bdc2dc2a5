"""Database engines: one per process and service, with bounded waits."""

from sqlalchemy import Engine, create_engine

#: A statement may take this long, and a lock be waited for this long, in milliseconds. They bound what a
#: worker thread's time limit cannot: an exception does not interrupt a system call.
STATEMENT_TIMEOUT_MS = 30_000
LOCK_TIMEOUT_MS = 10_000


def make_engine(url: str, *, name: str, pool_size: int = 10) -> Engine:
    """An engine whose sessions speak UTC, carry ``name`` in pg_stat_activity and cannot hang."""
    options = (
        f"-c timezone=UTC -c statement_timeout={STATEMENT_TIMEOUT_MS} -c lock_timeout={LOCK_TIMEOUT_MS}"
        " -c idle_in_transaction_session_timeout=60000"
    )
    return create_engine(
        url,
        pool_size=pool_size,
        max_overflow=0,
        pool_pre_ping=True,
        pool_timeout=10,
        connect_args={"application_name": f"paperprofit-{name}", "options": options, "connect_timeout": 5},
    )
