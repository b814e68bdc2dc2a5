"""The base of every message.

Events are named in the past tense, commands in the imperative. A message is versioned, keyword-only,
immutable and tolerates unknown fields, so that consumers can be deployed before publishers.
"""

import re
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Annotated, Any, ClassVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ValidationError,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from shared.contracts.priority import Priority


def _no_floats(value: object) -> object:
    """Refuse floats, which have lost digits already. Raises ValueError."""
    if isinstance(value, float):
        raise ValueError("is a float: send decimal numbers as strings")  # noqa: TRY004 - pydantic wants it
    return value


#: A decimal number that never was a float, and a string on the wire. In this order pydantic itself checks for infinity.
Number = Annotated[Decimal, Field(allow_inf_nan=False), BeforeValidator(_no_floats)]


_INTEGER = core_schema.int_schema(strict=True)


@dataclass(frozen=True)
class Bounded:
    """A ``Number`` with bounds whose checks all run in pydantic's compiled core.

    Prices come by the thousand: a Python validator would take most of the time of reading them.
    """

    gt: Decimal | None = None
    ge: Decimal | None = None

    def __get_pydantic_core_schema__(self, _source: Any, _handler: GetCoreSchemaHandler) -> CoreSchema:
        exact = core_schema.union_schema(
            [core_schema.str_schema(strict=True), core_schema.is_instance_schema(Decimal), _INTEGER],
            mode="left_to_right",
            custom_error_type="decimal_number",
            custom_error_message="is not a decimal number, or is a float: send decimal numbers as strings",
        )
        return core_schema.chain_schema([exact, self._decimal()])

    def __get_pydantic_json_schema__(self, _schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return handler(self._decimal())

    def _decimal(self) -> CoreSchema:
        return core_schema.decimal_schema(allow_inf_nan=False, gt=self.gt, ge=self.ge)


Positive = Annotated[Decimal, Bounded(gt=Decimal(0))]
NotNegative = Annotated[Decimal, Bounded(ge=Decimal(0))]
Symbol = Annotated[str, Field(min_length=1, max_length=16, pattern=r"^[A-Z0-9][A-Z0-9./-]*$")]


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


def first_error(error: ValueError) -> str:
    """The error as one sentence that begins with the field: of a model's errors the first."""
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    return f"{field}: {message}" if field else message
