"""What ``/api`` answers about what keeps the jobs running: workers, queues, dependencies, alerts and operators."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from pydantic import ConfigDict, Field

from services.gateway.http.pagination import Page
from services.gateway.operations.schemas import Answer


class Worker(Answer):
    """A process of a service. ``silent``: the seconds since it last said that it lives; null once it has stopped."""

    id: str
    service: str
    host: str
    pid: int
    kind: str
    queues: list[str]
    runs: int
    started_at: datetime
    heartbeat_at: datetime
    stopped_at: datetime | None
    silent: float | None


class Workers(Answer):
    items: list[Worker]


class Breaker(Answer):
    """What guards a dependency; ``failures`` are counted in a row."""

    name: str
    state: str
    failures: int
    since: datetime
    next_attempt_at: datetime | None
    last_error: str | None


class Breakers(Answer):
    items: list[Breaker]


class RateLimit(Answer):
    """``allowed`` calls in each ``period`` of so many seconds; ``available`` of them could be made now."""

    model_config = ConfigDict(ser_json_timedelta="float")

    name: str
    allowed: int
    period: timedelta
    available: int
    next_free_at: datetime
    refused: int


class RateLimits(Answer):
    items: list[RateLimit]


class Alert(Answer):
    """Something that administrators are told of, until it is over."""

    id: int
    kind: str
    subject: str
    severity: str
    message: str
    facts: dict[str, Any]
    open: bool
    opened_at: datetime
    seen_at: datetime
    resolved_at: datetime | None
    sent_at: datetime | None
    recovery_sent_at: datetime | None
    tries: int
    error: str | None = Field(description="Of the last try to send it.")


class AlertPage(Page[Alert]):
    """Alerts, the newest first."""


class Action(Answer):
    """What an operator did: who, what, to which job, run or queue, and how it was before and after."""

    id: int
    at: datetime
    who: str
    what: str
    subject: str
    before: Any
    after: Any


class ActionPage(Page[Action]):
    """What operators did, the newest first."""


class Figures(Answer):
    """Of one queue: rates per second over the last minute at most, the oldest message's age in seconds."""

    ready: int
    unacknowledged: int
    consumers: int
    rate_in: float
    rate_out: float
    oldest_age: float | None


class Queue(Answer):
    """``changed_at`` and ``changed_by``: who paused or resumed it last. Queues of the bus's own cannot be paused."""

    queue: str
    pausable: bool
    paused: bool
    changed_at: datetime | None
    changed_by: str | None
    figures: Figures | None


class Queues(Answer):
    items: list[Queue]
    why: str | None = Field(description="Why there are no figures.")


class QueuePaused(Answer):
    queue: str
    paused: bool


class Letter(Answer):
    """A message that no try could handle. ``complete``: all of it was kept, so it can be sent again."""

    service: str
    id: int
    queue: str
    message_id: UUID
    actor: str
    reason: str
    error: str = Field(description="The last line of its traceback, or all of it where one letter is asked for.")
    died_at: datetime
    size: int
    complete: bool


class LetterPage(Page[Letter]):
    """Dead letters, the newest first."""


class LetterDetail(Letter):
    body: str = Field(description="The message as it came; what is no UTF-8 is replaced.")


class LettersTaken(Answer):
    """The service was asked; it acts within moments."""

    service: str
    letters: list[int]
    command_id: UUID
