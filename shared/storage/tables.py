"""Tables, each declared once by a row class, from which follow the statements that write its rows, and typed rows.

    class Entry(NamedTuple):
        account_id: UUID
        cash: Decimal

    LEDGER = Table("orders.ledger", Entry, key=("account_id",))
    saving_entries = LEDGER.insert()

    uow.run(saving_entries([entry]))                 # one statement, however many rows
    entries = typed(Entry, fetch(connection, ...))   # a list of Entry

A row class is a dataclass or a named tuple. Each field is a column of the field's name and type. A field that is a row
itself stands for the columns of that row. A column that the outer row names again is taken from the outer row.
Columns are matched by name on both sides, so neither the order of the fields nor that of the table's columns matters.
"""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, fields, is_dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from functools import cache
from operator import attrgetter
from types import UnionType
from typing import Any, Generic, NamedTuple, TypeVar, Union, cast, get_args, get_origin, get_type_hints
from uuid import UUID

from shared.storage.driver import Call, numbers

R = TypeVar("R")
U = TypeVar("U")

#: PostgreSQL's type by Python's. The first that fits counts: bool is an int, and datetime is a date.
_KINDS: tuple[tuple[type, str], ...] = (
    (bool, "boolean"),
    (int, "bigint"),
    (str, "text"),
    (bytes, "bytea"),
    (Decimal, "numeric"),
    (UUID, "uuid"),
    (datetime, "timestamptz"),
    (date, "date"),
)


class Column(NamedTuple):
    """``path`` leads from a row to the value. ``kind`` is PostgreSQL's type, None where Python's type has none."""

    path: str
    kind: str | None


def columns_of(row: type) -> dict[str, Column]:
    """The columns of a row class by their names, in the order of its fields."""
    found: dict[str, Column] = {}
    own: dict[str, Column] = {}
    for name, hint in _fields(row).items():
        if _is_row(hint):
            found |= {each: Column(f"{name}.{path}", kind) for each, (path, kind) in columns_of(hint).items()}
        else:
            own[name] = Column(name, _kind(hint))
    return found | own


@dataclass(frozen=True)
class Write(Generic[R]):
    """A statement that writes rows, as many as there are. Calling it with rows makes the ``Call``."""

    statement: str
    columns: tuple[tuple[str, str, Callable[[R], Any]], ...]

    def __call__(self, rows: Sequence[R], **values: Any) -> Call:
        """``values`` are those of the places ``%(name)s`` that the statement's ``also`` has."""
        for name, kind, value in self.columns:
            column = map(value, rows)
            values[name] = numbers(column) if kind == "numeric" else list(column)
        return self.statement, values


@dataclass(frozen=True)
class Table(Generic[R]):
    """A table whose rows are described by ``row``. ``key`` are the columns of its primary key."""

    name: str
    row: type[R]
    key: tuple[str, ...]

    def insert(self) -> Write[R]:
        """The statement that adds rows. Raises TypeError where a field has no type in PostgreSQL."""
        columns = _writing(self.row, columns_of(self.row))
        names = ", ".join(name for name, _, _ in columns)
        taken = ", ".join(f"v.{name}" for name, _, _ in columns)
        return Write(f"INSERT INTO {self.name} ({names}) SELECT {taken} FROM {_unnest(columns)}", columns)

    def upsert(self, *names: str) -> Write[R]:
        """The statement that adds rows, and in rows that are there changes these columns.

        Raises TypeError where a field has no type in PostgreSQL.
        """
        changes = ", ".join(f"{name} = excluded.{name}" for name in names)
        insert = self.insert()
        conflict = f"ON CONFLICT ({', '.join(self.key)}) DO UPDATE SET {changes}"
        return Write(f"{insert.statement} {conflict}", insert.columns)

    def update(self, row: type[U], *names: str, also: str = "") -> Write[U]:
        """The statement that changes these columns of the rows with the same keys, as ``row`` has them.

        ``also`` is SQL that sets more: ``t`` is the table there, ``v`` what is given. Raises KeyError where ``row`` or
        the table lacks a column, and TypeError where one has no type in PostgreSQL.
        """
        for name in names:
            columns_of(self.row)[name]
        columns = _writing(row, (*self.key, *names))
        changes = ", ".join([*(f"{name} = v.{name}" for name in names), *([also] if also else [])])
        found = " AND ".join(f"t.{name} = v.{name}" for name in self.key)
        return Write(f"UPDATE {self.name} AS t SET {changes} FROM {_unnest(columns)} WHERE {found}", columns)


def typed(row: type[R], found: Iterable[Any]) -> list[R]:
    """The rows of a statement as instances of ``row``, by the names of its fields. More columns do no harm.

    Raises AttributeError where the statement has no column of a field's name.
    """
    make = _reader(cast("Hashable", row))
    return [make(each) for each in found]


@cache
def _reader(row: Any) -> Callable[[Any], Any]:
    readers = [_reader(hint) if _is_row(hint) else _value(name, hint) for name, hint in _fields(row).items()]
    return lambda found: row(*[read(found) for read in readers])


def _value(name: str, hint: Any) -> Callable[[Any], Any]:
    """Reads one column. Text becomes the enum that the field is of."""
    kinds = _kinds(hint)
    if len(kinds) != 1 or not issubclass(kinds[0], Enum):
        return attrgetter(name)
    enum, read = kinds[0], attrgetter(name)
    return lambda found: None if (value := read(found)) is None else enum(value)


def _writing(row: type[R], names: Iterable[str]) -> tuple[tuple[str, str, Callable[[R], Any]], ...]:
    columns = columns_of(row)
    writing = []
    for name in names:
        path, kind = columns[name]
        if kind is None:
            raise TypeError(f"{row.__name__}.{path} has a type that PostgreSQL does not know")
        writing.append((name, kind, attrgetter(path)))
    return tuple(writing)


def _unnest(columns: Iterable[tuple[str, str, Any]]) -> str:
    """The columns as a table ``v``: numbers as a literal, all else as binary arrays."""
    places = [f"%({name}){'s' if kind == 'numeric' else 'b'}::{kind}[]" for name, kind, _ in columns]
    return f"unnest({', '.join(places)}) AS v ({', '.join(name for name, _, _ in columns)})"


def _fields(row: type) -> dict[str, Any]:
    """The fields of a row class with their types."""
    hints = get_type_hints(row)
    names = [field.name for field in fields(row)] if is_dataclass(row) else row._fields  # type: ignore[attr-defined]
    return {name: hints[name] for name in names}


def _is_row(hint: Any) -> bool:
    return isinstance(hint, type) and (is_dataclass(hint) or (issubclass(hint, tuple) and hasattr(hint, "_fields")))


def _kinds(hint: Any) -> list[type]:
    """The types that a value may have, but for None."""
    parts = get_args(hint) if get_origin(hint) in {Union, UnionType} else (hint,)
    return [part for part in parts if isinstance(part, type) and part is not type(None)]


def _kind(hint: Any) -> str | None:
    """PostgreSQL's type of values of that type. None where there is none, or more than one."""
    found = {next((kind for known, kind in _KINDS if issubclass(part, known)), None) for part in _kinds(hint)}
    return found.pop() if len(found) == 1 else None
