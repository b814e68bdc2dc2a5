"""``/api/news``: the stored headlines with their sentiment."""

from uuid import UUID

from pydantic import AwareDatetime, BaseModel, ConfigDict

from services.gateway.http.auth import READ
from services.gateway.http.endpoints import Endpoint
from services.gateway.http.pagination import Page, StretchQuery, TimeCursor, page_of
from services.gateway.http.requests import Gateway
from services.gateway.http.schemas import AnyCaseSymbol
from shared.storage.keyset import Keyset


class NewsItem(BaseModel):
    """A headline. Its ``score`` goes from -1, very negative, to 1. ``scored_by`` is ``provider`` or ``lexicon``."""

    model_config = ConfigDict(frozen=True)

    id: UUID
    title: str
    summary: str
    url: str
    source: str
    provider: str
    symbols: list[str]
    published_at: AwareDatetime
    received_at: AwareDatetime
    score: float
    scored_by: str


class NewsPage(Page[NewsItem]):
    """Headlines, the last one published first."""


class NewsQuery(StretchQuery):
    cursor: TimeCursor | None = None
    symbol: AnyCaseSymbol | None = None


async def get_news(gateway: Gateway, query: NewsQuery) -> NewsPage:
    """List the headlines about held and followed symbols, the last one published first.

    A score of the lexicon says how the English words of a headline sound, and nothing else.
    """
    return await page_of(gateway, _NEWS.page, query, NewsPage, ("published_at", "id"))


_NEWS = Keyset(
    """
    SELECT id, title, summary, url, source, provider, published_at, received_at, score, scored_by,
           ARRAY(SELECT s.symbol FROM marketdata.news_symbols_v1 s WHERE s.news_id = n.id ORDER BY 1) AS symbols
    FROM marketdata.news_v1 n
    """,
    ("published_at", "id"),
    {
        "symbol": "id IN (SELECT s.news_id FROM marketdata.news_symbols_v1 s WHERE s.symbol = :symbol)",
        "begin": "published_at >= :begin",
        "end": "published_at < :end",
    },
)
endpoints = (Endpoint("GET", "/api/news", get_news, READ),)
