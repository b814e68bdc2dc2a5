"""An operator's commands, which every service with queues handles."""

from typing import Annotated, ClassVar

from pydantic import Field

from shared.contracts.base import Command, RowNumber
from shared.contracts.written import Printable

#: The id of the key that an operator used.
Who = Annotated[Printable, Field(min_length=1, max_length=200)]


class ToService(Command):
    """A command that any service can handle. ``to`` names the one that must."""

    service: ClassVar[str] = "*"

    to: str

    @property
    def owner(self) -> str:
        return self.to


class RequeueDeadLetters(ToService):
    """Requeue these dead letters to the queues that they died in. Each keeps its message id."""

    letters: tuple[RowNumber, ...] = Field(min_length=1, max_length=10_000)
    who: Who


class DiscardDeadLetters(ToService):
    """Discard these dead letters for good."""

    letters: tuple[RowNumber, ...] = Field(min_length=1, max_length=10_000)
    who: Who
