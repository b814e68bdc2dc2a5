"""Backfill: ask a provider for the bars of one symbol, and store them page by page.

Each page, the longer bars that it makes and the time that it covers commit together, so a killed run goes on where it
was. A repeated run asks only for the gaps. The provider is asked outside of any transaction.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

import structlog

from services.marketdata.domain.bar import Bar
from services.marketdata.persistence import bars, coverage
from services.marketdata.persistence.coverage import Gap
from services.marketdata.persistence.partitions import ensure_partitions_between
from services.marketdata.providers.provider import KeyRefused, Listed, Provider, ProviderError, Unsupported
from services.marketdata.usecases.ask_provider import ask
from shared.bus.unit_of_work import ServiceContext
from shared.contracts.bars import LENGTHS, Interval, WrongBar, check_bar, span_of
from shared.resilience.breakers import BreakerOpen
from shared.resilience.rate_limits import RateLimited

log = structlog.get_logger(__name__)

#: A provider may add bars of the last hour later, because its data are delayed. They are asked for again.
SETTLES = timedelta(hours=1)


class NoBars(Exception):
    """No provider has such bars, or may show them with its key. Asking again would change nothing."""


def backfill_by_order(
    context: ServiceContext,
    providers: Sequence[Provider],
    instrument: Listed,
    interval: str,
    wanted: Gap,
    progress: Callable[[int, int], None],
) -> Mapping[str, int]:
    """Backfill from the first of the providers that has such bars and does not fail.

    Raises NoBars where none has them, and otherwise the error of the first one that failed, so that the run is
    repeated.
    """
    lacking, failed = [], None
    for provider in providers:
        if (why := _lacks(provider, instrument, interval)) is not None:
            lacking.append(why)
            continue
        try:
            return backfill(context, provider, instrument, interval, wanted, progress)
        except (ProviderError, BreakerOpen, RateLimited) as error:
            log.warning(
                "provider has no bars now", provider=provider.traits.name, symbol=instrument.symbol, error=str(error)
            )
            if isinstance(error, Unsupported | KeyRefused):
                lacking.append(str(error))
            else:
                failed = failed or error
    raise failed or NoBars("; ".join(lacking))


def _lacks(provider: Provider, instrument: Listed, interval: str) -> str | None:
    """The field that the provider cannot serve, and why. None if it may have the bars."""
    traits = provider.traits
    if interval not in traits.intervals:
        return f"interval: {traits.name} has no bars of {interval}, but of {', '.join(traits.intervals)}"
    if instrument.asset_class not in traits.asset_classes:
        return f"symbols: {traits.name} has no bars of {instrument.asset_class}"
    if traits.currencies is not None and instrument.currency not in traits.currencies:
        return f"symbols: {traits.name} has no bars in {instrument.currency}"
    return None


def backfill(
    context: ServiceContext,
    provider: Provider,
    instrument: Listed,
    interval: str,
    wanted: Gap,
    progress: Callable[[int, int], None],
) -> Mapping[str, int]:
    """Store the bars that are missing, and count them. ``progress`` is told the days done and all of them.

    Raises what ``ask`` raises. The pages before the error stay stored.
    """
    with context.engine.begin() as connection:
        gaps = coverage.gaps(connection, instrument.symbol, interval, provider.traits.name, wanted)
    counts = {"gaps": len(gaps), "bars_received": 0, "bars_written": 0, "bars_refused": 0}
    total, done = sum(_days(gap) for gap in gaps), 0
    for gap in gaps:
        progress(done, total)
        begin = gap.begin
        pages = provider.bars(instrument, interval, gap.begin, gap.end)
        while (page := ask(context, provider, lambda pages=pages: next(pages, None))) is not None:  # type: ignore[misc]
            whole = _whole(page, instrument.symbol, interval, gap, context.clock())
            counts["bars_received"] += len(page)
            counts["bars_refused"] += len(page) - len(whole)
            if whole:
                part = Gap(begin, min(gap.end, whole[-1].start + LENGTHS[interval]))
                counts["bars_written"] += _store(context, provider, instrument.symbol, interval, whole, part)
                begin = max(begin, part.end)
            progress(done + _days(Gap(gap.begin, begin)), total)
        _store(context, provider, instrument.symbol, interval, [], Gap(begin, gap.end))
        done += _days(gap)
    progress(total, total)
    return counts


def _store(
    context: ServiceContext, provider: Provider, symbol: str, interval: str, whole: Sequence[Bar], part: Gap
) -> int:
    """Store the bars with the time that they cover, roll minutes up, and return the number of bars written."""
    now, written = context.clock(), 0
    if whole:
        with context.engine.begin() as connection:
            ensure_partitions_between(connection, *span_of(whole), now)
    with context.engine.begin() as connection:
        if whole:
            written = bars.store_bars(connection, whole)
            if interval == Interval.MINUTE:
                bars.roll_up(connection, [symbol], whole[0].start, whole[-1].start + LENGTHS[interval])
        settled = Gap(part.begin, min(part.end, now - SETTLES))
        if settled.begin < settled.end:
            coverage.cover(connection, symbol, interval, provider.traits.name, settled, now)
    return written


def _whole(page: Sequence[Bar], symbol: str, interval: str, gap: Gap, now: datetime) -> list[Bar]:
    """The bars that can be stored, the oldest first. The first reason of those that cannot is logged."""
    whole, wrong = [], []
    for bar in page:
        try:
            check_bar(bar, now)
            _check_asked(bar, symbol, interval, gap)
        except WrongBar as error:
            wrong.append(str(error))
        else:
            whole.append(bar)
    if wrong:
        log.warning("bars refused", symbol=symbol, interval=interval, bars=len(wrong), reason=wrong[0])
    return sorted(whole, key=lambda bar: bar.start)


def _check_asked(bar: Bar, symbol: str, interval: str, gap: Gap) -> None:
    """Raise WrongBar for a bar that was not asked for."""
    if (bar.symbol, bar.interval) != (symbol, interval):
        raise WrongBar("symbol", f"is {bar.symbol} {bar.interval}, where {symbol} {interval} was asked for")
    if not gap.begin <= bar.start < gap.end:
        raise WrongBar("start", f"{bar.start.isoformat()} lies outside of the time that was asked for")


def _days(gap: Gap) -> int:
    return -(-(gap.end - gap.begin) // timedelta(days=1))
