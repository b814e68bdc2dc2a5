"""Which database errors pass by themselves.

Exception
└── sqlalchemy.exc.SQLAlchemyError
    ├── OperationalError      the server is away, restarting, or refused a lock: wait and try again
    ├── TimeoutError          the pool is exhausted: the same
    └── ProgrammingError
        ├── UndefinedTable    another service has not migrated yet: not ready, try again
        └── UndefinedColumn   its view has not this column yet: the same

psycopg's own errors, where its connection is used directly, are the same as those.
"""

from psycopg import errors as pg
from sqlalchemy.exc import DBAPIError, OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeout

_NOT_READY = (pg.UndefinedTable, pg.UndefinedColumn, pg.InvalidSchemaName, pg.InsufficientPrivilege)
_SHUTTING_DOWN = (pg.AdminShutdown, pg.CrashShutdown, pg.CannotConnectNow)


def is_transient(error: BaseException) -> bool:
    """Whether the same work may succeed later without anybody mending anything."""
    if isinstance(error, (OperationalError, PoolTimeout)):
        # a statement that took too long would do so again
        return not isinstance(getattr(error, "orig", None), pg.QueryCanceled)
    if isinstance(error, ProgrammingError):
        return isinstance(error.orig, _NOT_READY)
    if isinstance(error, pg.Error):
        return isinstance(error, (pg.OperationalError, *_NOT_READY)) and not isinstance(error, pg.QueryCanceled)
    if isinstance(error, DBAPIError):
        return error.connection_invalidated or isinstance(error.orig, _SHUTTING_DOWN)
    return False
