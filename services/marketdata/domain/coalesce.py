"""Several quotes of one symbol as one: that of a few milliseconds of a stream."""

from collections.abc import Iterable
from dataclasses import replace

from services.marketdata.domain.quote import Quote


def coalesce(quotes: Iterable[Quote]) -> list[Quote]:
    """One quote for each symbol: its newest, with the bar of all of them.

    A quote that is older than one before it, or repeats it, is dropped: streams repeat and reorder frames.
    """
    merged: dict[str, Quote] = {}
    newest: dict[str, Quote] = {}
    for quote in quotes:
        before = newest.get(quote.symbol)
        if before is None:
            merged[quote.symbol] = newest[quote.symbol] = quote
        elif quote.quoted_at >= before.quoted_at and quote != before:
            merged[quote.symbol], newest[quote.symbol] = _after(merged[quote.symbol], quote), quote
    return list(merged.values())


def _after(before: Quote, quote: Quote) -> Quote:
    return replace(
        quote,
        open=before.open,
        high=max(before.high, quote.high),
        low=min(before.low, quote.low),
        volume=before.volume + quote.volume,
        bar_start=before.bar_start,
        official=before.official + quote.official,
    )
