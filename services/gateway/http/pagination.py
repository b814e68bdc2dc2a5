"""Lists in pages, the newest first: the query parameters, the page, and the cursor of the next one."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Generic, Protocol, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, ValidatorFunctionWrapHandler, WithJsonSchema, WrapValidator
from pydantic_core import to_json
from sqlalchemy import Connection

from services.gateway.http.requests import Gateway, read
from services.gateway.http.schemas import DayOrMoment, Moment, Query
from shared.contracts.written import Bounded, read_json
from shared.storage.keyset import Record

Item = TypeVar("Item", bound=BaseModel)
AnyPage = TypeVar("AnyPage", bound="Page[Any]")
#: The characters of a cursor.
MOST_CHARACTERS = 1000


def _key_of(cursor: Any, read_key: ValidatorFunctionWrapHandler) -> Any:
    """Decode a cursor. ``read_key`` validates the key that it holds."""
    try:
        return read_key(read_json(urlsafe_b64decode(str(cursor)[:MOST_CHARACTERS].encode())))
    except ValueError:
        raise ValueError("is not a cursor of this list: send `next` of the previous page unchanged") from None


#: Follows the type of a list's key, i.e. the key columns of the last row of the previous page.
FROM_CURSOR = (
    WrapValidator(_key_of),
    WithJsonSchema({"type": "string", "maxLength": MOST_CHARACTERS, "description": "`next` of the previous page."}),
)
#: The cursor of a list that is sorted by a time, and by an id where times are equal.
TimeCursor = Annotated[tuple[Moment, UUID], *FROM_CURSOR]


class PageQuery(Query):
    """Query parameters of a list. Subclasses add a ``cursor`` and filters."""

    limit: Annotated[int, Bounded(ge=1, le=500)] = 50

    @property
    def after(self) -> Sequence[Any] | None:
        """The key of the last row of the previous page."""
        key: Sequence[Any] | None = getattr(self, "cursor", None)
        return key

    def filters(self) -> dict[str, Any]:
        """Return the filters that the request sets."""
        given = {name: getattr(self, name) for name in sorted(self.model_fields_set - {"limit", "cursor"})}
        return {name: value for name, value in given.items() if value is not None}


class StretchQuery(PageQuery):
    """Query parameters of a list of rows with a time. ``from`` is inclusive, ``to`` is exclusive."""

    begin: DayOrMoment | None = Field(default=None, alias="from")
    end: DayOrMoment | None = Field(default=None, alias="to")


class Page(BaseModel, Generic[Item]):
    """A page of a list. ``next`` is the cursor of the next page, and null on the last one.

    Each list subclasses it, so that its pages have a name in the document.
    """

    model_config = ConfigDict(frozen=True)

    items: list[Item]
    next: str | None


class Listed(Protocol):
    """A query that returns at most ``limit`` rows after the row with the key ``after``."""

    def __call__(
        self, connection: Connection, filters: Mapping[str, Any], /, *, after: Sequence[Any] | None, limit: int
    ) -> list[Record]: ...


async def page_of(
    gateway: Gateway, listed: Listed, query: PageQuery, page: type[AnyPage], key: Sequence[str]
) -> AnyPage:
    """Read the requested page. One more row is read, to learn if another page follows."""
    rows = await read(gateway, listed, query.filters(), after=query.after, limit=query.limit + 1)
    items, following = rows[: query.limit], rows[query.limit :]
    cursor = urlsafe_b64encode(to_json([items[-1][column] for column in key])).decode() if following else None
    return page.model_validate({"items": items, "next": cursor})
