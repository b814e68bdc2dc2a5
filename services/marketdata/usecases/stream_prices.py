"""Store what a stream brings, and fill the gap after it was broken.

A gap is filled with the provider's bars of a minute, as if each had come in time: bars are stored and orders fill on
them. Only whole minutes after a symbol's last price count, since the price's own minute is known in part already.
"""

import time
from collections.abc import Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import groupby
from operator import attrgetter

import structlog

from services.marketdata.domain.bar import Bar
from services.marketdata.domain.coalesce import coalesce
from services.marketdata.domain.price_checks import MOST_JUMP
from services.marketdata.domain.quote import Quote, quote_of_bar
from services.marketdata.persistence import instruments
from services.marketdata.providers.provider import Listed, Part, Provider, ProviderError
from services.marketdata.usecases.ask_provider import ask
from services.marketdata.usecases.corporate_actions import lock_current
from services.marketdata.usecases.update_prices import store, stored
from shared.bus.unit_of_work import ServiceContext
from shared.resilience.breakers import BreakerOpen
from shared.resilience.rate_limits import RateLimited

log = structlog.get_logger(__name__)

MINUTE = timedelta(minutes=1)
#: What was missed before that is filled by the job that backfills.
LONGEST_GAP = timedelta(hours=2)
#: Live quotes wait while a gap is filled.
FILL_SECONDS = 20.0


def store_streamed(
    context: ServiceContext,
    provider: Provider,
    quotes: Sequence[Quote],
    *,
    most_jump: Decimal = MOST_JUMP,
    at: datetime | None = None,
) -> int:
    """Store and publish the quotes as one batch, and return the number of new prices.

    ``most_jump`` and ``at`` are those of ``store``.
    """
    quotes = coalesce(quotes)
    with context.unit_of_work() as uow:
        known = lock_current(uow, [quote.symbol for quote in quotes])
        official = provider.traits.official
        return stored(store(uow, quotes, known, official=official, most_jump=most_jump, at=at))


def fill_gap(context: ServiceContext, provider: Provider, listed: Sequence[Listed]) -> int:
    """Store and publish the minutes since the symbols' last prices, and return their number.

    A symbol whose bars the provider cannot give now is left to the next backfill, and so are all that are left when
    the time or the provider's limit is over.
    """
    if Part.BARS not in provider.traits.parts or "1m" not in provider.traits.intervals:
        return 0
    ends, missed = time.monotonic() + FILL_SECONDS, _missed(context, listed)
    bars: list[Bar] = []
    for place, (each, begin, end) in enumerate(missed):
        try:
            pages = provider.bars(each, "1m", begin, end)
            while (page := ask(context, provider, lambda pages=pages: next(pages, None))) is not None:  # type: ignore[misc]
                bars += [bar for bar in page if begin <= bar.start and bar.start + MINUTE <= end]
        except ProviderError as error:
            log.warning("gap not filled", symbol=each.symbol, error=str(error))
        except (BreakerOpen, RateLimited) as error:
            log.warning("gaps not filled", symbols=len(missed) - place, error=str(error))
            break
        if time.monotonic() > ends:
            log.warning(
                "gaps not filled", symbols=len(missed) - place - 1, error=f"more than {FILL_SECONDS:g} s passed"
            )
            break
    filled = 0
    for start, of_minute in groupby(sorted(bars, key=attrgetter("start")), key=attrgetter("start")):
        end = start + MINUTE
        quotes = [quote_of_bar(bar, end, bar.provider, start=bar.start) for bar in of_minute]
        filled += store_streamed(context, provider, quotes, at=end)
    return filled


def _missed(context: ServiceContext, listed: Sequence[Listed]) -> list[tuple[Listed, datetime, datetime]]:
    """The instruments with whole minutes after their last prices, and these minutes' begin and end."""
    now = context.clock()
    end = now.replace(second=0, microsecond=0)
    with context.engine.begin() as connection:
        newest = instruments.newest(connection, [each.symbol for each in listed])
    missed = []
    for each in listed:
        at = newest.get(each.symbol)
        if at is not None:
            begin = max(at, now - LONGEST_GAP).replace(second=0, microsecond=0) + MINUTE
            if begin < end:
                missed.append((each, begin, end))
    return missed
