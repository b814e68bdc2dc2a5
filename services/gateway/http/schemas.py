"""Base classes and field types that requests and responses of every topic share."""

import re
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

from shared.contracts.base import Symbol
from shared.contracts.written import Printable
from shared.money import plain

_EARLIEST, _LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)


class Query(BaseModel):
    """Query parameters or the body of a request. An unknown field is rejected, not ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Answer(BaseModel):
    """The JSON of a response. A row with an unknown column is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def upper(value: object) -> object:
    """Return ASCII text in capital letters, and anything else as it is: the capital of ß is SS, another symbol."""
    return value.upper() if isinstance(value, str) and value.isascii() else value


def _between_1970_and_2200(moment: datetime) -> datetime:
    if not _EARLIEST <= moment <= _LATEST:
        raise ValueError("must be between 1970 and 2200")
    return moment.astimezone(UTC)


def written_out(value: object) -> object:
    """Return a date or time, or its text. Raises ValueError for a number, which could be of seconds or milliseconds."""
    if isinstance(value, str) and not re.match(r"[0-9]{4}-[0-9]{2}-[0-9]{2}.{0,30}\Z", value):
        raise ValueError("must be a date or a time, such as 2026-11-23T15:00:00Z")
    if isinstance(value, int | float | Decimal):
        raise ValueError("must be a text such as 2026-11-23T15:00:00Z, not a number")  # noqa: TRY004 - pydantic's
    return value


def _with_zone(value: object) -> object:
    """Return the value. Raises ValueError for the text of a time without a time zone."""
    value = written_out(value)
    if isinstance(value, str):
        try:
            naive = datetime.fromisoformat(value).tzinfo is None
        except ValueError:
            return value
        if naive:
            raise ValueError("must be a time with its time zone, such as 2026-11-23T15:00:00Z")
    return value


def _midnight(value: object) -> object:
    """A date alone is its midnight in UTC."""
    if isinstance(value, str) and len(value) == len("2026-11-23"):
        try:
            return datetime.combine(date.fromisoformat(value), time(), UTC)
        except ValueError:
            return value
    return value


#: A time in UTC that PostgreSQL can store.
Moment = Annotated[AwareDatetime, AfterValidator(_between_1970_and_2200), BeforeValidator(_with_zone)]
#: The time at which a stretch begins or ends. A date alone is its midnight in UTC.
DayOrMoment = Annotated[Moment, BeforeValidator(_midnight)]
Day = Annotated[date, BeforeValidator(written_out)]
Word = Annotated[Printable, Field(min_length=1, max_length=200)]
#: A symbol that a client may spell in lower case.
AnyCaseSymbol = Annotated[Symbol, BeforeValidator(upper)]
#: A number of a response, without exponent and trailing zeros.
PlainNumber = Annotated[Decimal, PlainSerializer(plain, return_type=str)]
