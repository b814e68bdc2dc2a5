"""Responses about workers, queues, dependencies, alerts, dead letters and operators. Times are in UTC."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from pydantic import ConfigDict, Field

from services.gateway.http.pagination import Page
from services.gateway.http.schemas import Answer


class Worker(Answer):
    """A process of a service. ``silent`` is the seconds since its last heartbeat, and null once it has stopped."""

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
    """The circuit breaker of a dependency. ``failures`` counts consecutive failures."""

    name: str
    state: str
    failures: int
    since: datetime
    next_attempt_at: datetime | None
    last_error: str | None


class Breakers(Answer):
    items: list[Breaker]


class RateLimit(Answer):
    """A dependency takes ``allowed`` calls per ``period`` in seconds. ``available`` of them are free now."""

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
    """A problem of which administrators are notified until it is resolved."""

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
    error: str | None = Field(description="The error of the last attempt to send it.")


class AlertPage(Page[Alert]):
    """Alerts, the newest first."""


class Action(Answer):
    """An action of an operator: who did what to which job, run or queue, and its state before and after."""

    id: int
    at: datetime
    who: str
    what: str
    subject: str
    before: Any
    after: Any


class ActionPage(Page[Action]):
    """Actions of operators, the newest first."""


class Figures(Answer):
    """Figures of a queue. Rates are per second over at most the last minute, the oldest message's age is in seconds."""

    ready: int
    unacknowledged: int
    consumers: int
    rate_in: float
    rate_out: float
    oldest_age: float | None


class Queue(Answer):
    """A queue. ``changed_by`` last paused or resumed it, at ``changed_at``. The bus's own queues cannot be paused."""

    queue: str
    pausable: bool
    paused: bool
    changed_at: datetime | None
    changed_by: str | None
    figures: Figures | None


class Queues(Answer):
    items: list[Queue]
    why: str | None = Field(description="The reason why there are no figures, if there are none.")


class QueuePaused(Answer):
    queue: str
    paused: bool


class DeadLetter(Answer):
    """A message that no retry could handle. ``complete`` means that all of it was kept, so it can be requeued."""

    service: str
    id: int
    queue: str
    message_id: UUID
    actor: str
    reason: str
    error: str = Field(description="The last line of its traceback. The detail has all of it.")
    died_at: datetime
    size: int
    complete: bool


class DeadLetterPage(Page[DeadLetter]):
    """Dead letters, the newest first."""


class DeadLetterDetail(DeadLetter):
    """A dead letter with its message and the whole traceback."""

    body: str = Field(description="The message as it came. Bytes that are not UTF-8 are replaced.")


class DeadLettersAsked(Answer):
    """The command that was sent to the service. The service handles it within moments."""

    service: str
    dead_letters: list[int]
    command_id: UUID
