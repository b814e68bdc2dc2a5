"""The limits of an account that halt it, and the commands and events about its halts."""

from decimal import Decimal
from enum import StrEnum
from typing import Annotated, ClassVar
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from shared.contracts.accounts import OfAccount, ToAccount
from shared.contracts.base import Command, Count, Event, Number
from shared.contracts.written import Bounded, Printable

Loss = Annotated[Decimal, Bounded(gt=0, le=1, decimal_places=6)]
#: A margin account may hold a multiple of its equity.
Multiple = Annotated[Decimal, Bounded(gt=0, le=10, decimal_places=6)]
Sentence = Annotated[str, Field(max_length=500)]


class RiskKind(StrEnum):
    """A figure of an account that has a limit. The first one that is reached halts the account."""

    DRAWDOWN = "drawdown"
    DAILY_LOSS = "daily_loss"
    CONCENTRATION = "concentration"
    GROSS_EXPOSURE = "gross_exposure"


class AccountRiskLimits(BaseModel):
    """The limits at which an account is halted. None means no limit.

    ``max_drawdown`` is a fraction of the highest value and ``max_daily_loss`` one of the equity as the day began, both
    without deposits. ``max_concentration`` is the largest position as a fraction of the equity, and
    ``max_gross_exposure`` all positions, long and short.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_drawdown: Loss | None = None
    max_daily_loss: Loss | None = None
    max_concentration: Multiple | None = None
    max_gross_exposure: Multiple | None = None

    def limit_of(self, kind: RiskKind) -> Decimal | None:
        """The limit of that figure."""
        limit: Decimal | None = getattr(self, f"max_{kind}")
        return limit


class SetRiskLimits(Command):
    """Halt the account by these limits from now on. A halt that stands is not ended by them."""

    service: ClassVar[str] = "valuation"
    in_order: ClassVar[bool] = True

    account_id: UUID
    limits: AccountRiskLimits

    @property
    def key(self) -> str:
        """Apart from the commands to orders: a message in turn follows one that the same service receives."""
        return f"{self.account_id}/risk-limits"


class RiskLimitReached(Event):
    """A figure of an account reached its limit. ``halt_id`` is the id of the halt that it asks for.

    ``after`` is the account's last halt that valuation knew, so that a figure from before a resume halts nothing.
    """

    service: ClassVar[str] = "valuation"

    halt_id: UUID
    account_id: UUID
    generation: Count
    after: UUID | None = None
    kind: RiskKind
    value: Number
    limit: Number
    message: Sentence
    at: AwareDatetime

    @property
    def key(self) -> str:
        return str(self.account_id)


class ResumeAccount(ToAccount):
    """End this halt of the account. Another halt, or none, is left as it is."""

    halt_id: UUID
    resumed_by: Annotated[Printable, Field(max_length=100)]


class AccountHalted(OfAccount):
    """Orders that open or enlarge a position of the account are rejected until somebody resumes it."""

    halt_id: UUID
    generation: Count
    kind: RiskKind
    value: Number
    limit: Number
    reason: Sentence


class AccountResumed(OfAccount):
    """The halt of the account is over."""

    halt_id: UUID
