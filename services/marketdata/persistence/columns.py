"""Rows as columns, for statements that take one array a column."""

from collections.abc import Sequence
from operator import attrgetter
from typing import Any


def columns(items: Sequence[object], *names: str) -> dict[str, list[Any]]:
    """Each named attribute of the items as one list."""
    return {name: list(map(attrgetter(name), items)) for name in names}
