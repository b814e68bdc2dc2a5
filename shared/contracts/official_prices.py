"""Official opens and closes: what the auctions of a session come to, entered by hand or known to marketdata."""

from datetime import date
from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import AwareDatetime, BaseModel, Field

from shared.contracts.base import Command, Event, Number, Symbol


class AuctionKind(StrEnum):
    OPEN = "open"
    CLOSE = "close"


class AuctionPrice(BaseModel):
    """The price of an auction, in the instrument's currency per share of that ``day``, by the market's own date.

    ``volume`` is what traded in the auction, in shares; None where nobody knows.
    """

    symbol: Symbol
    kind: AuctionKind
    day: date
    price: Annotated[Number, Field(gt=0, le=10_000_000, decimal_places=9)]
    volume: Annotated[Number, Field(ge=0, le=1_000_000_000_000)] | None = None


class OfficialPrice(AuctionPrice):
    """``held_at`` is the time of the trade."""

    held_at: AwareDatetime


class EnterOfficialPrice(Command, OfficialPrice):
    """The first that is known of an auction stays: entering another one changes nothing."""

    service: ClassVar[str] = "marketdata"


class OfficialPricePublished(Event, OfficialPrice):
    """The official price is known, and final. Orders for this auction trade at it, or not at all.

    ``sequence`` is that of the symbol's newest price then; ``split_count`` counts its splits before the auction.
    """

    service: ClassVar[str] = "marketdata"

    sequence: int = Field(ge=1)
    split_count: int = Field(default=0, ge=0)
    provider: str
