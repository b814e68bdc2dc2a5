"""The requests and responses of ``/api/strategies``."""

from typing import Annotated, Any, Literal, Self
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from services.gateway.http.pagination import FROM_CURSOR, Page, PageQuery, StretchQuery, TimeCursor
from services.gateway.http.schemas import Answer, AnyCaseSymbol, Moment, PlainNumber, Query
from services.gateway.performance.schemas import PerformanceFigures
from shared.contracts.strategy import MOST_SYMBOLS, Note, ScheduleText, StrategyName, StrategyState, Terms
from shared.contracts.written import Printable

RULES = "rules"
Kind = Annotated[Printable, Field(min_length=1, max_length=64)]
Interval = Annotated[Printable, Field(min_length=1, max_length=16)]
Universe = Annotated[tuple[AnyCaseSymbol, ...], Field(min_length=1, max_length=MOST_SYMBOLS)]
OutcomeName = Literal["held", "ordered", "cut", "blocked", "repeated", "failed"]


class NewStrategy(Query):
    """The strategy to create: a `kind` of `GET /api/strategies/kinds` with its `parameters`, or `rules`.

    `interval` is that of its bars. Without a `schedule` such as `5m`, `30 9 * * 1-5` or `10m before close` it decides
    at every run of trading_bot.
    """

    name: StrategyName
    kind: Kind | None = None
    parameters: Terms | None = None
    rules: Terms | None = None
    account_id: UUID | None = None
    symbols: Universe
    interval: Interval
    schedule: ScheduleText | None = None
    sizing: Terms = Field(default_factory=dict)
    protections: Terms = Field(default_factory=dict)
    note: Note | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if self.rules is not None and (self.kind not in (None, RULES) or self.parameters is not None):
            raise ValueError("rules: send either rules, or kind and parameters")
        if self.rules is None and self.kind is None:
            raise ValueError("kind: is missing, send kind and parameters, or rules")
        return self


class ChangedStrategy(Query):
    """The fields to change. Only the named `parameters`, `sizing` and `protections` change.

    A null restores the default.
    """

    name: StrategyName | None = None
    parameters: Terms | None = None
    rules: Terms | None = None
    symbols: Universe | None = None
    interval: Interval | None = None
    schedule: ScheduleText | None = None
    sizing: Terms | None = None
    protections: Terms | None = None
    note: Note | None = None

    def changes(self) -> dict[str, Any]:
        """The given fields. Only a schedule and a note may become null."""
        given = self.model_dump(include=self.model_fields_set)
        kept = {name: value for name, value in given.items() if value is not None or name in {"schedule", "note"}}
        if RULES in kept:
            kept["parameters"] = kept.pop(RULES)
        return kept


class Reason(Query):
    """The reason, which the strategy shows."""

    reason: Note | None = None


class Clone(Query):
    """The name and the account of the copy, by default the name with `copy` and the same account."""

    name: StrategyName | None = None
    account_id: UUID | None = None


class StrategyItem(Answer):
    """A strategy. `rules` are its parameters if it is of that kind. `state_reason` tells why it is paused."""

    id: UUID
    name: str
    account_id: UUID
    kind: str
    parameters: dict[str, Any]
    rules: dict[str, Any] | None = None
    version: int
    symbols: list[str]
    interval: str
    schedule: str | None
    sizing: dict[str, Any]
    protections: dict[str, Any]
    note: str | None
    state: StrategyState
    state_reason: str | None
    generation: int | None
    evaluated_at: AwareDatetime | None
    failures: int
    created_at: AwareDatetime
    updated_at: AwareDatetime


class StrategyPage(Page[StrategyItem]):
    """Strategies, the newest first."""


class StrategyQuery(PageQuery):
    cursor: TimeCursor | None = None
    account_id: UUID | None = None
    state: StrategyState | None = None
    kind: Kind | None = None


class KindItem(BaseModel):
    """A kind of strategy. `schema` is the JSON schema of its parameters."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)

    kind: str
    title: str
    source: str
    schema_: dict[str, Any] = Field(alias="schema")


class Kinds(BaseModel):
    """All kinds of strategies that the running release knows, those of other packages among them."""

    kinds: list[KindItem]


class VersionItem(Answer):
    """The terms of a strategy from a time on."""

    version: int
    at: AwareDatetime
    terms: dict[str, Any]


class VersionPage(Page[VersionItem]):
    """Versions of a strategy, the newest first."""


class VersionQuery(PageQuery):
    cursor: Annotated[tuple[int], *FROM_CURSOR] | None = None


class SignalItem(Answer):
    """A signal: `action` is the side of the order, null if there was none. `indicators` are the values at the bar."""

    id: UUID
    symbol: str
    bar_at: AwareDatetime
    at: AwareDatetime
    type: str
    action: str | None
    version: int
    price: PlainNumber
    strength: PlainNumber
    confidence: PlainNumber
    reason: str
    indicators: dict[str, float | None]
    order_id: UUID | None


class SignalPage(Page[SignalItem]):
    """Signals of a strategy, the newest first."""


class SignalQuery(StretchQuery):
    cursor: TimeCursor | None = None
    symbol: AnyCaseSymbol | None = None


class ConditionItem(Answer):
    """A condition that was looked at. `holds` is null where a value was missing."""

    text: str
    holds: bool | None
    values: dict[str, str | None]


class DecisionItem(Answer):
    """A decision: its inputs with their times, the conditions with their values, the outcome, and the order.

    The symbol is `*` where the strategy decided on none, because it failed or was paused.
    """

    symbol: str
    run_id: UUID
    version: int
    at: AwareDatetime
    bar_at: AwareDatetime | None
    action: str
    outcome: OutcomeName
    reason: str
    side: str | None
    qty: PlainNumber
    close: PlainNumber | None
    last: PlainNumber | None
    quote_at: AwareDatetime | None
    position: PlainNumber | None
    equity: PlainNumber | None
    conditions: list[ConditionItem]
    cuts: list[str]
    order_id: UUID | None


class DecisionPage(Page[DecisionItem]):
    """Decisions of a strategy, the newest first."""


class DecisionQuery(StretchQuery):
    cursor: Annotated[tuple[Moment, Annotated[str, Field(max_length=16)], UUID], *FROM_CURSOR] | None = None
    symbol: AnyCaseSymbol | None = None
    outcome: OutcomeName | None = None


class StrategyPerformance(PerformanceFigures):
    """The returns, the risk and the trading of a strategy in an account generation, in the account's currency.

    The equity is that of the account as the time began, with deposits, and what the strategy alone earned since then.
    `exposure` is the mean cost of its positions as a share of it. `open_positions` and `open_cost` are the present
    ones. A ratio is null where it is not defined, such as a profit factor without any loss.
    """

    model_config = ConfigDict(populate_by_name=True)

    strategy_id: UUID
    account_id: UUID
    generation: int
    currency: str
    begin: AwareDatetime = Field(alias="from")
    end: AwareDatetime = Field(alias="to")
    benchmark: str | None
    begin_equity: PlainNumber | None
    end_equity: PlainNumber | None
    net_deposits: PlainNumber
    round_trips: int
    open_positions: int
    open_cost: PlainNumber


class Why(Answer):
    """Why there is the order, in sentences. `strategy_id` is null for an order that no strategy sent."""

    order_id: UUID
    strategy_id: UUID | None
    version: int | None
    decided_at: AwareDatetime | None
    sentences: list[str]
