"""Pages of a list, the newest first: what asks for one, what answers, and the cursor that leads to the next."""

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Generic, Protocol, TypeVar

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapValidator,
)
from pydantic_core import to_json
from sqlalchemy import Connection

from services.gateway.http.requests import Gateway, read
from shared.storage.keyset import Record

Item = TypeVar("Item", bound=BaseModel)
Answered = TypeVar("Answered", bound="Page[Any]")

_EARLIEST, _LATEST = datetime(1970, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)


def _in_our_time(moment: datetime) -> datetime:
    if not _EARLIEST <= moment <= _LATEST:
        raise ValueError("is not between 1970 and 2200")
    return moment.astimezone(UTC)


Moment = Annotated[AwareDatetime, AfterValidator(_in_our_time)]


def _key_of(cursor: Any, read_key: ValidatorFunctionWrapHandler) -> Any:
    try:
        return read_key(json.loads(urlsafe_b64decode(str(cursor).encode())))
    except (ValueError, RecursionError):
        raise ValueError("is not a cursor of this list: take it from next, as it is") from None


#: Stands behind the type of a list's key, the columns of its last row that the next page begins after.
FROM_CURSOR = (WrapValidator(_key_of), WithJsonSchema({"type": "string", "description": "next of the page before."}))


class Query(BaseModel):
    """Parameters of a request; one that is not known is refused by name."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PageQuery(Query):
    """Subclasses add a ``cursor`` and filters."""

    limit: int = Field(default=50, ge=1, le=500)

    @property
    def after(self) -> Sequence[Any] | None:
        """The key of the last row of the page before."""
        key: Sequence[Any] | None = getattr(self, "cursor", None)
        return key

    def filters(self) -> dict[str, Any]:
        """What was asked for, besides the page."""
        asked = {name: getattr(self, name) for name in sorted(self.model_fields_set - {"limit", "cursor"})}
        return {name: value for name, value in asked.items() if value is not None}


class StretchQuery(PageQuery):
    """Of what lies from ``from`` to before ``to``."""

    begin: Moment | None = Field(default=None, alias="from")
    end: Moment | None = Field(default=None, alias="to")


class Page(BaseModel, Generic[Item]):
    """A page of a list; ``next`` is the cursor of the page after it, null after the last.

    Each list's own has a name, so that it has one in the document too.
    """

    model_config = ConfigDict(frozen=True)

    items: list[Item]
    next: str | None


class Listed(Protocol):
    def __call__(
        self, connection: Connection, filters: Mapping[str, Any], /, *, after: Sequence[Any] | None, limit: int
    ) -> list[Record]: ...


async def page_of(
    gateway: Gateway, listed: Listed, query: PageQuery, answer: type[Answered], key: Sequence[str]
) -> Answered:
    """The page that was asked for; one row more than it holds tells whether another follows."""
    rows = await read(gateway, listed, query.filters(), after=query.after, limit=query.limit + 1)
    shown = rows[: query.limit]
    following = _cursor([shown[-1][column] for column in key]) if rows[query.limit :] else None
    return answer.model_validate({"items": shown, "next": following})


def _cursor(key: Sequence[Any]) -> str:
    return urlsafe_b64encode(to_json(key)).decode()
