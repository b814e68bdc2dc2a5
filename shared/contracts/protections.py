"""The protections of a strategy, as HTTP, stored strategies and backtests give them."""

from decimal import Decimal
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from shared.contracts.written import Bounded

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
