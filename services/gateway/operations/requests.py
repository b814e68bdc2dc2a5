"""Query parameters and bodies of the operations API, validated at the edge."""

import json
import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BeforeValidator, Field, GetJsonSchemaHandler, RootModel, ValidationInfo, field_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from services.gateway.http.pagination import FROM_CURSOR, PageQuery, StretchQuery, TimeCursor
from services.gateway.http.schemas import Moment, Query, Word
from shared.contracts.base import RowNumber
from shared.contracts.jobs import check_sendable
from shared.contracts.written import PRINTABLE, Bounded
from shared.jobs.settings import JobSettings


class RunQuery(StretchQuery):
    cursor: TimeCursor | None = None
    job: Word | None = None
    service: Word | None = None
    state: Literal["waiting", "queued", "running", "joining", "finished"] | None = None
    outcome: Literal["succeeded", "failed", "canceled", "skipped", "lost"] | None = None
    trigger: Literal["schedule", "manual", "chain", "part", "retry", "backfill"] | None = None
    parent: UUID | None = Field(default=None, description="Parts of that run, chained runs and retries.")


class LogQuery(StretchQuery):
    cursor: Annotated[tuple[Moment, RowNumber], *FROM_CURSOR] | None = None
    service: Word | None = None
    level: Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"] | None = Field(
        default=None, description="This level and above."
    )
    job: Word | None = None
    run_id: UUID | None = None
    q: Word | None = Field(default=None, description="Text in the message, case-insensitive.")


class AlertQuery(PageQuery):
    cursor: Annotated[tuple[Moment, RowNumber], *FROM_CURSOR] | None = None
    open: bool | None = None
    kind: Word | None = None


class ActionQuery(PageQuery):
    cursor: Annotated[tuple[RowNumber], *FROM_CURSOR] | None = None
    who: Word | None = None
    what: Word | None = None
    subject: Word | None = None


class DeadLetterQuery(PageQuery):
    cursor: Annotated[tuple[Moment, Word, RowNumber], *FROM_CURSOR] | None = None
    service: Word | None = None
    queue: Word | None = None
    reason: Word | None = None


class FiguresQuery(Query):
    hours: Annotated[int, Bounded(ge=1, le=31 * 24)] = 24


class Toggle(Query):
    enabled: bool


class DeadLetterIds(Query):
    """Ids of dead letters of one service."""

    dead_letters: tuple[RowNumber, ...] = Field(min_length=1, max_length=10_000)


def storable(parameters: Any) -> Any:
    """Return JSON that PostgreSQL can store. Raises ValueError for infinite numbers, lone surrogates and controls."""
    try:
        written = json.dumps(parameters, default=float, allow_nan=False, ensure_ascii=False)
        written.encode()
    except (ValueError, OverflowError, RecursionError):
        raise ValueError("must be JSON with finite numbers and valid Unicode") from None
    if not re.match(PRINTABLE, written) or re.search(r"(?<!\\)(\\\\)*\\u00[01]", written):
        raise ValueError("must not contain control or direction characters")
    check_sendable(written)
    return json.loads(written)


Parameters = Annotated[dict[str, Any], BeforeValidator(storable)]


class Trigger(Query):
    """Parameters of a run that an operator triggers."""

    parameters: Parameters = Field(default_factory=dict)


class Backfill(Query):
    """A period whose slots are run, and the parameters of each run. ``from`` is inclusive, ``to`` is exclusive."""

    begin: Moment = Field(alias="from")
    end: Moment = Field(alias="to")
    parameters: Parameters = Field(default_factory=dict)

    @field_validator("end")
    @classmethod
    def _is_later(cls, end: datetime, given: ValidationInfo) -> datetime:
        if "begin" in given.data and end <= given.data["begin"]:
            raise ValueError("must be after from")
        return end


class SettingChanges(RootModel[Mapping[str, Any]]):
    """Settings to override, by name. Null removes an override."""

    root: Mapping[str, Any] = Field(min_length=1)

    @classmethod
    def __get_pydantic_json_schema__(cls, _schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The settings of a job, each of them optional and nullable."""
        settings = handler.resolve_ref_schema(handler(JobSettings.__pydantic_core_schema__))
        changes = {}
        for name, setting in settings["properties"].items():
            kind = {key: value for key, value in setting.items() if key not in {"default", "title"}}
            changes[name] = {"anyOf": [kind, {"type": "null"}]}
        changes["interval"] = changes["schedule"]
        return {"type": "object", "properties": changes, "additionalProperties": False, "minProperties": 1}
