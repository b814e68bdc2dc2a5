"""News: the instruments that it is fetched for, and its rows, in a few statements whatever their number."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection, text

from services.marketdata.persistence.columns import columns
from services.marketdata.providers.provider import Listed
from shared.contracts.instruments import AssetClass


@dataclass(frozen=True)
class Followed:
    """An instrument that is held or on a watchlist, or that has indicators."""

    listed: Listed
    name: str


@dataclass(frozen=True)
class Story:
    """A headline to store, with its sentiment. ``url_key`` and ``title_key`` tell whether it is there already."""

    id: UUID
    title: str
    summary: str
    url: str
    source: str
    provider: str
    published_at: datetime
    score: float
    scored_by: str
    url_key: str
    title_key: str
    symbols: tuple[str, ...]


def followed(connection: Connection, most: int) -> list[Followed]:
    """Return the instruments whose news is fetched: those that are held first, then those on watchlists."""
    there = connection.execute(_THERE).one()
    held = list(connection.execute(_HELD).scalars()) if there.orders else []
    watched = list(connection.execute(_WATCHED).scalars()) if there.gateway else []
    rows = connection.execute(_FOLLOWED, {"held": held, "watched": watched, "most": most})
    return [
        Followed(Listed(row.symbol, row.market, AssetClass(row.asset_class), row.currency), row.name) for row in rows
    ]


def add(connection: Connection, stories: Sequence[Story], now: datetime) -> int:
    """Store the stories that are not there yet, and return their number.

    A story is there if one has its address, or its title in the same source within a day. Its symbols are added to it.
    """
    if not stories:
        return 0
    connection.execute(_LOCK)
    names = ("id", "title", "summary", "url", "source", "provider", "published_at", "score", "scored_by")
    pairs = [(story.id, symbol) for story in stories for symbol in story.symbols]
    given = {
        **columns(stories, *names, "url_key", "title_key"),
        "about_ids": [story for story, _ in pairs],
        "about_symbols": [symbol for _, symbol in pairs],
        "now": now,
    }
    added: int = connection.execute(_ADD, given).scalar_one()
    return added


_THERE = text("""
SELECT COALESCE(has_table_privilege(to_regclass('orders.positions_v1'), 'SELECT'), false) AS orders,
       COALESCE(has_table_privilege(to_regclass('gateway.watchlist_symbols_v1'), 'SELECT'), false) AS gateway
""")
_HELD = text("SELECT DISTINCT symbol FROM orders.positions_v1")
_WATCHED = text("SELECT symbol FROM gateway.watchlist_symbols_v1")
_FOLLOWED = text("""
SELECT i.symbol, i.name, i.market, i.asset_class, i.currency FROM marketdata.instruments i
WHERE i.symbol = ANY(:held) OR i.symbol = ANY(:watched)
   OR EXISTS (SELECT FROM marketdata.indicators n WHERE n.symbol = i.symbol)
ORDER BY i.symbol = ANY(:held) DESC, i.symbol = ANY(:watched) DESC, i.symbol LIMIT :most
""")
#: Two updates at once, such as after one was taken for lost, must not both find that a title is new.
_LOCK = text("SELECT pg_advisory_xact_lock(hashtext('marketdata.news'))")
_ADD = text("""
WITH given AS (
  SELECT g.*, COALESCE(by_url.id, by_title.id) AS known
  FROM unnest(CAST(:id AS uuid[]), CAST(:title AS text[]), CAST(:summary AS text[]), CAST(:url AS text[]),
              CAST(:source AS text[]), CAST(:provider AS text[]), CAST(:published_at AS timestamptz[]),
              CAST(:score AS float8[]), CAST(:scored_by AS text[]), CAST(:url_key AS text[]),
              CAST(:title_key AS text[]))
    AS g (id, title, summary, url, source, provider, published_at, score, scored_by, url_key, title_key)
  LEFT JOIN marketdata.news by_url ON by_url.url_key = g.url_key
  LEFT JOIN LATERAL (
    SELECT n.id FROM marketdata.news n
    WHERE n.title_key = g.title_key
      AND n.published_at BETWEEN g.published_at - interval '1 day' AND g.published_at + interval '1 day'
    LIMIT 1
  ) by_title ON true
), added AS (
  INSERT INTO marketdata.news (id, title, summary, url, source, provider, published_at, received_at, score, scored_by,
                               url_key, title_key)
  SELECT id, title, summary, url, source, provider, published_at, :now, score, scored_by, url_key, title_key
  FROM given WHERE known IS NULL
  RETURNING id
), about AS (
  INSERT INTO marketdata.news_symbols (news_id, symbol)
  SELECT COALESCE(g.known, g.id), a.symbol
  FROM unnest(CAST(:about_ids AS uuid[]), CAST(:about_symbols AS text[])) AS a (id, symbol)
  JOIN given g ON g.id = a.id
  ON CONFLICT DO NOTHING
)
SELECT count(*) FROM added
""")
