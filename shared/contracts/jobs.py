"""The command that every service with jobs obeys."""

from typing import Any, ClassVar
from uuid import UUID

from pydantic import Field

from shared.contracts.base import Command


class RunJob(Command):
    """Run a job whose run row exists. ``to`` is the service that owns the job."""

    service: ClassVar[str] = "*"

    to: str
    run_id: UUID
    job: str
    parameters: dict[str, Any] = Field(default_factory=dict)

    @property
    def owner(self) -> str:
        return self.to

    @property
    def key(self) -> str:
        return self.job
