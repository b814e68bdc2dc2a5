"""The limits that keep a strategy from entering, and those that pause it."""

from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from services.strategy.persistence.strategies import Watch
from shared.contracts.risk_marks import is_reached, marked
from shared.contracts.written import Bounded
from shared.money import ZERO

Fraction = Annotated[Decimal, Bounded(gt=0, le=1, decimal_places=6)]


class Protections(BaseModel):
    """The protections of a strategy. Those that are not given do not hold. Exits are always allowed.

    A loss streak, a drawdown, a daily loss or a large position pauses the strategy until somebody resumes it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    cool_down_minutes: Annotated[int, Bounded(ge=1, le=100_000)] | None = Field(
        default=None, description="Minutes without an entry in a symbol after a position in it was closed."
    )
    max_trades_per_day: Annotated[int, Bounded(ge=1, le=100_000)] | None = Field(
        default=None, description="Orders to enter within a day of the market."
    )
    max_open_positions: Annotated[int, Bounded(ge=1, le=500)] | None = Field(
        default=None, description="Symbols in which the strategy holds a position or has an order to enter."
    )
    max_loss_streak: Annotated[int, Bounded(ge=1, le=1000)] | None = Field(
        default=None, description="Losing round trips one after another that pause the strategy."
    )
    max_drawdown: Fraction | None = Field(
        default=None, description="Fall of the strategy's profit from its peak that pauses it, as a part of the equity."
    )
    max_daily_loss: Fraction | None = Field(
        default=None, description="Loss since the day began that pauses the strategy, as a part of the equity."
    )
    max_concentration: Annotated[Decimal, Bounded(gt=0, le=10, decimal_places=6)] | None = Field(
        default=None, description="Value of the strategy's largest position that pauses it, as a part of the equity."
    )
    max_failures: Annotated[int, Bounded(ge=1, le=100)] = Field(
        default=3, description="Decisions that fail one after another before the strategy is paused."
    )
    flatten: bool = Field(default=False, description="Close the positions when a protection pauses the strategy.")

    @property
    def on_results(self) -> bool:
        """True if a protection depends on profits and losses."""
        limits = (self.max_loss_streak, self.max_drawdown, self.max_daily_loss, self.max_concentration)
        return any(each is not None for each in limits)


@dataclass
class Standing:
    """The strategy's present state, for the protections. ``open`` has the symbols held or ordered."""

    now: datetime
    open: set[str]
    entries: int
    closed_at: dict[str, datetime]

    def entered(self, symbol: str) -> None:
        """Count an order to enter."""
        self.open.add(symbol)
        self.entries += 1


@dataclass(frozen=True)
class Largest:
    """The strategy's largest position as a share of the account's equity."""

    symbol: str | None = None
    share: Decimal = ZERO


NONE = Largest()


def refusal(protections: Protections, standing: Standing, symbol: str) -> str | None:
    """The reason why the strategy may not enter the symbol now, or None."""
    most, closed = protections.max_trades_per_day, standing.closed_at.get(symbol)
    if most is not None and standing.entries >= most:
        return f"max_trades_per_day: the strategy has entered {standing.entries} times today."
    most = protections.max_open_positions
    if most is not None and symbol not in standing.open and len(standing.open) >= most:
        return f"max_open_positions: {len(standing.open)} positions are open."
    minutes = protections.cool_down_minutes
    if minutes is not None and closed is not None and standing.now - closed < timedelta(minutes=minutes):
        return f"cool_down_minutes: a position was closed less than {minutes} minutes ago."
    return None


def watched(
    watch: Watch, *, profit: Decimal, day: date, largest: Largest = NONE, limit: Decimal | None = None
) -> Watch:
    """The watch with the peak of the profits, the profit as the day began, and the mark of the largest position."""
    if limit is not None:
        watch = replace(watch, concentration=marked(watch.concentration, largest.share, limit))
    if watch.day != day:
        watch = replace(watch, day=day, day_profit=profit)
    return replace(watch, peak=profit if watch.peak is None else max(watch.peak, profit))


def halt(
    protections: Protections,
    watch: Watch,
    *,
    profit: Decimal,
    losses: int,
    equity: Decimal,
    largest: Largest = NONE,
) -> str | None:
    """The reason to pause the strategy, or None. The profit and the equity are in the account's currency."""
    if protections.max_loss_streak is not None and losses >= protections.max_loss_streak:
        return f"max_loss_streak: the last {losses} round trips lost."
    down = (watch.peak or ZERO) - profit
    if protections.max_drawdown is not None and down > 0 and down >= protections.max_drawdown * equity:
        return f"max_drawdown: the profit is {down:.2f} below its peak."
    lost = (watch.day_profit or ZERO) - profit
    if protections.max_daily_loss is not None and lost > 0 and lost >= protections.max_daily_loss * equity:
        return f"max_daily_loss: {lost:.2f} were lost today."
    limit = protections.max_concentration
    if limit is not None and is_reached(largest.share, limit, watch.concentration or ZERO):
        return f"max_concentration: {largest.symbol} is {largest.share:.2%} of the equity."
    return None
