"""The format of a response: the query's ``format``, or the one that the header ``Accept`` prefers (RFC 9110)."""

from collections.abc import Iterator
from typing import Annotated, NamedTuple

from pydantic import Field

from services.gateway.http.errors import NotAcceptable
from services.gateway.http.schemas import Query
from shared.contracts.written import Printable

#: The media type of each format. Without a preference the first one that is offered counts.
MEDIA = {"json": "application/json", "html": "text/html", "csv": "text/csv"}


class AcceptHeaders(Query):
    """The media types that the client takes."""

    accept: Annotated[Printable, Field(max_length=2000)] = Field(default="*/*", alias="Accept")


class _Range(NamedTuple):
    """A range of media types with its weight, and how exactly it names one."""

    name: str
    weight: float
    place: int

    @property
    def exactness(self) -> int:
        return 0 if self.name == "*/*" else 1 if self.name.endswith("/*") else 2

    def covers(self, media: str) -> bool:
        return self.name in {media, f"{media.partition('/')[0]}/*", "*/*"}


def chosen_format(asked: str | None, headers: AcceptHeaders, *offered: str) -> str:
    """Return the format to answer in, one of the offered. Raises NotAcceptable where the client takes none of them."""
    if asked is not None:
        return asked
    ranges = list(_ranges(headers.accept))
    weights = {name: weight for name in offered if (weight := _weight(MEDIA[name], ranges))[0] > 0}
    if not weights:
        named = " and ".join(MEDIA[name] for name in offered)
        raise NotAcceptable(f"Accept: {headers.accept[:200]} names none of {named}", field="Accept")
    return max(weights, key=lambda name: weights[name])


def _weight(media: str, ranges: list[_Range]) -> tuple[float, int]:
    """The weight of the range that names the media type most exactly, and its place: an earlier one is preferred."""
    found = [each for each in ranges if each.covers(media)]
    if not found:
        return 0.0, 0
    best = max(found, key=lambda each: (each.exactness, -each.place))
    return best.weight, -best.place


def _ranges(accept: str) -> Iterator[_Range]:
    for place, each in enumerate(accept.split(",")):
        name, *parameters = (part.strip().lower() for part in each.split(";"))
        named = dict(_parameter(part) for part in parameters)
        yield _Range(name or "*/*", _number(named.get("q", "1")), place)


def _parameter(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name.strip(), value.strip()


def _number(text: str) -> float:
    """The weight, 1 where it is none."""
    try:
        weight = float(text)
    except ValueError:
        return 1.0
    return weight if 0 <= weight <= 1 else 1.0
