"""Responses about jobs, their runs and the log. Times are in UTC, durations in seconds."""

from dataclasses import asdict
from datetime import datetime
from typing import Any, Self
from uuid import UUID

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

from services.gateway.http.pagination import Page
from services.gateway.http.schemas import Answer
from shared.jobs.admin.waiting import Code, Waiting
from shared.jobs.settings import JobSettings


class Settings(dict[str, Any]):
    """Stored settings. They were validated when they were set, and are not validated again for each response."""

    @classmethod
    def __get_pydantic_core_schema__(cls, _source: Any, _handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.dict_schema(core_schema.str_schema(), core_schema.any_schema())

    @classmethod
    def __get_pydantic_json_schema__(cls, _schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return handler(JobSettings.__pydantic_core_schema__)


class WaitedRun(Answer):
    """A run that is waited for. Its ``state`` is ``none``, and its id null, if it has not been made yet."""

    job: str
    state: str
    run_id: UUID | None


class WaitingFor(Answer):
    """For what a run or a job waits, as a code and in a sentence, and until when if that is known."""

    code: Code
    message: str
    until: datetime | None
    runs: list[WaitedRun]

    @classmethod
    def of(cls, waiting: Waiting | None) -> Self | None:
        """Return what the engine says as a response."""
        return None if waiting is None else cls.model_validate(asdict(waiting))


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
    """A job's active run. It has done ``done`` of ``total`` units of work."""

    id: UUID
    state: str
    started_at: datetime | None
    done: int | None
    total: int | None


class JobStatus(Answer):
    """A job. ``settings`` are those in effect. It has been retired since ``retired_at`` if no replica declares it."""

    name: str
    service: str
    description: str
    enabled: bool
    schedule: str
    market_open: bool
    settings: Settings
    retired_at: datetime | None
    next_slot: datetime | None
    active_run: ActiveRun | None
    last_run: LastRun | None


class JobDetail(JobStatus):
    """A job with all its settings. ``overrides`` of operators take precedence over ``declared`` ones.

    The code and the configuration file declare settings. ``parameters`` is the JSON Schema of a run's parameters, and
    null if the job takes none. ``waiting`` says why no run is in progress.
    """

    waiting: WaitingFor | None
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
    """The id of the queued run. ``GET /api/runs/{run_id}`` shows its outcome."""

    run_id: UUID


class RunsQueued(Answer):
    runs: int
    run_ids: list[UUID]


class RunState(Answer):
    """The state of the run now. A queued run is finished at once, a running one ends at its next check."""

    run_id: UUID
    state: str


class Run(Answer):
    """A run. ``percent`` is ``done`` of ``total``. A skipped run covers ``slots`` slots, up to ``last_slot``.

    ``attempt`` counts its starts, ``failures`` its failures. ``error`` is the last line of the traceback in a list, and
    the whole traceback in the detail.
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
    """A line of a service's log. ``error`` is a traceback."""

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
    """A run with its parts, chained runs, retries and log, at most 500 of each.

    ``part_states`` counts its parts by outcome, and those without an outcome by state. ``round`` names the slot or the
    run that began its chain. ``waiting`` says why it has not begun or not ended.
    """

    round: str
    waiting: WaitingFor | None
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
    """A job's runs in the last hours. Lateness is the time from the slot to the start of a scheduled run."""

    job: str
    hours: int
    runs: int
    succeeded: int
    failed: int
    lost: int
    canceled: int
    skipped_slots: int
    success_rate: float | None = Field(description="From 0 to 1. Canceled runs are not counted.")
    duration_p50: float | None
    duration_p95: float | None
    duration_max: float | None
    lateness_p50: float | None
    lateness_p99: float | None
    by_hour: list[HourFigures] = Field(description="Runs that finished in each hour.")
    counts: dict[str, int] = Field(description="The sums of the runs' own counts.")
