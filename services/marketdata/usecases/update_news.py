"""Fetch the news of instruments that are held, watched or have indicators, and store what is new.

The sources are providers and feeds, which are asked in parallel, outside of any transaction. A failure is logged, and
the next run asks again. If all of them are out of order the run is deferred.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from math import isfinite
from urllib.parse import urlsplit
from uuid import NAMESPACE_URL, uuid5

import structlog

from services.marketdata.news import feeds
from services.marketdata.news.fetch import FetchFailed, HostDown, Page
from services.marketdata.news.sentiment import score
from services.marketdata.news.text import (
    LONGEST_SOURCE,
    LONGEST_SUMMARY,
    LONGEST_TITLE,
    LONGEST_URL,
    canonical_url,
    plain_text,
    title_key,
)
from services.marketdata.persistence import news
from services.marketdata.persistence.news import Followed, Story
from services.marketdata.providers.provider import Headline, Listed, Part, Provider, ProviderError
from services.marketdata.usecases.ask_provider import ask
from shared.bus.unit_of_work import ServiceContext
from shared.contracts.instruments import AssetClass
from shared.resilience.breakers import Breaker, BreakerOpen
from shared.resilience.rate_limits import RateLimit, RateLimited

log = structlog.get_logger(__name__)

#: Instruments whose news one run fetches.
MOST_SYMBOLS = 300
PARALLEL = 4
#: Requests a minute to the host of a feed.
FEED_RATE = 120
#: Providers are asked for news since this time before the run.
LOOK_BACK = timedelta(days=2)
_DAY = timedelta(days=1)

Order = Mapping[AssetClass, Sequence[Provider]]
Fetch = Callable[[str], Page]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Source:
    """A request for news: ``name`` is the provider's or the feed's host."""

    name: str
    read: Callable[[], list[Headline]]


def update_news(
    context: ServiceContext,
    order: Order,
    addresses: Sequence[str],
    fetch: Fetch,
    *,
    keep: timedelta,
    progress: Progress,
) -> dict[str, int]:
    """Store the new headlines, and count them and the requests that failed or were put off.

    ``order`` are the providers of each asset class, ``addresses`` those of feeds. Raises BreakerOpen if every source is
    out of order.
    """
    now = context.clock()
    with context.unit_of_work() as uow:
        wanted = news.followed(uow.connection, MOST_SYMBOLS)
    sources = [*_of_providers(context, order, wanted, now), *_of_feeds(context, addresses, wanted, fetch, now)]
    read, failed, stopped = 0, 0, []
    stories: dict[str, Story] = {}
    with ThreadPoolExecutor(PARALLEL, "news") as pool:
        for source, answer in zip(sources, pool.map(_read, sources), strict=True):
            progress(read := read + 1, len(sources))
            if isinstance(answer, list):
                _merge(stories, source.name, answer, {each.listed.symbol for each in wanted}, now, keep)
            elif isinstance(answer, BreakerOpen | RateLimited):
                stopped.append(answer)
            else:
                failed += 1
    open_breakers = [each for each in stopped if isinstance(each, BreakerOpen)]
    if sources and len(open_breakers) == len(sources):
        raise min(open_breakers, key=lambda each: each.next_attempt_at)
    with context.unit_of_work() as uow:
        added = news.add(uow.connection, list(stories.values()), uow.now)
    return {"headlines_added": added, "requests": read, "requests_failed": failed, "requests_deferred": len(stopped)}


def _read(source: Source) -> list[Headline] | Exception:
    """Return the headlines, or the failure of this source alone."""
    try:
        return source.read()
    except (BreakerOpen, RateLimited) as error:
        return error
    except (ProviderError, FetchFailed, OSError) as error:
        log.warning("news not fetched", source=source.name, error=str(error))
        return error


def _of_providers(context: ServiceContext, order: Order, wanted: Sequence[Followed], now: datetime) -> Iterable[Source]:
    """Ask the first provider of each instrument's class that has news, for as many at once as it takes."""
    groups: dict[str, tuple[Provider, list[Listed]]] = {}
    for each in wanted:
        order_of_class = order.get(each.listed.asset_class, ())
        provider = next((one for one in order_of_class if Part.NEWS in one.traits.parts), None)
        if provider is not None:
            groups.setdefault(provider.traits.name, (provider, []))[1].append(each.listed)
    for name, (provider, listed) in groups.items():
        for begin in range(0, len(listed), provider.traits.news_batch):
            some = listed[begin : begin + provider.traits.news_batch]
            call = partial(provider.news, some, now - LOOK_BACK)
            yield Source(name, partial(ask, context, provider, call))


def _of_feeds(
    context: ServiceContext, addresses: Sequence[str], wanted: Sequence[Followed], fetch: Fetch, now: datetime
) -> Iterable[Source]:
    """Fetch a feed with a place for a symbol once for each instrument, and any other once."""
    names = {each.listed.symbol: each.name for each in wanted}
    for address in addresses if wanted else ():
        for symbol in names if feeds.PLACE in address else (None,):
            url = address if symbol is None else feeds.address_of(address, symbol)
            host = urlsplit(url).netloc.rpartition("@")[2]
            yield Source(host, partial(_read_feed, context, host, url, fetch, names, symbol, now))


def _read_feed(
    context: ServiceContext,
    host: str,
    url: str,
    fetch: Fetch,
    names: Mapping[str, str],
    symbol: str | None,
    now: datetime,
) -> list[Headline]:
    """Raises BreakerOpen, RateLimited and FetchFailed."""
    with Breaker(context, f"feed:{host}", counts=lambda error: isinstance(error, HostDown)):
        limit = RateLimit(context, f"feed:{host}", allowed=FEED_RATE, period=timedelta(minutes=1))
        limit.take(wait=timedelta(seconds=30))
        return feeds.headlines(fetch(url), names, symbol=symbol, now=now)


def _merge(
    stories: dict[str, Story],
    provider: str,
    headlines: Sequence[Headline],
    wanted: set[str],
    now: datetime,
    keep: timedelta,
) -> None:
    """Add the headlines that are about wanted symbols and are not too old, each once with all of its symbols."""
    titles = {story.title_key: story for story in stories.values()}
    for headline in headlines:
        symbols = tuple(symbol for symbol in dict.fromkeys(headline.symbols) if symbol in wanted)
        story = _story(headline, provider, symbols, now)
        if story is None or not symbols or story.published_at < now - keep:
            continue
        there = stories.get(story.url_key) or titles.get(story.title_key)
        if there is not None and (
            there.url_key == story.url_key or abs(there.published_at - story.published_at) <= _DAY
        ):
            story = replace(there, symbols=tuple(dict.fromkeys((*there.symbols, *symbols))))
        stories[story.url_key] = titles[story.title_key] = story


def _story(headline: Headline, provider: str, symbols: tuple[str, ...], now: datetime) -> Story | None:
    """Return the headline as plain text with its sentiment. None if it has no title or no address on the web."""
    url_key = canonical_url(headline.url)
    title = plain_text(headline.title, LONGEST_TITLE)
    if url_key is None or not title or len(headline.url) > LONGEST_URL:
        return None
    summary = plain_text(headline.summary, LONGEST_SUMMARY)
    source = plain_text(headline.source, LONGEST_SOURCE) or provider
    own = headline.score is not None and isfinite(headline.score) and abs(headline.score) <= 1
    return Story(
        id=uuid5(NAMESPACE_URL, url_key),
        title=title,
        summary=summary,
        url=headline.url.strip(),
        source=source,
        provider=provider,
        published_at=min(headline.published_at, now),
        score=headline.score if own and headline.score is not None else score(title, summary),
        scored_by="provider" if own else "lexicon",
        url_key=url_key,
        title_key=title_key(title, source),
        symbols=symbols,
    )
