"""Splits and dividends: entered by hand, and applied by whoever keeps what they change."""

from enum import StrEnum
from typing import Annotated, ClassVar, Self
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, Field, model_validator

from shared.contracts.base import Command, Event, Number, Symbol


class ActionKind(StrEnum):
    SPLIT = "split"
    DIVIDEND = "dividend"


class CorporateAction(BaseModel):
    """``ratio``: new shares for each old one of a split, below one where shares are merged. ``amount``: cash per share.

    It takes effect at that time: who holds shares just before it has the right to it.
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
                raise ValueError(f"{name} is required for a {kind}, and goes with nothing else")
        return self


class EnterCorporateAction(Command, CorporateAction):
    """``action_id`` is minted by the sender: entering it twice enters it once."""

    service: ClassVar[str] = "marketdata"

    action_id: UUID


class CorporateActionApplied(Event, CorporateAction):
    """It took effect: prices of the symbol are as after it from now on. ``split_count`` counts the symbol's splits."""

    service: ClassVar[str] = "marketdata"

    action_id: UUID
    split_count: int = Field(ge=0)
