"""A job's settings: its declaration, the configuration file and operators each give some of them.

The three are layered as JSON objects of this shape. The top layer wins, key by key.
"""

import json
from collections.abc import Mapping
from datetime import timedelta
from functools import cached_property, lru_cache
from itertools import islice
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from shared.contracts.markets import DEFAULT_MARKET, MARKETS
from shared.contracts.priority import Priority
from shared.contracts.written import Printable
from shared.jobs.edges import After, EdgeOutcome
from shared.jobs.schedule.calendar import Phase
from shared.jobs.schedule.example_markets import EXAMPLE_BEGIN, EXAMPLE_END, example_market
from shared.jobs.schedule.interval import format_interval, parse_interval
from shared.jobs.schedule.slots import LOOK_AT, OFF, InvalidSchedule, Timing, parse_schedule

#: Settings that decide when slots come. After one of them has changed, slots before the change are not made up for.
TIMING = frozenset({"enabled", "schedule", "phases", "market", "time_zone", "market_hours_only"})

#: Slots that were missed longer ago are counted, and only the latest of them can run.
LOOKBACK = timedelta(days=7)
#: The limit of one job's unfinished runs.
MAX_WAITING = 1000
#: The characters of a setting, and of a mistake in one.
LONGEST_TEXT = 500


class InvalidSetting(ValueError):
    """A setting that no job can have, which ``field`` names."""

    def __init__(self, field: str, message: str) -> None:
        self.field = field[:LONGEST_TEXT]
        self.message = message[:LONGEST_TEXT]
        super().__init__(f"{self.field}: {self.message}")


def _check_schedule(text: str) -> str:
    if text != OFF:
        parse_schedule(text)
    return text


def _check_interval(text: str) -> str:
    parse_interval(text)
    return text


def _read_phase(name: object) -> Phase:
    """TOML and JSON have no phases, so a strict model would refuse their names."""
    if name not in set(Phase):
        raise ValueError(f"should be {', '.join(repr(phase.value) for phase in Phase)}")
    return Phase(str(name))


_Phase = Annotated[Phase, BeforeValidator(_read_phase)]
_Ascii = Annotated[str, Field(max_length=LONGEST_TEXT, pattern=r"^[ -~]*$")]
Interval = Annotated[_Ascii, AfterValidator(_check_interval)]
ScheduleText = Annotated[_Ascii, AfterValidator(_check_schedule)]
_Name = Annotated[Printable, Field(max_length=LONGEST_TEXT)]


def _ever_comes(timing: Timing, market: str) -> bool:
    return timing.ever_comes(example_market(market), EXAMPLE_BEGIN, EXAMPLE_END)


class JobSettings(BaseModel):
    """All settings of one job, with their defaults."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, ignored_types=(cached_property,))

    enabled: bool = True
    #: ``5s``, ``30 9 * * 1-5``, ``5m after open``, or ``off``: no slots of its own.
    schedule: ScheduleText = OFF
    #: Other schedules in some phases of the market.
    phases: dict[_Phase, ScheduleText] = Field(default_factory=dict)
    #: No slots outside of regular trading, except in phases that have a schedule of their own.
    market_hours_only: bool = False
    market: _Name = DEFAULT_MARKET
    #: The clock by which cron is read; the market's clock if it is None.
    time_zone: _Name | None = None
    priority: Literal["critical", "high", "medium", "low"] = "medium"
    time_limit: Interval = "1m"
    #: Retries after the first try.
    retries: int = Field(default=3, ge=0, le=20)
    #: The delay before the first retry; it doubles with each retry.
    backoff: Interval = "5s"
    #: A slot that comes while the run of an earlier slot is unfinished is skipped, run afterwards, or run instead.
    #: A run that waits for its retry is unfinished: with cancel the new slot replaces it.
    overlap: Literal["skip", "queue", "cancel"] = "skip"
    #: Slots that nobody claimed in time are skipped, run once (the latest, however old it is), or all run.
    misfire: Literal["skip", "run_once", "run_all"] = "run_once"
    #: How far back run_all goes: at most LOOKBACK, and MAX_WAITING slots.
    misfire_window: Interval = "1h"
    #: False if nobody may have it run for slots of the past.
    backfill: bool = True
    #: A run whose worker died is run again at least once, and as often as ``retries`` allow, or is lost at once.
    on_lost: Literal["rerun", "fail"] = "rerun"
    #: The job whose runs this one follows, or the edges of several: shared/jobs/edges.py.
    after: After | None = None
    #: The outcome that a run must have if ``after`` is a name. Finished runs have succeeded, failed or been lost. A
    #: canceled or skipped run starts no follower.
    after_outcome: EdgeOutcome = "succeeded"
    #: Whether all edges of a list or any of them must be satisfied.
    join: Literal["all", "any"] = "all"
    #: How many parts of a run are in progress at a time.
    parallel: int = Field(default=4, ge=1, le=100)
    #: Administrators are alerted of so many failures in a row, so long a run, and so late a slot.
    alert_failures: int = Field(default=3, ge=1, le=1000)
    alert_runtime: Interval = "5m"
    alert_late: Interval = "1m"

    @field_validator("market")
    @classmethod
    def _check_market(cls, code: str) -> str:
        if code not in MARKETS:
            raise ValueError(f"{code!r} is not a market; the known ones are {', '.join(sorted(MARKETS))}")
        return code

    @field_validator("time_zone")
    @classmethod
    def _check_time_zone(cls, name: str | None) -> str | None:
        try:
            return None if name is None else ZoneInfo(name).key
        except (ZoneInfoNotFoundError, ValueError, OSError):
            raise ValueError(f"{name!r} is not a time zone; write one such as America/New_York") from None

    @model_validator(mode="after")
    def _check_timing(self) -> Self:
        try:
            timing = self.timing
        except InvalidSchedule as error:
            raise ValueError(f"phases: {error}") from None
        if timing and timing.phases and not _ever_comes(timing, self.market):
            raise ValueError("schedule: never comes in these phases of this market")
        return self

    @cached_property
    def timing(self) -> Timing | None:
        """When the job's slots come, or None if only people and other jobs start it."""
        phases = dict.fromkeys(set(Phase) - {Phase.REGULAR}, OFF) if self.market_hours_only else {}
        phases |= self.phases
        if self.schedule == OFF and not self.phases:
            return None
        return Timing(self.schedule, phases, ZoneInfo(self.time_zone) if self.time_zone else None)

    @property
    def urgency(self) -> Priority:
        """The priority of the job's messages."""
        return Priority[self.priority.upper()]

    def seconds(self, field: str) -> float:
        """Read a setting that is an interval, in seconds."""
        return parse_interval(getattr(self, field)).total_seconds()


class _StoredSettings(JobSettings):
    """Settings that a newer version may have written: unknown ones are ignored."""

    model_config = ConfigDict(extra="ignore")


@lru_cache(maxsize=4096)
def read_settings(text: str) -> JobSettings:
    """Read settings from the JSON of their row. Raises ValidationError if this version cannot read them."""
    return _StoredSettings.model_validate_json(text)


def stored_settings(settings: Mapping[str, Any]) -> JobSettings:
    """Read the settings of a job's row. Raises InvalidSetting if this version cannot read them."""
    try:
        return read_settings(json.dumps(settings, sort_keys=True))
    except ValidationError as error:
        raise _first_mistake(error) from None


def check_settings(given: Mapping[str, Any], base: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Check the settings that are given over ``base``, and return them as they are stored.

    ``interval`` is the specification's name for a schedule that is an interval. Raises InvalidSetting for the first
    setting that no job can have.
    """
    changes = dict(given)
    if "interval" in changes:
        if "schedule" in changes:
            raise InvalidSetting("interval", "is another name for schedule: give one of the two")
        try:
            changes["schedule"] = _check_interval(str(changes.pop("interval"))[:LONGEST_TEXT])
        except ValueError as error:
            raise InvalidSetting("interval", str(error)) from None
    try:
        settings = JobSettings.model_validate({**(base or {}), **changes})
    except ValidationError as error:
        raise _first_mistake(error) from None
    check_window(settings)
    if isinstance(changes.get("after"), list) and not isinstance(settings.after, str):  # as statements read them
        changes["after"] = [edge.model_dump() for edge in settings.after or ()]
    return changes


def check_window(settings: JobSettings) -> None:
    """Refuse a window for run_all whose slots could not all be kept: raises InvalidSetting.

    Stored settings may have one, because it was set before, or the schedule was changed by a new version. Then the
    latest slots run, and the earlier ones are missed.
    """
    window = parse_interval(settings.misfire_window)
    if window > LOOKBACK:
        raise InvalidSetting("misfire_window", f"must be at most {format_interval(LOOKBACK)}; older slots are not kept")
    if settings.misfire != "run_all" or settings.timing is None:
        return
    market = example_market(settings.market)
    slots = list(islice(settings.timing.slots(market, EXAMPLE_BEGIN, EXAMPLE_BEGIN + 2 * LOOKBACK), LOOK_AT))
    if any(later - earlier < window for earlier, later in zip(slots, slots[MAX_WAITING:], strict=False)):
        raise InvalidSetting(
            "misfire_window", f"{settings.misfire_window} has more than {MAX_WAITING} slots, and no more are kept"
        )


#: The words of pydantic's places that are no names of settings: keys of objects, and the forms of ``after``.
_UNNAMED = {"[key]", "[name]", "[edges]"}
_EDGE = {"after", "job", "when"}


def _first_mistake(error: ValidationError) -> InvalidSetting:
    first = error.errors(include_url=False)[0]
    message = str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == "extra_forbidden" and len(first["loc"]) > 1:
        message = "is not a field of an edge; these are: job, outcome, when"
    elif first["type"] == "string_pattern_mismatch":
        message = "must be text without control characters, and in ASCII if it is an interval or a schedule"
    elif first["type"] in {"string_type", "model_type"} and set(first["loc"]) & _EDGE == {"after"}:
        message = "must be the name of a job, or a list of names and of edges such as {job, outcome, when}"
    elif first["type"] == "extra_forbidden":
        message = f"is not a setting; these are: interval, {', '.join(sorted(JobSettings.model_fields))}"
    field = ".".join(str(part) for part in first["loc"] if str(part) not in _UNNAMED)
    if not field:  # a mistake of the whole model: its message begins with the setting
        field, _, message = message.partition(": ")
    return InvalidSetting(field, message)
