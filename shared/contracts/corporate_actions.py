"""Splits and dividends, which an operator enters and each service applies to its own data."""

from enum import StrEnum
from typing import Annotated, ClassVar, Self
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, Field, model_validator

from shared.contracts.base import Command, Event, Number, Symbol


class ActionKind(StrEnum):
    SPLIT = "split"
    DIVIDEND = "dividend"


class CorporateAction(BaseModel):
    """A split by ``ratio`` (new shares for each old one, below 1 to merge shares) or a dividend of ``amount`` a share.

    It takes effect at ``effective_at`` for the shares held just before. Raises ValueError unless it has
    exactly the number of its kind.
    """

    symbol: Symbol
    kind: ActionKind
    ratio: Annotated[Number, Field(gt=0, le=1000, decimal_places=9)] | None = None
    amount: Annotated[Number, Field(gt=0, le=1_000_000, decimal_places=9)] | None = None
    effective_at: AwareDatetime

    @model_validator(mode="after")
    def _fits(self) -> Self:
        for name, kind in (("ratio", ActionKind.SPLIT), ("amount", ActionKind.DIVIDEND)):
            if (getattr(self, name) is not None) != (self.kind is kind):
                raise ValueError(f"{name} is required for a {kind} and cannot be set on any other action")
        return self


class EnterCorporateAction(Command, CorporateAction):
    """Enter a corporate action. The sender chooses ``action_id``, so that entering it twice enters it once."""

    service: ClassVar[str] = "marketdata"

    action_id: UUID


class CorporateActionApplied(Event, CorporateAction):
    """The action took effect. Later prices of the symbol include it. ``split_count`` counts the symbol's splits."""

    service: ClassVar[str] = "marketdata"

    action_id: UUID
    split_count: int = Field(ge=0)
