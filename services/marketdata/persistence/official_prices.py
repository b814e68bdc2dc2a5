"""Official opens and closes: their rows, and the trades of the stored bars that tell them."""

from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import Connection, text

from services.marketdata.domain.official import NEAR, Official, TradingDay
from services.marketdata.persistence.columns import columns
from services.marketdata.persistence.halts import covering
from shared.contracts.official_prices import AuctionKind, OfficialPricePublished


def add_official_prices(
    connection: Connection, found: Sequence[Official], now: datetime
) -> list[OfficialPricePublished]:
    """Add those of auctions that have no official price yet, and return them by time.

    An auction within a halt did not take place, so its price is left out.
    """
    given = columns(found, "symbol", "kind", "day", "price", "volume", "held_at", "provider")
    rows = connection.execute(_ADD, {**given, "now": now}).mappings().all()
    added = [OfficialPricePublished.model_validate(dict(row)) for row in rows]
    return sorted(added, key=lambda official: (official.held_at, official.symbol))


def unknown_closes(connection: Connection, after: datetime, until: datetime) -> list[tuple[str, TradingDay]]:
    """The symbols and days that closed within that time and have no official close."""
    rows = connection.execute(_UNKNOWN_CLOSES, {"after": after, "until": until})
    return [(row.symbol, TradingDay(row.market, row.day, row.open_at, row.close_at)) for row in rows]


def last_trades(connection: Connection, wanted: Sequence[tuple[str, TradingDay]]) -> list[Official]:
    """The last trade of each symbol near the day's close, from the stored bars.

    A day without such a trade is left out, and so is one at whose close the symbol was halted. Only the start of a
    one-minute bar is known, so its trade happened then or later.
    """
    if not wanted:
        return []
    values = {
        "symbols": [symbol for symbol, _ in wanted],
        "days": [day.day for _, day in wanted],
        "closes": [day.close_at for _, day in wanted],
        "near": NEAR,
    }
    rows = connection.execute(_LAST_TRADES, values)
    return [Official(row.symbol, AuctionKind.CLOSE, row.day, row.close, row.start_at, row.provider) for row in rows]


#: A corporate action that took effect after the auction, and was applied before its price came, does not count.
_ADD = text(f"""
INSERT INTO marketdata.official_prices
  (symbol, kind, day, price, volume, held_at, provider, known_at, sequence, split_count)
SELECT v.symbol, v.kind, v.day, v.price, v.volume, v.held_at, v.provider, :now, GREATEST(i.sequence, 1),
       i.split_count - (SELECT count(*) FROM marketdata.corporate_actions c WHERE c.symbol = v.symbol
                       AND (c.kind = 'split' AND c.applied_at IS NOT NULL OR c.split_count IS NOT NULL)
                       AND c.split_count IS DISTINCT FROM 0 AND c.effective_at > v.held_at)
FROM unnest(CAST(:symbol AS text[]), CAST(:kind AS text[]), CAST(:day AS date[]), CAST(:price AS numeric[]),
            CAST(:volume AS numeric[]), CAST(:held_at AS timestamptz[]), CAST(:provider AS text[]))
  AS v (symbol, kind, day, price, volume, held_at, provider)
JOIN marketdata.instruments i ON i.symbol = v.symbol
WHERE NOT {covering("v.symbol", "v.held_at")}
ON CONFLICT (symbol, day, kind) DO NOTHING
RETURNING symbol, kind, day, price, volume, held_at, provider, sequence, split_count
""")
_UNKNOWN_CLOSES = text("""
SELECT i.symbol, d.market, d.day, d.open_at, d.close_at FROM marketdata.trading_days_v1 d
JOIN marketdata.instruments i ON i.market = d.market AND i.tradable
WHERE d.day BETWEEN CAST(:after AS date) - 1 AND CAST(:until AS date) + 1
  AND d.close_at > :after AND d.close_at <= :until
  AND NOT EXISTS (SELECT FROM marketdata.official_prices p
                    WHERE p.symbol = i.symbol AND p.day = d.day AND p.kind = 'close')
""")
_LAST_TRADES = text(f"""
SELECT w.symbol, w.day, b.close, b.start_at, b.provider
FROM unnest(CAST(:symbols AS text[]), CAST(:days AS date[]), CAST(:closes AS timestamptz[]))
  AS w (symbol, day, close_at)
CROSS JOIN LATERAL (
  SELECT close, start_at, provider FROM marketdata.market_data b
  WHERE b.symbol = w.symbol AND b.volume > 0 AND b.start_at >= w.close_at - CAST(:near AS interval)
    AND (b.interval = 'replay' AND b.start_at <= w.close_at OR b.interval = '1m' AND b.start_at < w.close_at)
  ORDER BY b.start_at DESC LIMIT 1
) b
WHERE NOT {covering("w.symbol", "w.close_at")}
""")
