"""Values change by being made anew."""

from typing import TypeVar

V = TypeVar("V")


def changed(value: V, **changes: object) -> V:
    """The frozen dataclass with these fields changed: as ``dataclasses.replace``, which takes ten times as long.

    For where every fill passes: nothing checks the names of the fields.
    """
    made = object.__new__(type(value))
    made.__dict__.update(value.__dict__, **changes)
    return made
