"""What every message has in common.

Events are named in the past tense, commands in the imperative. A message is versioned, keyword-only,
immutable and tolerates unknown fields, so that consumers can be deployed before publishers.
"""

import re
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from shared.contracts.priority import Priority


def _no_floats(value: object) -> object:
    """Refuse floats: they have lost digits before we see them."""
    if isinstance(value, float):
        raise ValueError("is a float: send decimal numbers as strings")  # noqa: TRY004 - pydantic wants it
    return value


#: A decimal number that never was a float; a string on the wire. In this order pydantic checks for infinity by itself.
Number = Annotated[Decimal, Field(allow_inf_nan=False), BeforeValidator(_no_floats)]


_INTEGER = core_schema.int_schema(strict=True)


@dataclass(frozen=True)
class Bounded:
    """As ``Number``, but all in pydantic's compiled part, bounds included.

    For what comes by the thousand, such as prices: a call of Python for each would be most of the time they take.
    """

    gt: Decimal | None = None
    ge: Decimal | None = None

    def __get_pydantic_core_schema__(self, _source: Any, _handler: GetCoreSchemaHandler) -> CoreSchema:
        exact = core_schema.union_schema(
            [core_schema.str_schema(strict=True), core_schema.is_instance_schema(Decimal), _INTEGER],
            mode="left_to_right",
            custom_error_type="decimal_number",
            custom_error_message="is no decimal number, or is a float: send decimal numbers as strings",
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

    def encoded(self) -> bytes:
        """The payload as JSON."""
        return self.__pydantic_serializer__.to_json(self)


class Event(Message):
    """Something that happened. Its publisher knows no consumer."""


class Command(Message):
    """Something that one service is asked to do."""


@cache
def routing_key(message: type[Message], owner: str) -> str:
    snake = re.sub(r"(?<!^)(?=[A-Z])", "_", message.__name__).lower()
    return f"{owner}.{snake}.v{message.version}"
