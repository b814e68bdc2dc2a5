"""Keyset pagination: a page begins after the last row of the page before it, and costs the same on any table size."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row, text

Record = dict[str, Any]


@dataclass(frozen=True)
class Keyset:
    """A list of rows in descending order of ``key``, whose columns identify a row.

    ``select`` ends where WHERE may follow. ``clauses`` are the conditions of the filters by name, with ``:name`` for
    the filter's value. ``table`` is the prefix of the columns of the key, such as ``run.``.
    """

    select: str
    key: tuple[str, ...]
    clauses: Mapping[str, str]
    table: str = ""

    def page(
        self, connection: Connection, filters: Mapping[str, Any], *, after: Sequence[Any] | None, limit: int
    ) -> list[Record]:
        """At most ``limit`` rows that match all filters, after the row whose key is ``after``."""
        key = ", ".join(f"{self.table}{column}" for column in self.key)
        conditions = [self.clauses[name] for name in filters]
        begin = {f"after_{number}": value for number, value in enumerate(after or ())}
        if begin:
            conditions.append(f"({key}) < ({', '.join(f':{name}' for name in begin)})")
        where = f"WHERE {' AND '.join(conditions)}" if conditions else ""
        order = ", ".join(f"{self.table}{column} DESC" for column in self.key)
        statement = text(f"{self.select} {where} ORDER BY {order} LIMIT :limit")
        return records(connection, statement, **filters, **begin, limit=limit)


def records(connection: Connection, statement: Any, **values: Any) -> list[Record]:
    return [record(row) for row in connection.execute(statement, values)]


def record(row: Row[Any]) -> Record:
    return dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's public name for it
