"""Control of the replay: an operator pauses it, moves it to another time, or changes its speed."""

from decimal import Decimal
from enum import StrEnum
from typing import Annotated, ClassVar, Self

from pydantic import AwareDatetime, BaseModel, model_validator

from shared.contracts.base import Command
from shared.contracts.written import Bounded


class ReplayAction(StrEnum):
    PAUSE = "pause"
    RESUME = "resume"
    SEEK = "seek"
    SPEED = "speed"


class ReplayControl(BaseModel):
    """A change of the replay. ``seek`` has the recorded time ``at``, ``speed`` the bars a second."""

    action: ReplayAction
    at: AwareDatetime | None = None
    speed: Annotated[Decimal, Bounded(gt=0, le=1000, decimal_places=6)] | None = None

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for name, action in (("at", ReplayAction.SEEK), ("speed", ReplayAction.SPEED)):
            if (getattr(self, name) is not None) != (self.action is action):
                raise ValueError(f"{name}: is required for the action {action} and cannot be set on another one")
        return self


class ControlReplay(Command, ReplayControl):
    """Change the replay. Those of one sender are handled in their order, so the last one counts."""

    service: ClassVar[str] = "marketdata"
    in_order: ClassVar[bool] = True

    @property
    def key(self) -> str:
        return "replay"
