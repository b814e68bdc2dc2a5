"""Columns of values as parameters of a statement: psycopg's own text arrays take most of the time of a large batch.

Numbers go as one literal. What else there is goes as a binary array: write ``%(name)b`` for it and cast it to its type.
"""

from collections.abc import Iterable
from decimal import Decimal


def numbers(values: Iterable[Decimal | None]) -> str:
    """A literal of ``numeric[]``."""
    return "{" + ",".join(["NULL" if value is None else str(value) for value in values]) + "}"
