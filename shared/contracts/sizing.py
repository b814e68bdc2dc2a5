"""The size of a strategy's orders, as HTTP, stored strategies and backtests give it."""

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from shared.contracts.written import Bounded


class Sizing(BaseModel):
    """The size of an entry, and the limits of a position.

    ``value`` is in shares (``qty``), in the account's currency (``notional``), or a fraction of the equity. With
    ``equity`` that fraction is invested. With ``risk`` it is lost if the stop loss is hit. With ``volatility`` it is
    the value of one average true range of the position, of 14 bars or as the strategy has it as ``atr``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["qty", "notional", "equity", "risk", "volatility"] = "qty"
    value: Annotated[Decimal, Bounded(gt=0, le=1_000_000_000)] = Decimal(10)
    max_position_qty: Annotated[Decimal, Bounded(gt=0, le=1_000_000_000)] | None = None
    max_position_notional: Annotated[Decimal, Bounded(gt=0, le=1_000_000_000_000)] | None = None
    #: A fraction of the equity.
    max_position_share: Annotated[Decimal, Bounded(gt=0, le=10)] | None = None
    #: Fractions of shares, to the ninth decimal.
    fractional: bool = Field(default=False, description="Trade fractions of shares.")
