"""The prices that marketdata publishes."""

from datetime import datetime, timedelta
from typing import ClassVar

from pydantic import AwareDatetime, BaseModel, ConfigDict

from shared.contracts.base import Count, Event, NotNegative, Positive, Sequence, Symbol

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
    symbol, ``split_count`` with each of its splits and dividends.
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
