"""psycopg itself, for hot paths: SQLAlchemy's own work, and psycopg's text arrays, would take most of the time there.

Columns of values are parameters of a statement: numbers go as one literal, and what else there is as a binary array:
write ``%(name)b`` for it and cast it to its type.
"""

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from psycopg.rows import namedtuple_row
from sqlalchemy import Connection


def driver(connection: Connection) -> Any:
    """The connection of psycopg, in the same transaction."""
    return connection.connection.driver_connection


def fetch(connection: Connection, statement: str, **values: Any) -> list[Any]:
    """What the statement answers, as named tuples."""
    with driver(connection).cursor(row_factory=namedtuple_row) as cursor:
        found: list[Any] = cursor.execute(statement, values, binary=True).fetchall()
    return found


class Writes:
    """Statements that are sent together. What one of them raises is raised when they are."""

    def __init__(self, connection: Connection) -> None:
        self._driver = driver(connection)
        self._statements: list[tuple[str, dict[str, Any]]] = []

    def add(self, statement: str, columns: dict[str, Any]) -> None:
        self._statements.append((statement, columns))

    def send(self) -> None:
        with self._driver.pipeline():
            for statement, columns in self._statements:
                self._driver.execute(statement, columns)


def numbers(values: Iterable[Decimal | None]) -> str:
    """A literal of ``numeric[]``."""
    return "{" + ",".join(["NULL" if value is None else str(value) for value in values]) + "}"
