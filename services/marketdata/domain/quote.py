"""A quote: a provider's answer about one symbol at one moment."""

from dataclasses import dataclass, replace
from datetime import datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Self

from services.marketdata.domain.official import Official
from shared.contracts.bars import TradedBar
from shared.contracts.prices import Price

#: Shares at or above one dollar are quoted in cents (SEC Rule 612).
TICK = Decimal("0.01")
#: The spread assumed around a last price that came without one: that of a liquid US share.
SPREAD_BPS = Decimal(2)
_HALF_BPS = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """One symbol's quote, last trade and the bar since its previous update.

    Prices are in the instrument's currency, sizes and volume in shares. ``bid``, ``ask`` and their sizes are None where
    the provider has none. ``quoted_at`` is aware. ``bar_start`` is the start of a bar that the provider cut itself,
    such as a minute's: nothing in it was traded before that, or in a later session. ``official`` holds official opens
    and closes that the provider has learned of, also where the price is not new.

    ``currency`` is that in which the provider quotes, None where it does not say. ``delayed``: the price is not that of
    the moment. ``received_at`` is when the provider's answer came. ``interval`` is the length of a bar that the
    provider cut, such as ``1h``, where it is not that of the poll.
    """

    symbol: str
    bid: Decimal | None
    ask: Decimal | None
    bid_size: Decimal | None
    ask_size: Decimal | None
    last: Decimal
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    quoted_at: datetime
    provider: str
    bar_start: datetime | None = None
    official: tuple[Official, ...] = ()
    currency: str | None = None
    delayed: bool = False
    received_at: datetime | None = None
    interval: str | None = None

    def without_range(self) -> Self:
        """The same quote with a bar that traded at the last price only."""
        return replace(self, open=self.last, high=self.last, low=self.last, close=self.last)

    def as_price(
        self,
        *,
        since: datetime | None,
        bar_start: datetime | None,
        sequence: int,
        split_count: int,
        received_at: datetime | None = None,
    ) -> Price:
        """The published price: the quote and its place among the symbol's updates.

        ``received_at`` is for a quote that does not say it.
        """
        return Price(
            symbol=self.symbol,
            bid=self.bid,
            ask=self.ask,
            bid_size=self.bid_size,
            ask_size=self.ask_size,
            last=self.last,
            open=self.open,
            high=self.high,
            low=self.low,
            close=self.close,
            volume=self.volume,
            quoted_at=self.quoted_at,
            since=since,
            bar_start=bar_start,
            sequence=sequence,
            split_count=split_count,
            provider=self.provider,
            received_at=self.received_at or received_at,
            delayed=self.delayed,
        )


def quote_of_bar(
    bar: TradedBar,
    at: datetime,
    provider: str,
    *,
    sides: tuple[Decimal, Decimal] | None = None,
    size: Decimal | None = None,
    start: datetime | None = None,
) -> Quote:
    """A bar as a quote at that time. ``sides`` are an assumed bid and ask, and ``size`` that of both.

    The bar began at ``start``, or with the quote before.
    """
    bid, ask = sides or (None, None)
    return Quote(
        symbol=bar.symbol,
        bid=bid,
        ask=ask,
        bid_size=size,
        ask_size=size,
        last=bar.close,
        open=bar.open,
        high=bar.high,
        low=bar.low,
        close=bar.close,
        volume=bar.volume,
        quoted_at=at,
        provider=provider,
        bar_start=start,
    )


def spread_around(last: Decimal, spread_bps: Decimal = SPREAD_BPS) -> tuple[Decimal, Decimal]:
    """The assumed bid and ask: half the spread to each side, at least a tick, rounded outward to the tick.

    ``last`` is at least two ticks, so that a bid of one tick is below it.
    """
    half = max(TICK, last * spread_bps / _HALF_BPS)
    return max(TICK, tick_below(last - half)), tick_above(last + half)


def tick_below(price: Decimal) -> Decimal:
    """The price itself where it lies on a tick, else the next tick below."""
    return price.quantize(TICK, rounding=ROUND_FLOOR)


def tick_above(price: Decimal) -> Decimal:
    """The price itself where it lies on a tick, else the next tick above."""
    return price.quantize(TICK, rounding=ROUND_CEILING)
