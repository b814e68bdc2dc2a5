"""The provider ``push``: the user's own feed sends its prices to ``POST /api/prices``, and nobody is asked.

Its prices are taken whichever other provider is configured.
"""

from datetime import datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal

from services.marketdata.domain.price_checks import LARGEST_PRICE, PriceFault, Refusal
from services.marketdata.domain.quote import Quote
from shared.contracts.prices import PushedBar, PushedPrice
from shared.money import ZERO, plain

NAME = "push"
_NINTH_DECIMAL = Decimal("1E-9")
_INTERVALS = {
    timedelta(minutes=5): "5m",
    timedelta(minutes=15): "15m",
    timedelta(hours=1): "1h",
    timedelta(days=1): "1d",
}


def quote_of(pushed: PushedPrice, received_at: datetime) -> Quote | Refusal:
    """The quote of a pushed price. A missing side stays missing.

    A missing ``last`` is the bar's close, or the middle of both sides. A missing ``at`` is the bar's end, or
    ``received_at``. Without a bar nothing was traded but, perhaps, at ``last``.
    """
    bar = pushed.bar
    last = pushed.last
    if last is None and bar is not None:
        last = bar.close
    if last is None and pushed.bid is not None and pushed.ask is not None:
        last = _middle(pushed.bid, pushed.ask)
    if last is None:
        return Refusal(PriceFault.NO_LAST, "last: is missing; send it, a bar, or both bid and ask")
    at = pushed.at or (bar and bar.end) or received_at
    if bar is not None and (refusal := _broken_span(bar, at)) is not None:
        return refusal
    bar = bar or PushedBar(open=last, high=last, low=last, close=last)
    return Quote(
        symbol=pushed.symbol,
        bid=pushed.bid,
        ask=pushed.ask,
        bid_size=pushed.bid_size,
        ask_size=pushed.ask_size,
        last=last,
        open=bar.open,
        high=bar.high,
        low=bar.low,
        close=bar.close,
        volume=bar.volume,
        quoted_at=at,
        provider=NAME,
        bar_start=bar.start,
        currency=pushed.currency,
        received_at=received_at,
        interval=_INTERVALS.get(bar.end - bar.start) if bar.start and bar.end else None,
    )


def _middle(bid: Decimal, ask: Decimal) -> Decimal:
    if not ZERO < min(bid, ask) <= max(bid, ask) <= LARGEST_PRICE:
        return bid  # refused for a side
    return Decimal(plain(((bid + ask) / 2).quantize(_NINTH_DECIMAL, rounding=ROUND_HALF_EVEN)))


def _broken_span(bar: PushedBar, at: datetime) -> Refusal | None:
    if bar.start is not None and bar.end is not None and bar.start >= bar.end:
        return Refusal(PriceFault.BAR, "bar: start must be before end")
    if bar.end is not None and bar.end > at:
        return Refusal(PriceFault.BAR, "bar: must not end after the time of the price; send what was traded so far")
    return None
