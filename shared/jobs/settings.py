"""A job's settings: what its declaration, the configuration file and an operator may say of it.

The three lie over each other as JSON objects of this shape; what lies on top wins, key by key.
"""

from collections.abc import Mapping
from datetime import UTC, date, datetime, time, timedelta
from functools import cached_property, lru_cache
from typing import Annotated, Any, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from shared.contracts.markets import MARKETS
from shared.contracts.priority import Priority
from shared.jobs.schedule.calendar import Market, Phase, Session
from shared.jobs.schedule.interval import parse_interval
from shared.jobs.schedule.slots import OFF, InvalidSchedule, Timing, parse_schedule

#: How far ahead a slot is looked for, and sessions are known.
HORIZON = timedelta(days=370)
#: Settings that decide when slots come. After one of them has changed, slots before the change are not made up for.
TIMING = frozenset({"enabled", "schedule", "phases", "market", "time_zone", "market_hours_only"})


class InvalidSetting(ValueError):
    """A setting that no job can have; ``field`` names it."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


def _schedule(text: str) -> str:
    if text != OFF:
        parse_schedule(text)
    return text


def _interval(text: str) -> str:
    parse_interval(text)
    return text


def _market(code: str) -> str:
    if code not in MARKETS:
        raise ValueError(f"{code!r} is not a market; the known ones are {', '.join(sorted(MARKETS))}")
    return code


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{name!r} is not a time zone; write one such as America/New_York") from None
    return name


def _phase(name: object) -> Phase:
    """TOML and JSON have no phases, so a strict model would refuse their names."""
    if name not in set(Phase):
        raise ValueError(f"should be {', '.join(repr(phase.value) for phase in Phase)}")
    return Phase(str(name))


_Phase = Annotated[Phase, BeforeValidator(_phase)]
Interval = Annotated[str, AfterValidator(_interval)]
ScheduleText = Annotated[str, AfterValidator(_schedule)]


class JobSettings(BaseModel):
    """All settings of one job, with the defaults of those that nobody gives."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, ignored_types=(cached_property,))

    enabled: bool = True
    #: ``5s``, ``30 9 * * 1-5``, ``5m after open``, or ``off``: no slots of its own.
    schedule: ScheduleText = OFF
    #: Other schedules in some phases of the market.
    phases: dict[_Phase, ScheduleText] = Field(default_factory=dict)
    #: No slots outside of regular trading, but for the phases that have a schedule of their own.
    market_hours_only: bool = False
    market: Annotated[str, AfterValidator(_market)] = "DEMO"
    #: Of the clock by which cron is read; the market's where it is None.
    time_zone: Annotated[str, AfterValidator(_zone)] | None = None
    priority: Literal["critical", "high", "medium", "low"] = "medium"
    time_limit: Interval = "1m"
    #: Tries after the first one.
    retries: int = Field(default=3, ge=0, le=20)
    #: Before the first retry; it doubles with each.
    backoff: Interval = "5s"
    #: What becomes of a slot while a run is under way: left out, run afterwards, or run instead.
    overlap: Literal["skip", "queue", "cancel"] = "skip"
    #: What becomes of slots that nobody claimed in time.
    misfire: Literal["skip", "run_once", "run_all"] = "run_once"
    #: How far back run_all goes.
    misfire_window: Interval = "1h"
    #: What becomes of a run whose worker died.
    on_lost: Literal["rerun", "fail"] = "rerun"
    #: The job whose runs this one follows.
    after: str | None = None
    after_outcome: Literal["succeeded", "finished"] = "succeeded"
    #: Parts of a run that are under way at a time.
    parallel: int = Field(default=4, ge=1, le=100)
    #: Failures in a row, a run's duration, and a slot's lateness that administrators are told of.
    alert_failures: int = Field(default=3, ge=1, le=1000)
    alert_runtime: Interval = "5m"
    alert_late: Interval = "1m"

    @model_validator(mode="after")
    def _fires(self) -> Self:
        try:
            timing = self.timing
        except InvalidSchedule as error:
            raise ValueError(f"phases: {error}") from None
        if timing and timing.phases and timing.next_slot(example_market(self.market), _EXAMPLE_BEGIN, HORIZON) is None:
            raise ValueError("schedule: never comes in these phases of this market")
        return self

    @cached_property
    def timing(self) -> Timing | None:
        """When its slots come; None where only people and other jobs start it."""
        phases = dict.fromkeys(set(Phase) - {Phase.REGULAR}, OFF) if self.market_hours_only else {}
        phases |= self.phases
        if self.schedule == OFF and not self.phases:
            return None
        return Timing(self.schedule, phases, ZoneInfo(self.time_zone) if self.time_zone else None)

    @property
    def urgency(self) -> Priority:
        return Priority[self.priority.upper()]

    def seconds(self, field: str) -> float:
        """A setting that is an interval, in seconds."""
        return parse_interval(getattr(self, field)).total_seconds()


class _StoredSettings(JobSettings):
    """As a newer version may have written them: what this one does not know, it does not miss."""

    model_config = ConfigDict(extra="ignore")


@lru_cache(maxsize=4096)
def read_settings(text: str) -> JobSettings:
    """Settings from the JSON of their row."""
    return _StoredSettings.model_validate_json(text)


def check_settings(given: Mapping[str, Any], base: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What was given, as it is stored; raises InvalidSetting.

    ``interval`` is the specification's name for a schedule that is one. ``base`` are the settings that it lies over.
    """
    changes = dict(given)
    if "interval" in changes:
        if "schedule" in changes:
            raise InvalidSetting("interval", "is another name for schedule: give one of the two")
        changes["schedule"] = _plain_interval(changes.pop("interval"))
    try:
        JobSettings.model_validate({**(base or {}), **changes})
    except ValidationError as error:
        raise _named(error) from None
    return changes


def _plain_interval(value: object) -> str:
    try:
        return _interval(str(value))
    except ValueError as error:
        raise InvalidSetting("interval", str(error)) from None


def _named(error: ValidationError) -> InvalidSetting:
    first = error.errors(include_url=False)[0]
    message = str(first["msg"]).removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        message = f"is not a setting; these are: interval, {', '.join(sorted(JobSettings.model_fields))}"
    field = ".".join(str(part) for part in first["loc"] if part != "[key]")
    if not field:  # of the whole: its message begins with the setting
        field, _, message = message.partition(": ")
    return InvalidSetting(field, message)


_EXAMPLE_BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
_DAY = timedelta(days=1)
_WEDNESDAY, _SATURDAY = 2, 5


@lru_cache
def example_market(code: str) -> Market:
    """The market with sessions of every kind for a year, so that real ones do not decide whether a schedule comes."""
    known = MARKETS[code]
    zone = ZoneInfo(known.timezone)
    days = (date(2026, 1, 1) + number * _DAY for number in range(HORIZON.days))
    sessions = () if known.always_open else tuple(s for day in days for s in _example_sessions(day, zone))
    return Market(code, zone, sessions, always_open=known.always_open)


def _example_sessions(day: date, zone: ZoneInfo) -> list[Session]:
    """Every other Wednesday is a holiday."""
    if day.weekday() >= _SATURDAY or (day.weekday() == _WEDNESDAY and day.toordinal() % 2):
        return []
    edges = [datetime.combine(day, time(hour, minute), zone).astimezone(UTC) for hour, minute in _EDGES]
    phases = (Phase.PRE_MARKET, Phase.REGULAR, Phase.AFTER_HOURS)
    return [Session(day, phase, *edges[number : number + 2]) for number, phase in enumerate(phases)]


_EDGES = ((4, 0), (9, 30), (16, 0), (20, 0))
