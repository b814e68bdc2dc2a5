"""Commands of an operator that every service with queues obeys."""

from typing import ClassVar

from pydantic import Field

from shared.contracts.base import Command


class ToService(Command):
    """A command that any service obeys; ``to`` names the one that shall."""

    service: ClassVar[str] = "*"

    to: str

    @property
    def owner(self) -> str:
        return self.to


class RequeueDeadLetters(ToService):
    """Send these dead letters again to the queues they died in, each under its own message id."""

    letters: tuple[int, ...] = Field(min_length=1, max_length=10_000)
    who: str = Field(min_length=1)


class DiscardDeadLetters(ToService):
    """Forget these dead letters for good."""

    letters: tuple[int, ...] = Field(min_length=1, max_length=10_000)
    who: str = Field(min_length=1)
