"""RSS and Atom feeds as headlines. feedparser reads them, broken ones too, and fetches nothing itself."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from io import BytesIO
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

import feedparser  # type: ignore[import-untyped]

from services.marketdata.news.fetch import FetchFailed, Page
from services.marketdata.news.text import (
    LONGEST_SOURCE,
    LONGEST_SUMMARY,
    LONGEST_TITLE,
    LONGEST_URL,
    canonical_url,
    mentioned,
    plain_text,
)
from services.marketdata.providers.provider import Headline

#: Entries of a feed that are read.
MOST_ENTRIES = 200
#: In a feed's address, it stands for a symbol.
PLACE = "{symbol}"
#: A time may be ahead of our clock by this much.
AHEAD = timedelta(minutes=5)


def address_of(feed: str, symbol: str) -> str:
    return feed.replace(PLACE, quote(symbol, safe=""))


def headlines(page: Page, names: Mapping[str, str], *, symbol: str | None, now: datetime) -> list[Headline]:
    """Return the headlines of a feed that are about one of ``names``, symbol → the instrument's name.

    All those of a ``symbol``'s own feed are about it. Others must mention one. A date that is missing, cannot be read
    or is ahead of our clock is the time of arrival. Raises FetchFailed if the page is no feed.
    """
    headers = {"content-type": page.content_type, "content-location": page.url}
    feed = feedparser.parse(BytesIO(page.body), response_headers=headers)
    host = urlsplit(page.url).hostname or ""
    if not feed.entries and not feed.get("version"):
        raise FetchFailed(f"{host} answers with something that is no RSS or Atom feed; check the feed's address")
    source = plain_text(str(feed.feed.get("title") or ""), LONGEST_SOURCE) or host
    found = (_headline(entry, page.url, source, names, symbol, now) for entry in feed.entries[:MOST_ENTRIES])
    return [headline for headline in found if headline is not None]


def _headline(
    entry: Any, base: str, source: str, names: Mapping[str, str], symbol: str | None, now: datetime
) -> Headline | None:
    """Return the entry as a headline. None if it has no title or no address, or is about no symbol of ours."""
    title = plain_text(str(entry.get("title") or ""), LONGEST_TITLE)
    url = urljoin(base, str(entry.get("link") or entry.get("id") or "").strip())
    symbols: Sequence[str] = (symbol,) if symbol is not None else mentioned(title, names)
    if not title or not symbols or url == base or len(url) > LONGEST_URL or canonical_url(url) is None:
        return None
    own_source = entry.get("source")
    its_source = plain_text(str(own_source.get("title") or ""), LONGEST_SOURCE) if own_source else ""
    return Headline(
        title=title,
        url=url,
        published_at=_time_of(entry, now),
        symbols=tuple(symbols),
        source=its_source or source,
        summary=plain_text(str(entry.get("summary") or ""), LONGEST_SUMMARY),
    )


def _time_of(entry: Any, now: datetime) -> datetime:
    parsed = dict.get(entry, "published_parsed") or dict.get(entry, "updated_parsed")  # its own get warns of the second
    if parsed is None:
        return now
    try:
        year, month, day, hour, minute, second = parsed[:6]
        at = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except (ValueError, OverflowError, TypeError):
        return now
    return now if at > now + AHEAD else at
