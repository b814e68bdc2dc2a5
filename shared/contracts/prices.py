"""What marketdata says about prices."""

from typing import ClassVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from shared.contracts.base import Event, NotNegative, Positive, Symbol


class Price(BaseModel):
    """One symbol's quote, last trade and the bar since its previous update.

    Prices are in the instrument's currency, sizes and volume in shares. ``bid`` and ``ask`` are absent where
    the provider has no quote. ``quoted_at`` is the price's own time, ``since`` that of the update before it, where
    there was one; ``sequence`` rises by one with each update of the symbol, ``split_count`` with each of its splits.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    symbol: Symbol
    bid: Positive | None = None
    ask: Positive | None = None
    bid_size: NotNegative | None = None
    ask_size: NotNegative | None = None
    last: Positive
    open: Positive
    high: Positive
    low: Positive
    close: Positive
    volume: NotNegative
    quoted_at: AwareDatetime
    since: AwareDatetime | None = None
    sequence: int = Field(ge=1)
    split_count: int = Field(default=0, ge=0)
    provider: str


class PricesUpdated(Event):
    """A batch of prices: one poll, or what arrived within a few milliseconds, ``at`` which time.

    A price that was old even then is stale; one whose message is late is not.
    """

    service: ClassVar[str] = "marketdata"

    prices: tuple[Price, ...]
    at: AwareDatetime | None = None
