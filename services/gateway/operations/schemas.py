"""What ``/api`` answers about jobs and their runs. Times are in UTC, durations in seconds."""

from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from services.gateway.http.pagination import Page
from shared.jobs.settings import JobSettings


class Answer(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Settings(dict[str, Any]):
    """Settings as they are stored: they were checked when they came, and are not checked again for each answer."""

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.dict_schema(core_schema.str_schema(), core_schema.any_schema())

    @classmethod
    def __get_pydantic_json_schema__(cls, _schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return handler(JobSettings.__pydantic_core_schema__)


class LastRun(Answer):
    """A job's latest run. ``error`` is the last line of its traceback."""

    id: UUID
    trigger: str
    state: str
    outcome: str | None
    reason: str | None
    scheduled_for: datetime | None
    queued_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    attempt: int
    worker: str | None
    counts: dict[str, int]
    error: str | None


class ActiveRun(Answer):
    """A job's run that is under way, and how far it has come."""

    id: UUID
    state: str
    started_at: datetime | None
    done: int | None
    total: int | None


class JobStatus(Answer):
    """A job as it stands; ``settings`` are those in effect."""

    name: str
    service: str
    description: str
    enabled: bool
    schedule: str
    market_open: bool
    settings: Settings
    next_slot: datetime | None
    active_run: ActiveRun | None
    last_run: LastRun | None


class JobDetail(JobStatus):
    """``declared`` is what code and configuration file say, ``overrides`` what operators set over it.

    ``parameters`` is the JSON Schema of what a run may be given, null where it takes nothing.
    """

    declared: Settings
    overrides: dict[str, Any]
    parameters: dict[str, Any] | None
    next_slots: list[datetime]


class JobStatuses(Answer):
    jobs: list[JobStatus]


class JobToggled(Answer):
    name: str
    enabled: bool


class EffectiveSettings(Answer):
    """The settings in effect from now on."""

    name: str
    settings: Settings


class RunQueued(Answer):
    """The run that was asked for, under whose id its outcome can be seen."""

    run_id: UUID


class RunsQueued(Answer):
    runs: int
    run_ids: list[UUID]


class RunState(Answer):
    """``canceled`` at once where it had not begun; a running one ends at its next look."""

    run_id: UUID
    state: str


class Run(Answer):
    """A run. ``percent`` is ``done`` of ``total``; ``slots`` is how many slots a skip stands for, up to ``last_slot``.

    ``attempt`` counts how often it began, ``failures`` how often it failed. ``error`` is the traceback's last line, or
    all of it where one run is asked for.
    """

    id: UUID
    job: str
    service: str
    trigger: str
    state: str
    outcome: str | None
    reason: str | None
    scheduled_for: datetime | None
    last_slot: datetime | None
    slots: int
    queued_at: datetime
    not_before: datetime | None
    started_at: datetime | None
    finished_at: datetime | None
    duration: float | None
    attempt: int
    failures: int
    worker: str | None
    heartbeat_at: datetime | None
    priority: int
    done: int | None
    total: int | None
    percent: float | None
    error: str | None
    error_kind: str | None
    counts: dict[str, int]
    parent_run_id: UUID | None
    part: int | None
    parts: int | None
    requested_by: str | None
    cancel_requested_at: datetime | None


class RunPage(Page[Run]):
    """Runs, the newest first."""


class LogLine(Answer):
    """A line of a service's log; ``error`` is a traceback."""

    id: int
    at: datetime
    service: str
    level: str
    logger: str
    message: str
    fields: dict[str, Any]
    error: str | None
    worker: str
    job: str | None
    run_id: UUID | None
    trace_id: str | None


class LogPage(Page[LogLine]):
    """Log lines, the newest first."""


class RunDetail(Run):
    """All of one run. Of ``part_runs``, ``chained``, ``retries`` and ``log`` the first 500 each.

    ``part_states`` counts its parts by outcome, or by state while they have none.
    """

    parameters: dict[str, Any]
    traceparent: str | None
    part_states: dict[str, int]
    part_runs: list[Run]
    chained: list[Run]
    retries: list[Run]
    log: list[LogLine]


class HourFigures(Answer):
    hour: datetime
    runs: int
    failed: int


class JobFigures(Answer):
    """What became of a job's runs in the last hours. Lateness is from the slot to the start, of scheduled runs."""

    job: str
    hours: int
    runs: int
    succeeded: int
    failed: int
    lost: int
    canceled: int
    skipped_slots: int
    success_rate: float | None = Field(description="From 0 to 1; canceled runs count neither way.")
    duration_p50: float | None
    duration_p95: float | None
    duration_max: float | None
    lateness_p50: float | None
    lateness_p99: float | None
    by_hour: list[HourFigures] = Field(description="Runs that ended in each hour.")
    counts: dict[str, int] = Field(description="What the runs counted, in sum.")
