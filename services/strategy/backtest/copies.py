"""Changed copies of validated models, without another validation."""

from typing import TypeVar

from pydantic import BaseModel

M = TypeVar("M", bound=BaseModel)


def copied(model: M, **changes: object) -> M:
    """A copy with these fields changed. The caller knows that they are valid, and the names are not checked."""
    made = object.__new__(type(model))
    fields = made.__dict__
    fields.update(model.__dict__)
    fields.update(changes)
    object.__setattr__(made, "__pydantic_fields_set__", model.__pydantic_fields_set__)
    object.__setattr__(made, "__pydantic_extra__", None)
    object.__setattr__(made, "__pydantic_private__", None)
    return made
