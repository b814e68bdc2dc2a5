"""What marketdata says about prices."""

from typing import ClassVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from shared.contracts.base import Event, Number, Symbol


class Price(BaseModel):
    """One symbol's quote, last trade and the bar since its previous update.

    Prices are in the instrument's currency, sizes and volume in shares. ``bid`` and ``ask`` are absent where
    the provider has no quote. ``quoted_at`` is the price's own time, ``sequence`` rises by one with each
    update of the symbol.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    symbol: Symbol
    bid: Number | None = Field(default=None, gt=0)
    ask: Number | None = Field(default=None, gt=0)
    bid_size: Number | None = Field(default=None, ge=0)
    ask_size: Number | None = Field(default=None, ge=0)
    last: Number = Field(gt=0)
    open: Number = Field(gt=0)
    high: Number = Field(gt=0)
    low: Number = Field(gt=0)
    close: Number = Field(gt=0)
    volume: Number = Field(ge=0)
    quoted_at: AwareDatetime
    sequence: int = Field(ge=1)
    provider: str


class PricesUpdated(Event):
    """A batch of prices: one poll, or what arrived within a few milliseconds."""

    service: ClassVar[str] = "marketdata"

    prices: tuple[Price, ...]
