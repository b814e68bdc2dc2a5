"""Official opening and closing prices, the results of a session's auctions. An operator enters them, or a provider."""

from datetime import date
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import AwareDatetime, BaseModel, Field

from shared.contracts.base import Command, Count, Event, Sequence, Symbol
from shared.contracts.written import Bounded, Printable


class AuctionKind(StrEnum):
    OPEN = "open"
    CLOSE = "close"


class AuctionPrice(BaseModel):
    """The price of an auction in the instrument's currency, per share as of ``day``, which is the market's local date.

    ``volume`` is the number of shares traded in the auction, or None where it is not known.
    """

    symbol: Symbol
    kind: AuctionKind
    day: date
    price: Annotated[Decimal, Bounded(gt=0, le=10_000_000, decimal_places=9)]
    volume: Annotated[Decimal, Bounded(ge=0, le=1_000_000_000_000)] | None = None


class OfficialPrice(AuctionPrice):
    """The price of an auction that was held at ``held_at``."""

    held_at: AwareDatetime


class EnterOfficialPrice(Command, OfficialPrice):
    """Enter the price of an auction. If its price is known already, nothing changes."""

    service: ClassVar[str] = "marketdata"


class OfficialPricePublished(Event, OfficialPrice):
    """The official price is final. Orders for this auction trade at it or not at all.

    ``sequence`` is that of the symbol's newest price at ``held_at``. ``split_count`` counts its corporate actions
    before then.
    """

    service: ClassVar[str] = "marketdata"

    sequence: Sequence
    split_count: Count = 0
    provider: Printable = Field(max_length=100)
