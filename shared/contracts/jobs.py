"""The command that starts a job's run in its service."""

from typing import Any
from uuid import UUID

from pydantic import Field

from shared.contracts.base import Count
from shared.contracts.operations import ToService
from shared.contracts.priority import Priority
from shared.contracts.written import read_json


def check_sendable(parameters: str) -> None:
    """Raise ValueError if a worker could not read parameters, which are written as JSON, in the message of a run."""
    read_json(f'{{"kwargs":{{"parameters":{parameters}}}}}'.encode(), real=float)


class RunJob(ToService):
    """Start a run of a job. Its row exists already. ``to`` is the service that owns the job. Urgent runs start first.

    ``attempt`` is the number of earlier starts of this run. A message of an older attempt starts nothing.
    """

    run_id: UUID
    job: str
    parameters: dict[str, Any] = Field(default_factory=dict)
    priority: Priority = Priority.LOW
    attempt: Count | None = None

    @property
    def key(self) -> str:
        return self.job

    @property
    def urgency(self) -> Priority:
        return self.priority
