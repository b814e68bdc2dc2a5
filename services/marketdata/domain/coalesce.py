"""Several quotes of one symbol as one: that of a few milliseconds of a stream."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from decimal import Decimal

from services.marketdata.domain.quote import Quote


def coalesce(quotes: Iterable[Quote]) -> list[Quote]:
    """One quote for each symbol: its newest, with the bar of all of them.

    A quote that is older than one before it, or repeats it, is dropped: streams repeat and reorder frames.
    """
    kept: dict[str, list[Quote]] = {}
    for quote in quotes:
        its = kept.setdefault(quote.symbol, [])
        if not its or (quote.quoted_at >= its[-1].quoted_at and quote != its[-1]):
            its.append(quote)
    return [its[0] if len(its) == 1 else _merged(its) for its in kept.values()]


def _merged(quotes: Sequence[Quote]) -> Quote:
    return replace(
        quotes[-1],
        open=quotes[0].open,
        high=max(quote.high for quote in quotes),
        low=min(quote.low for quote in quotes),
        volume=sum((quote.volume for quote in quotes), Decimal(0)),
        bar_start=quotes[0].bar_start,
        official=tuple(official for quote in quotes for official in quote.official),
    )
