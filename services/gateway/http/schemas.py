"""Base classes and field types that requests and responses of every topic share."""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from shared.contracts.base import Symbol
from shared.contracts.written import Printable

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


#: A time in UTC that PostgreSQL can store.
Moment = Annotated[AwareDatetime, AfterValidator(_between_1970_and_2200)]
Word = Annotated[Printable, Field(min_length=1, max_length=200)]
#: A symbol that a client may spell in lower case.
AnyCaseSymbol = Annotated[Symbol, BeforeValidator(upper)]
