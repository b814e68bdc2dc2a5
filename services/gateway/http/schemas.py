"""Base classes and field types that requests and responses of every topic share."""

from datetime import UTC, datetime
from typing import Annotated

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from shared.contracts.base import Symbol

_EARLIEST, _LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)


class Query(BaseModel):
    """Query parameters or the body of a request. An unknown field is rejected, not ignored."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Answer(BaseModel):
    """The JSON of a response. A row with an unknown column is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def upper(value: object) -> object:
    """Return text in capital letters, and anything else as it is."""
    return value.upper() if isinstance(value, str) else value


def _between_1970_and_2200(moment: datetime) -> datetime:
    if not _EARLIEST <= moment <= _LATEST:
        raise ValueError("must be between 1970 and 2200")
    return moment.astimezone(UTC)


#: A time in UTC that PostgreSQL can store.
Moment = Annotated[AwareDatetime, AfterValidator(_between_1970_and_2200)]
#: Text without control characters. PostgreSQL cannot store a NUL.
Printable = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]*$")]
Word = Annotated[Printable, Field(min_length=1, max_length=200)]
#: The number of a row in its table.
RowNumber = Annotated[int, Field(ge=0, le=2**63 - 1)]
#: A symbol that a client may spell in lower case.
AnyCaseSymbol = Annotated[Symbol, BeforeValidator(upper)]
