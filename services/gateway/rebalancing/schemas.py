"""The bodies of requests and responses about rebalances."""

from datetime import datetime
from typing import Annotated, Literal, Self
from uuid import UUID

from pydantic import Field, model_validator

from services.gateway.http.pagination import Page, PageQuery, TimeCursor
from services.gateway.http.schemas import Answer, PlainNumber
from shared.contracts.base import Symbol
from shared.contracts.orders import Side
from shared.contracts.rebalancing import MOST_TARGETS, RebalanceState, Targets, Weight


class NewRebalance(Targets):
    """Targets, or the ``preview_id`` of a preview whose orders are sent. With neither, the targets that are kept."""

    weights: Annotated[dict[Symbol, Weight], Field(max_length=MOST_TARGETS)] = Field(default_factory=dict)
    preview_id: UUID | None = None

    @model_validator(mode="after")
    def _is_one_of_both(self) -> Self:
        if self.preview_id is not None and self.model_fields_set != {"preview_id"}:
            raise ValueError("preview_id: the targets are those of the preview: leave all other fields out")
        if self.model_fields_set and self.preview_id is None and not self.weights:
            raise ValueError("weights: name at least one symbol")
        return self

    @property
    def targets(self) -> Targets | None:
        """The targets of the body, None if it names none."""
        given = self.model_dump(exclude={"preview_id"}, exclude_unset=True)
        return Targets.model_validate(given) if given else None


class KeptTargets(Answer):
    """The targets that the account keeps, and the last rebalance that the job started because of them."""

    targets: Targets | None
    changed_at: datetime | None = None
    started_at: datetime | None = None


class RebalanceOrder(Answer):
    """An order. ``filled_value`` is after costs, and ``note`` says what cut or ended it."""

    symbol: str
    side: Side
    qty: PlainNumber
    price: PlainNumber
    value: PlainNumber
    cost: PlainNumber
    order_id: UUID
    client_order_id: str
    status: Literal["planned", "sent", "ended"]
    filled_qty: PlainNumber
    filled_value: PlainNumber
    note: str | None


class LeftOutItem(Answer):
    """A symbol that is not traded, and why."""

    symbol: str
    reason: str
    message: str


class WeightItem(Answer):
    """The weight of a symbol before and after the orders. ``target`` is null for a position without one."""

    symbol: str
    target: PlainNumber | None
    before: PlainNumber
    after: PlainNumber


class CashItem(Answer):
    """The part of the equity that is cash before and after the orders."""

    target: PlainNumber | None
    before: PlainNumber
    after: PlainNumber


class RebalanceProgress(Answer):
    """Orders that have ended, of all, and their filled part."""

    ended: int
    total: int
    filled: int


class RebalanceItem(Answer):
    """A rebalance or its preview. Weights are parts of ``equity``, and ``cost`` is an estimate."""

    id: UUID
    account_id: UUID
    generation: int
    trigger: Literal["request", "schedule"]
    state: RebalanceState
    reason: str | None
    targets: Targets
    equity: PlainNumber
    cost: PlainNumber
    orders: list[RebalanceOrder]
    left_out: list[LeftOutItem]
    weights: list[WeightItem]
    cash: CashItem
    progress: RebalanceProgress
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class RebalancePage(Page[RebalanceItem]):
    """Rebalances of the account and their previews, the newest first."""


class RebalanceQuery(PageQuery):
    cursor: TimeCursor | None = None
    state: RebalanceState | None = None
