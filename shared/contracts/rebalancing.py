"""Target weights of an account, and the commands and events that preview, submit and cancel a rebalance."""

from decimal import Decimal
from enum import StrEnum
from typing import Annotated, ClassVar, Literal, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, model_validator

from shared.contracts.base import Command, Event, Symbol
from shared.contracts.written import Bounded
from shared.money import ZERO

MOST_TARGETS = 100
#: A negative weight is that of a short position.
Weight = Annotated[Decimal, Bounded(ge=-1, le=1, decimal_places=6)]
Part = Annotated[Decimal, Bounded(ge=0, le=1, decimal_places=6)]


class Band(BaseModel):
    """The distance from its target at which a weight is traded.

    An ``absolute`` one is a part of the equity: 0.05 lets 20 % move from 15 to 25 %. A ``relative`` one is a part of
    the target: 0.05 lets 20 % move from 19 to 21 %.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["absolute", "relative"] = "absolute"
    value: Part = ZERO


class Targets(BaseModel):
    """The parts of the equity that the symbols are to have, and of the ``cash`` that is left at least.

    A symbol within its ``band`` is not traded, nor one whose order would come to less than ``min_order`` in the
    account's currency. Positions in other symbols stay, unless ``close_others``. ``fractional`` trades fractions of
    shares where the instrument allows it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    weights: Annotated[dict[Symbol, Weight], Field(min_length=1, max_length=MOST_TARGETS)]
    cash: Part | None = None
    band: Band = Band()
    min_order: Annotated[Decimal, Bounded(ge=0, le=1_000_000_000)] = Decimal(1)
    fractional: bool = False
    close_others: bool = False

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        held = sum((weight for weight in self.weights.values() if weight > ZERO), self.cash or ZERO)
        short = -sum((weight for weight in self.weights.values() if weight < ZERO), ZERO)
        if held > 1:
            with_cash = " and cash" if self.cash else ""
            raise ValueError(f"weights: they{with_cash} add up to {held}, which is more than 1")
        if short > 1:
            raise ValueError(f"weights: the short ones add up to {short}, which is more than 1")
        return self


class RebalanceState(StrEnum):
    """A preview is ``planned``. One whose orders were not all filled is ``incomplete``."""

    PLANNED = "planned"
    SELLING = "selling"
    BUYING = "buying"
    DONE = "done"
    INCOMPLETE = "incomplete"
    CANCELED = "canceled"


class OfRebalance(Command):
    """A command about the targets of one account. Those of one sender are handled in their order."""

    service: ClassVar[str] = "strategy"
    in_order: ClassVar[bool] = True

    request_id: UUID
    account_id: UUID

    @property
    def key(self) -> str:
        """Apart from the commands to orders: a message in turn follows one that the same service receives."""
        return f"{self.account_id}/rebalance"


class PlanRebalance(OfRebalance):
    """Plan a rebalance and send no order. ``request_id`` becomes its id."""

    targets: Targets


class StartRebalance(OfRebalance):
    """Send the orders of a rebalance that was planned, or plan one by these targets and send its orders.

    ``request_id`` becomes the id of one that was not planned before.
    """

    targets: Targets | None = None
    preview_id: UUID | None = None


class CancelRebalance(OfRebalance):
    """Cancel the open orders of a rebalance and send no more of them."""

    rebalance_id: UUID


class KeepTargets(OfRebalance):
    """Rebalance the account by these targets on the schedule of the job, or by none."""

    targets: Targets | None = None


class RebalanceAnswered(Event):
    """The request was carried out. ``rebalance_id`` is None where it was about the targets that the account keeps."""

    service: ClassVar[str] = "strategy"

    request_id: UUID
    rebalance_id: UUID | None = None


class RebalanceRefused(Event):
    """Nothing was changed. ``reason`` is ``invalid``, ``unknown`` or ``conflict``."""

    service: ClassVar[str] = "strategy"

    request_id: UUID
    field: str | None
    reason: str
    message: str
