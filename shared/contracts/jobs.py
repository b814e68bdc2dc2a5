"""The command that every service with jobs obeys."""

from typing import Any
from uuid import UUID

from pydantic import Field

from shared.contracts.operations import ToService


class RunJob(ToService):
    """Run a job whose run row exists. ``to`` is the service that owns the job."""

    run_id: UUID
    job: str
    parameters: dict[str, Any] = Field(default_factory=dict)

    @property
    def key(self) -> str:
        return self.job
