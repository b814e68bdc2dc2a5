"""The command that every service with jobs obeys."""

from typing import Any
from uuid import UUID

from pydantic import Field

from shared.contracts.operations import ToService
from shared.contracts.priority import Priority


class RunJob(ToService):
    """Run a job whose run row exists. ``to`` is the service that owns the job. The more urgent run begins first.

    ``attempt`` is how often the run had begun when this was sent: a message of an earlier try starts nothing.
    """

    run_id: UUID
    job: str
    parameters: dict[str, Any] = Field(default_factory=dict)
    priority: Priority = Priority.LOW
    attempt: int | None = Field(default=None, ge=0)

    @property
    def key(self) -> str:
        return self.job

    @property
    def urgency(self) -> Priority:
        return self.priority
