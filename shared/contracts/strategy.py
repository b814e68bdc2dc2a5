"""Strategies: the commands that create, change and control them, and the events that answer, and their signals."""

from decimal import Decimal
from enum import StrEnum
from typing import Annotated, Any, ClassVar
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

from shared.contracts.base import Command, Count, Event, Number, Symbol
from shared.contracts.written import Bounded, Printable

#: The symbols of one strategy.
MOST_SYMBOLS = 500
StrategyName = Annotated[Printable, Field(min_length=1, max_length=64)]
Symbols = Annotated[tuple[Symbol, ...], Field(min_length=1, max_length=MOST_SYMBOLS)]
Share = Annotated[Decimal, Bounded(ge=0, le=1)]
#: An interval such as 5m, cron, or a time such as ``10m before close``.
ScheduleText = Annotated[Printable, Field(min_length=1, max_length=100)]
Note = Annotated[Printable, Field(max_length=2000)]


def _storable(terms: dict[str, Any]) -> dict[str, Any]:
    """Return the terms. Raises ValueError for text that PostgreSQL cannot store."""
    waiting: list[Any] = [terms]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += [*value, *value.values()]
        elif isinstance(value, list | tuple):
            waiting += value
        elif isinstance(value, str) and ("\0" in value or any("\ud800" <= each <= "\udfff" for each in value)):
            raise ValueError("must not contain NUL or lone surrogates")
    return terms


#: JSON that strategy validates, because only it knows the kind's parameters.
Terms = Annotated[dict[str, Any], AfterValidator(_storable)]


class Action(StrEnum):
    BUY = "buy"
    SELL = "sell"
    HOLD = "hold"


class StrategyState(StrEnum):
    CREATED = "created"
    RUNNING = "running"
    PAUSED = "paused"
    STOPPED = "stopped"


class Control(StrEnum):
    """``flatten`` cancels the open orders of the strategy and closes its positions. It changes no state."""

    START = "start"
    PAUSE = "pause"
    RESUME = "resume"
    STOP = "stop"
    FLATTEN = "flatten"


class StrategyTerms(BaseModel):
    """The terms of a strategy. ``schedule`` None lets it decide at every run of trading_bot.

    Without ``sizing`` and ``protections`` the defaults of the strategy service hold.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    kind: Annotated[Printable, Field(min_length=1, max_length=64)]
    parameters: Terms = Field(default_factory=dict)
    symbols: Symbols
    interval: Annotated[Printable, Field(min_length=1, max_length=16)]
    schedule: ScheduleText | None = None
    sizing: Terms = Field(default_factory=dict)
    protections: Terms = Field(default_factory=dict)


class OfStrategy(Command):
    """A command about one strategy. Those of one sender are handled in their order, so the last one counts."""

    service: ClassVar[str] = "strategy"
    in_order: ClassVar[bool] = True

    request_id: UUID
    strategy_id: UUID

    @property
    def key(self) -> str:
        return f"strategy/{self.strategy_id}"


class CreateStrategy(OfStrategy, StrategyTerms):
    """Create a strategy, which does not run yet. The sender chooses its id."""

    account_id: UUID
    name: StrategyName
    note: Note | None = None


class ReviseStrategy(OfStrategy):
    """Change the fields of a strategy that ``changes`` has. Its terms get a new version if they are others then.

    The fields are those of StrategyTerms without the kind, and ``name`` and ``note``.
    """

    changes: Terms


class ControlStrategy(OfStrategy):
    """Start, pause, resume or stop a strategy, or close its positions."""

    action: Control
    reason: Note | None = None


class StrategyChanged(Event):
    """The strategy is as the request wanted it."""

    service: ClassVar[str] = "strategy"

    request_id: UUID
    strategy_id: UUID
    strategy_version: Count
    state: StrategyState


class StrategyRefused(Event):
    """Nothing was changed. ``reason`` is ``invalid``, ``unknown`` or ``conflict``."""

    service: ClassVar[str] = "strategy"

    request_id: UUID
    strategy_id: UUID
    field: str | None
    reason: str
    message: str


class SignalGenerated(Event):
    """A strategy's buy or sell signal on the bar that starts at ``bar_at``.

    ``type`` is what the strategy wants: enter_long, enter_short, exit, target or buy.
    """

    service: ClassVar[str] = "strategy"

    signal_id: UUID
    strategy_id: UUID
    account_id: UUID
    symbol: Symbol
    action: Action
    price: Number
    bar_at: AwareDatetime
    reason: str
    type: str | None = None
    strength: Share = Decimal(1)
    confidence: Share = Decimal(1)
