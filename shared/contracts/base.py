"""What every message has in common.

Events are named in the past tense, commands in the imperative. A message is versioned, keyword-only,
immutable and tolerates unknown fields, so that consumers can be deployed before publishers.
"""

import re
from decimal import Decimal
from functools import cache
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from shared.contracts.priority import Priority


def _no_floats(value: object) -> object:
    """Refuse floats: they have lost digits before we see them."""
    if isinstance(value, float):
        raise ValueError("is a float: send decimal numbers as strings")  # noqa: TRY004 - pydantic wants it
    return value


#: A decimal number that never was a float; a string on the wire. In this order pydantic checks for infinity by itself.
Number = Annotated[Decimal, Field(allow_inf_nan=False), BeforeValidator(_no_floats)]
Symbol = Annotated[str, Field(min_length=1, max_length=16, pattern=r"^[A-Z0-9][A-Z0-9./-]*$")]


class Message(BaseModel):
    """A message on the bus. ``service`` owns it: it publishes the event, or obeys the command."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    service: ClassVar[str]
    version: ClassVar[int] = 1
    #: Whether messages of one key are also handled in the order in which one sender committed them.
    in_order: ClassVar[bool] = False

    @classmethod
    def wire_name(cls) -> str:
        """The name and version that the envelope carries, such as ``PricesUpdated.v1``."""
        return f"{cls.__name__}.v{cls.version}"

    @property
    def routing_key(self) -> str:
        """``<service>.<message>.v<N>``, such as ``marketdata.prices_updated.v1``."""
        return routing_key(type(self), self.owner)

    @property
    def owner(self) -> str:
        """The service in the routing key."""
        return self.service

    @property
    def key(self) -> str:
        """Messages of one key are published in the order of their commits."""
        return self.owner

    @property
    def urgency(self) -> Priority:
        """Its place among the messages of one queue, where the queue knows priorities."""
        return Priority.LOW

    def payload(self) -> dict[str, Any]:
        """The body as JSON values: numbers and times as strings."""
        return self.model_dump(mode="json")


class Event(Message):
    """Something that happened. Its publisher knows no consumer."""


class Command(Message):
    """Something that one service is asked to do."""


@cache
def routing_key(message: type[Message], owner: str) -> str:
    snake = re.sub(r"(?<!^)(?=[A-Z])", "_", message.__name__).lower()
    return f"{owner}.{snake}.v{message.version}"
