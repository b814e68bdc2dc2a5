"""The base of every message.

Events are named in the past tense, commands in the imperative. A message is versioned, keyword-only,
immutable and tolerates unknown fields, so that consumers can be deployed before publishers.
"""

import re
from collections.abc import Callable, Iterable
from decimal import Decimal
from functools import cache
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from shared.contracts.priority import Priority
from shared.contracts.written import Bounded

#: A decimal number that never was a float, and a string on the wire.
Number = Annotated[Decimal, Bounded()]
#: Prices and sizes, which marketdata computes by the thousand.
Positive = Annotated[Decimal, Bounded(gt=0, computed=True)]
NotNegative = Annotated[Decimal, Bounded(ge=0, computed=True)]
#: The number of a row, or of an event of one subject, as PostgreSQL's bigint can hold it.
RowNumber = Annotated[int, Bounded(ge=0, le=2**63 - 1)]
Sequence = Annotated[int, Bounded(ge=1, le=2**63 - 1)]
#: A count in a column of PostgreSQL's type integer.
Count = Annotated[int, Bounded(ge=0, le=2**31 - 1)]
_SYMBOL = r"^[A-Z0-9][A-Z0-9./-]*$"
Symbol = Annotated[str, Field(min_length=1, max_length=16, pattern=_SYMBOL)]


class Message(BaseModel):
    """A message on the bus. ``service`` is its owner: the publisher of an event, or the receiver of a command."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    service: ClassVar[str]
    version: ClassVar[int] = 1
    #: True if messages of one key are also handled in the order in which one sender committed them.
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
        """The key of ordering: messages of one key are published in the order of their commits."""
        return self.owner

    @property
    def urgency(self) -> Priority:
        """The priority among the messages of one queue, where the queue supports priorities."""
        return Priority.LOW

    def payload(self) -> dict[str, Any]:
        """The body as JSON values. Decimal numbers and times are strings."""
        return self.model_dump(mode="json")

    def encoded(self) -> bytes:
        """The payload as JSON."""
        return self.__pydantic_serializer__.to_json(self)


class Event(Message):
    """A fact that its publisher announces without knowing its consumers."""


class Command(Message):
    """A request to one service to do something."""


@cache
def routing_key(message: type[Message], owner: str) -> str:
    """``<owner>.<message>.v<N>``, with the message's name in snake case."""
    snake = re.sub(r"(?<!^)(?=[A-Z])", "_", message.__name__).lower()
    return f"{owner}.{snake}.v{message.version}"


def plain_message(message: str) -> str:
    """A message of pydantic as a sentence for people."""
    if message == f"String should match pattern '{_SYMBOL}'":
        return "is not a symbol: write letters, digits, dots, dashes and slashes, such as AAPL, BRK.B or BTC/USD"
    return message.removeprefix("Value error, ")


def first_error(error: ValueError, path_of: Callable[[Iterable[int | str]], Iterable[object]] = iter) -> str:
    """The error as one sentence that begins with the field: of a model's errors the first.

    ``path_of`` makes the path that people know of pydantic's.
    """
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in path_of(first["loc"]))
    message = plain_message(first["msg"])
    return f"{field}: {message}" if field else message
