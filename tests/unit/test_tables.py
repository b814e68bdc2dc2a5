"""A table that is declared once: its statements, the values that they take, and typed rows."""

from collections import namedtuple
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any, NamedTuple
from uuid import UUID

import pytest

from shared.storage.tables import Column, Table, columns_of, typed

ID = UUID(int=7)
NOW = datetime(2026, 11, 25, tzinfo=UTC)


class Colour(StrEnum):
    RED = "red"
    BLUE = "blue"


class Shade(StrEnum):
    DARK = "dark"


@dataclass(frozen=True)
class Thing:
    id: UUID
    size: Decimal | None
    colour: Colour
    shade: Colour | Shade | None = None
    whole: bool = True

    @property
    def is_big(self) -> bool:
        return self.size is not None and self.size > 1


class Owned(NamedTuple):
    """A thing, and what its row has beside; ``size`` is the owner's and not the thing's."""

    owner: UUID
    thing: Thing
    amount: int
    day: date
    at: datetime | None
    body: bytes
    size: Decimal


THINGS = Table("shop.things", Owned, key=("owner", "id"))
OWNED = Owned(UUID(int=1), Thing(ID, Decimal(2), Colour.RED), 3, NOW.date(), NOW, b"x", Decimal(9))


def row(**values: Any) -> Any:
    return namedtuple("Row", values)(**values)  # noqa: PYI024 - as the driver makes them


def test_a_column_has_the_name_and_the_type_of_its_field() -> None:
    """A field that is a row stands for its columns, and the outer row wins."""
    assert columns_of(Owned) == {
        "id": Column("thing.id", "uuid"),
        "size": Column("size", "numeric"),
        "colour": Column("thing.colour", "text"),
        "shade": Column("thing.shade", "text"),
        "whole": Column("thing.whole", "boolean"),
        "owner": Column("owner", "uuid"),
        "amount": Column("amount", "bigint"),
        "day": Column("day", "date"),
        "at": Column("at", "timestamptz"),
        "body": Column("body", "bytea"),
    }


def test_an_insert_names_its_columns_on_both_sides() -> None:
    """Numbers are a literal, all else is a binary array."""
    statement, values = THINGS.insert()([OWNED, OWNED._replace(size=Decimal(1), at=None)])
    names = "id, size, colour, shade, whole, owner, amount, day, at, body"
    assert statement == (
        f"INSERT INTO shop.things ({names}) SELECT {', '.join(f'v.{name}' for name in names.split(', '))} FROM unnest("
        "%(id)b::uuid[], %(size)s::numeric[], %(colour)b::text[], %(shade)b::text[], %(whole)b::boolean[], "
        "%(owner)b::uuid[], %(amount)b::bigint[], %(day)b::date[], %(at)b::timestamptz[], %(body)b::bytea[]) "
        f"AS v ({names})"
    )
    assert values == {
        "id": [ID, ID],
        "size": "{9,1}",
        "colour": ["red", "red"],
        "shade": [None, None],
        "whole": [True, True],
        "owner": [UUID(int=1)] * 2,
        "amount": [3, 3],
        "day": [NOW.date()] * 2,
        "at": [NOW, None],
        "body": [b"x", b"x"],
    }


def test_an_upsert_changes_only_the_columns_that_it_is_told() -> None:
    statement, _ = THINGS.upsert("size", "amount")([OWNED])
    assert statement.endswith("ON CONFLICT (owner, id) DO UPDATE SET size = excluded.size, amount = excluded.amount")


def test_an_update_finds_rows_by_their_key() -> None:
    """Of another class than the row's, if that has the key and the columns; and with what it also sets."""

    class Counted(NamedTuple):
        owner: UUID
        id: UUID
        amount: int

    update = THINGS.update(Counted, "amount", also="at = %(now)s")
    statement, values = update([Counted(UUID(int=1), ID, 5)], now=NOW)
    assert statement == (
        "UPDATE shop.things AS t SET amount = v.amount, at = %(now)s "
        "FROM unnest(%(owner)b::uuid[], %(id)b::uuid[], %(amount)b::bigint[]) AS v (owner, id, amount) "
        "WHERE t.owner = v.owner AND t.id = v.id"
    )
    assert values == {"owner": [UUID(int=1)], "id": [ID], "amount": [5], "now": NOW}


def test_no_rows_are_empty_columns() -> None:
    _, values = THINGS.insert()([])
    assert values["size"] == "{}"
    assert values["id"] == []


@pytest.mark.parametrize("names", [["colours"], ["number"]])
def test_a_column_that_is_not_declared_is_refused(names: Sequence[str]) -> None:
    """When the statement is made, and not when it runs."""

    class Numbered(NamedTuple):
        owner: UUID
        id: UUID
        number: int

    with pytest.raises(KeyError):
        THINGS.update(Numbered, *names)


def test_a_type_that_postgresql_does_not_know_is_refused() -> None:
    """Also one that may be of two types."""

    class Odd(NamedTuple):
        id: UUID
        odd: list[int]

    class Either(NamedTuple):
        id: UUID
        either: int | str

    for wrong in (Odd, Either):
        with pytest.raises(TypeError, match="PostgreSQL does not know"):
            Table("shop.odd", wrong, key=("id",)).insert()


def test_a_row_is_read_by_the_names_of_its_fields() -> None:
    """In any order, with more columns than fields, and text as the enum that it is."""
    found = row(more=1, shade=None, whole=False, colour="blue", size=Decimal(4), id=ID)
    (thing,) = typed(Thing, [found])
    assert thing == Thing(ID, Decimal(4), Colour.BLUE, None, whole=False)
    assert thing.colour is Colour.BLUE
    assert thing.is_big


def test_a_row_within_a_row_is_read_too() -> None:
    class Stored(NamedTuple):
        owner: UUID
        thing: Thing

    found = row(owner=UUID(int=1), id=ID, size=None, colour="red", shade="dark", whole=True)
    assert typed(Stored, [found]) == [Stored(UUID(int=1), Thing(ID, None, Colour.RED, "dark"))]  # type: ignore[arg-type]


def test_a_statement_that_forgets_a_column_is_found_out() -> None:
    with pytest.raises(AttributeError, match="colour"):
        typed(Thing, [row(id=ID, size=None, shade=None, whole=True)])
