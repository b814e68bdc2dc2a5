"""Transient database errors: those that pass by themselves.

Exception
└── sqlalchemy.exc.SQLAlchemyError
    ├── OperationalError      the server is away, restarting, or refused a lock
    ├── TimeoutError          the pool is exhausted
    └── ProgrammingError
        ├── UndefinedTable    another service has not migrated yet
        └── UndefinedColumn   a view of another service does not have this column yet

psycopg's own errors are treated in the same way where its connection is used directly.
"""

from psycopg import Error
from psycopg import errors as pg
from sqlalchemy.exc import DBAPIError, OperationalError, ProgrammingError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolTimeout

#: Errors of the database: SQLAlchemy's, and psycopg's from our own driver, which a commit may raise, too.
DATABASE_ERRORS = (SQLAlchemyError, Error)
_NOT_READY = (pg.UndefinedTable, pg.UndefinedColumn, pg.InvalidSchemaName, pg.InsufficientPrivilege)
_SHUTTING_DOWN = (pg.AdminShutdown, pg.CrashShutdown, pg.CannotConnectNow)


def is_transient(error: BaseException) -> bool:
    """True where the same work may succeed later although nobody repairs anything."""
    if isinstance(error, (OperationalError, PoolTimeout)):
        # a statement that took too long would take too long again
        return not isinstance(getattr(error, "orig", None), pg.QueryCanceled)
    if isinstance(error, ProgrammingError):
        return isinstance(error.orig, _NOT_READY)
    if isinstance(error, pg.Error):
        return isinstance(error, (pg.OperationalError, *_NOT_READY)) and not isinstance(error, pg.QueryCanceled)
    if isinstance(error, DBAPIError):
        return error.connection_invalidated or isinstance(error.orig, _SHUTTING_DOWN)
    return False
