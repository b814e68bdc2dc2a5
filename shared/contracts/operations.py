"""An operator's commands, which every service with queues handles."""

from typing import ClassVar

from pydantic import Field

from shared.contracts.base import Command


class ToService(Command):
    """A command that any service can handle. ``to`` names the one that must."""

    service: ClassVar[str] = "*"

    to: str

    @property
    def owner(self) -> str:
        return self.to


class RequeueDeadLetters(ToService):
    """Requeue these dead letters to the queues that they died in. Each keeps its message id."""

    letters: tuple[int, ...] = Field(min_length=1, max_length=10_000)
    who: str = Field(min_length=1)


class DiscardDeadLetters(ToService):
    """Discard these dead letters for good."""

    letters: tuple[int, ...] = Field(min_length=1, max_length=10_000)
    who: str = Field(min_length=1)
