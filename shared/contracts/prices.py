"""The prices that marketdata publishes, and those that are pushed to it."""

from datetime import datetime, timedelta
from decimal import Decimal
from typing import Annotated, ClassVar
from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field

from shared.contracts.base import Command, Count, Event, NotNegative, Number, Positive, Sequence, Symbol
from shared.contracts.written import Printable

#: The clocks of two machines differ by less. A price that is further ahead of the clock has a wrong time.
AHEAD = timedelta(seconds=5)
#: A price's sequence and split count are those of marketdata's own row at most, which commits with the price. One that
#: is further ahead than this is forged, and would shut out all real prices until they had counted up to it.
SEQUENCES_AHEAD = 1_000_000
SPLITS_AHEAD = 1_000


class Price(BaseModel):
    """One symbol's quote, last trade and the bar since its previous update.

    Prices are in the instrument's currency, sizes and volume in shares. ``bid`` and ``ask`` are absent where the
    provider has no quote. ``quoted_at`` is the time of this price, ``since`` that of the previous update, if there was
    one. ``bar_start`` is the start of the price's own bar. It is None where the price has none, such as a single quote,
    and then the bar is all that was traded since the previous update. ``sequence`` rises by one with each update of the
    symbol, ``split_count`` with each of its splits and dividends. ``received_at`` is the time when marketdata got the
    price from its ``provider``. ``delayed`` is True where the provider's prices are not those of the moment.
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
    bar_start: AwareDatetime | None = None
    sequence: Sequence
    split_count: Count = 0
    provider: str
    received_at: AwareDatetime | None = None
    delayed: bool = False


def latest(at: datetime, *others: datetime | None) -> datetime:
    """Return the last of these times of a price, some of which it may not have."""
    return max(at, *(other or at for other in others))


class PricesUpdated(Event):
    """A batch of prices from one poll, or from a few milliseconds of a stream.

    ``at`` is the time when they became known. A price that was old then is stale. One whose message is late is not.
    """

    service: ClassVar[str] = "marketdata"

    prices: tuple[Price, ...]
    at: AwareDatetime | None = None


#: Prices in one request, and those of one symbol among them.
MOST_PRICES = 1_000
MOST_OF_A_SYMBOL = 50


class PushedBar(BaseModel):
    """The trades since the symbol's previous price, or from ``start`` to ``end``."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    open: Number
    high: Number
    low: Number
    close: Number
    volume: Number = Decimal(0)
    start: AwareDatetime | None = None
    end: AwareDatetime | None = None


class PushedPrice(BaseModel):
    """A quote, a trade or a bar from the user's own feed. Any number is read: marketdata checks what it means.

    ``last`` may be missing where a bar has a close or where both sides are given. Then it is the close, or the middle.
    ``at`` is the time of the price. It defaults to the bar's end, or else to the time when the price was received.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    symbol: Symbol
    bid: Number | None = None
    ask: Number | None = None
    bid_size: Number | None = None
    ask_size: Number | None = None
    last: Number | None = None
    at: AwareDatetime | None = None
    bar: PushedBar | None = None
    currency: Annotated[str, Field(min_length=3, max_length=5, pattern=r"^[A-Z]+$")] | None = None


class NumberedPrice(PushedPrice):
    """A price with its place in the request."""

    index: Count


class PushPrices(Command):
    """Take these prices, each by itself. The sender chooses ``push_id``, which the answer names."""

    service: ClassVar[str] = "marketdata"

    push_id: UUID
    pushed: tuple[NumberedPrice, ...] = Field(max_length=MOST_PRICES)
    received_at: AwareDatetime


class TakenPrice(BaseModel):
    """A price that became the symbol's current one."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    index: Count
    symbol: Symbol
    sequence: Sequence


class RefusedPrice(BaseModel):
    """A price that changed nothing. ``reason`` is a word such as ``older``, and ``message`` says what is wrong."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    index: Count
    symbol: Printable | None
    reason: str
    message: str


class PricesPushed(Event):
    """The answer to a push: the prices that were taken, and those that were refused."""

    service: ClassVar[str] = "marketdata"

    push_id: UUID
    taken: tuple[TakenPrice, ...]
    refused: tuple[RefusedPrice, ...]
