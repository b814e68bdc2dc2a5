"""The bodies of ``/api/backtests``."""

from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from services.gateway.http.pagination import Page, PageQuery, TimeCursor
from services.gateway.http.schemas import AnyCaseSymbol, DayOrMoment, Query
from services.gateway.operations.requests import storable
from shared.contracts.backtests import MOST_SYMBOLS, BacktestRequest, OptimisationRequest, StrategyChoice
from shared.contracts.base import Number
from shared.contracts.written import Printable

#: Backtests that are compared at a time.
MOST_COMPARED = 20


def _checked(value: Any) -> Any:
    """The value, with its numbers as they were written. Raises ValueError for text that cannot be stored."""
    storable(value)
    return value


Parameters = Annotated[dict[str, Any], Field(max_length=100), BeforeValidator(_checked)]


class Choice(StrategyChoice):
    """A strategy of the library by its ``kind``, with its ``parameters``, or ``rules``."""

    parameters: Parameters = Field(default_factory=dict)
    rules: Parameters | None = None


class NewBacktest(BacktestRequest):
    """A strategy of the library or of rules, and the bars to run it over: from ``from`` to before ``to``."""

    strategy: Choice
    symbols: Annotated[tuple[AnyCaseSymbol, ...], Field(min_length=1, max_length=MOST_SYMBOLS)]
    begin: DayOrMoment = Field(alias="from")
    end: DayOrMoment = Field(alias="to")


class NewOptimisation(OptimisationRequest):
    """A backtest with each of several sets of parameters, and how the best of them is found and judged."""

    strategy: Choice
    symbols: Annotated[tuple[AnyCaseSymbol, ...], Field(min_length=1, max_length=MOST_SYMBOLS)]
    begin: DayOrMoment = Field(alias="from")
    end: DayOrMoment = Field(alias="to")


class BacktestQueued(BaseModel):
    """The run, which ``GET /api/backtests/{id}`` shows."""

    id: UUID
    run_id: UUID


class BacktestQuery(PageQuery):
    cursor: TimeCursor | None = None


class Progress(BaseModel):
    """The bars done, and all of them. Both are null before the run has begun."""

    done: int | None = None
    total: int | None = None
    percent: float | None = None


class BacktestItem(BaseModel):
    """A backtest. ``state`` is that of its run, and ``outcome`` how it ended. Figures are null until then."""

    model_config = ConfigDict(frozen=True)

    id: UUID
    queued_at: AwareDatetime
    finished_at: AwareDatetime | None
    state: str
    outcome: str | None
    error: str | None
    progress: Progress
    request: dict[str, Any]
    figures: dict[str, Any] | None


class BacktestPage(Page[BacktestItem]):
    """Backtests, the newest first."""


class BacktestFill(BaseModel):
    """A fill. ``at`` is the end of the bar that starts at ``bar``."""

    at: AwareDatetime
    bar: AwareDatetime | None
    symbol: str
    side: str
    qty: Number
    price: Number
    amount: Number
    fee: Number
    slippage: Number
    position_qty: Number
    cash: Number


class BacktestRoundTrip(BaseModel):
    symbol: str
    side: str
    qty: Number
    opened_at: AwareDatetime
    closed_at: AwareDatetime
    entry_bar: AwareDatetime | None
    exit_bar: AwareDatetime | None
    entry_price: Number | None
    exit_price: Number
    cost: Number
    proceeds: Number
    profit: Number
    fees: Number = Decimal(0)
    return_: float | None = Field(alias="return")


class EquityPoint(BaseModel):
    at: AwareDatetime
    equity: Number


class BacktestRefusal(BaseModel):
    at: AwareDatetime
    symbol: str
    message: str


class FailedDecision(BaseModel):
    """A decision that failed, because the strategy raised an error or took too long."""

    at: AwareDatetime
    message: str


class Halted(BaseModel):
    """The time and the reason for which a protection paused the strategy."""

    at: AwareDatetime
    reason: str


class MarginCallStep(BaseModel):
    """A step of a margin call: ``called``, ``met`` or ``liquidated``."""

    at: AwareDatetime
    what: str


class BacktestDetail(BacktestItem):
    """A backtest with its result, whose lists are empty until it has one.

    Lists have at most 10,000 rows, ``fills_total`` and ``round_trips_total`` count all. The equity is thinned to 2,000
    points, the lowest and the highest of each stretch. ``look_ahead`` is the report of the check, if it was asked for.
    """

    fills: list[BacktestFill] = []
    fills_total: int = 0
    round_trips: list[BacktestRoundTrip] = []
    round_trips_total: int = 0
    equity: list[EquityPoint] = []
    refusals: list[BacktestRefusal] = []
    halted: Halted | None = None
    failures: list[FailedDecision] = []
    failed: int | None = None
    margin_calls: list[MarginCallStep] = []
    bars: int | None = None
    decisions: int | None = None
    orders: int | None = None
    refused: int | None = None
    look_ahead: dict[str, Any] | None = None


class CompareQuery(Query):
    """``ids`` are the ids of backtests, repeated or with commas between them."""

    ids: Annotated[
        tuple[Annotated[Printable, Field(max_length=1000)], ...], Field(min_length=1, max_length=MOST_COMPARED)
    ]


class Compared(BaseModel):
    """A backtest beside others."""

    id: UUID
    request: dict[str, Any]
    figures: dict[str, Any]
    equity: list[EquityPoint]


class Comparison(BaseModel):
    """Backtests in the order of their ids, and each figure of all of them in the same order."""

    items: list[Compared]
    figures: dict[str, list[Any]]


class OptimisationPage(Page[BacktestItem]):
    """Optimisations, the newest first. The figures are those of the best set in the sample."""


class OptimisationDetail(BacktestItem):
    """An optimisation with its result, which is empty until it has one.

    ``trials`` are the sets of parameters, the best in the sample first, with figures ``in_sample``, ``out_of_sample``
    and of the ``whole`` time. ``overfitting`` has the probability that the best is not luck (``deflated_sharpe``, by
    Bailey and López de Prado) and its rank out of the sample. ``walk_forward`` has what each step chose and earned.
    """

    objective: str | None = None
    trials: list[dict[str, Any]] = []
    best: dict[str, Any] | None = None
    overfitting: dict[str, Any] | None = None
    walk_forward: dict[str, Any] | None = None
    heat_map: str | None = Field(default=None, description="The path of its picture, where two parameters vary.")
