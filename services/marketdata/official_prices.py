"""Official opens and closes are kept and told: each once, and the first that is known stays.

They come with a provider's quotes, from the first and last trades of a trading day, or from a hand that enters them.
None is kept of the time of a halt: there is no auction then.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, text

from services.marketdata.domain.official import NEAR, SETTLES, Bar, Official, TradingDay, first_trade, just_over
from services.marketdata.domain.quote import Quote
from services.marketdata.halts import covering
from services.marketdata.store import Update
from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.markets import MARKETS
from shared.contracts.official_prices import AuctionKind, EnterOfficialPrice, OfficialPricePublished

#: An official price that somebody entered names no provider.
BY_HAND = "hand"
#: So far back a day is looked for that ended before a price: over weekends and holidays.
LOOK_BACK = timedelta(days=14)
#: For so long after it has settled a close is looked for where no price came.
LOOKED_FOR = timedelta(hours=1)


def enter(uow: UnitOfWork, command: EnterOfficialPrice) -> int:
    return keep(uow, [Official(**command.model_dump(), provider=BY_HAND)])


def keep(uow: UnitOfWork, found: Sequence[Official]) -> int:
    """Write those of auctions that had no official price yet, and tell them; the number of them."""
    if not found:
        return 0
    names = ("symbol", "kind", "day", "price", "volume", "held_at", "provider")
    columns = {name: [getattr(official, name) for official in found] for name in names}
    rows = uow.connection.execute(_KEEP, {**columns, "now": uow.now}).mappings().all()
    for row in sorted(rows, key=lambda row: (row["held_at"], row["symbol"])):
        uow.publish(OfficialPricePublished.model_validate(dict(row)))
    return len(rows)


def note_trades(uow: UnitOfWork, quotes: Sequence[Quote], updates: Mapping[str, Update]) -> int:
    """Keep the official prices that these new prices tell, where their provider does not know them; the number."""
    markets = [market for market in {updates[quote.symbol].market for quote in quotes} if _closes(market)]
    if not markets:
        return 0
    days = _days(uow.connection, markets, uow.now - LOOK_BACK, uow.now)
    pairs = [(bar, days.get(market, [])) for market in markets for bar in _bars(quotes, updates, market)]
    opens = [first_trade(bar, its) for bar, its in pairs]
    over = [(bar.symbol, day) for bar, its in pairs if (day := just_over(bar, its)) is not None]
    return keep(uow, [*filter(None, opens), *last_trades(uow.connection, over)])


def _bars(quotes: Iterable[Quote], updates: Mapping[str, Update], market: str) -> list[Bar]:
    return [
        Bar(quote.symbol, quote.open, quote.volume, since, quote.quoted_at, quote.provider)
        for quote in quotes
        if updates[quote.symbol].market == market and (since := updates[quote.symbol].since) is not None
    ]


def _closes(market: str) -> bool:
    return market not in MARKETS or not MARKETS[market].always_open


def note_closes(uow: UnitOfWork) -> int:
    """Keep the official closes of days that are over, where no price came since; the number of them."""
    settled = uow.now - SETTLES
    rows = uow.connection.execute(_UNKNOWN_CLOSES, {"after": settled - LOOKED_FOR, "until": settled})
    wanted = [(row.symbol, TradingDay(row.market, row.day, row.open_at, row.close_at)) for row in rows]
    return keep(uow, last_trades(uow.connection, wanted))


def last_trades(connection: Connection, wanted: Sequence[tuple[str, TradingDay]]) -> list[Official]:
    """The last trade of each symbol near the day's close, from the stored bars; a day without one is left out.

    So is one at whose close the symbol was halted. Of a bar of a minute only its beginning is known: the trade was then
    or later.
    """
    if not wanted:
        return []
    columns = {
        "symbols": [symbol for symbol, _ in wanted],
        "days": [day.day for _, day in wanted],
        "closes": [day.close_at for _, day in wanted],
    }
    rows = connection.execute(_LAST_TRADES, {**columns, "near": NEAR})
    return [Official(row.symbol, AuctionKind.CLOSE, row.day, row.close, row.start_at, row.provider) for row in rows]


def _days(
    connection: Connection, markets: Sequence[str], first: datetime, last: datetime
) -> dict[str, list[TradingDay]]:
    days: dict[str, list[TradingDay]] = {}
    values: dict[str, Any] = {"markets": markets, "first": first, "last": last}
    for row in connection.execute(_DAYS, values):
        days.setdefault(row.market, []).append(TradingDay(row.market, row.day, row.open_at, row.close_at))
    return days


#: A split that took effect after the auction, and was applied before its price came, is not one of its shares'.
_KEEP = text(f"""
INSERT INTO marketdata.official_prices
  (symbol, kind, day, price, volume, held_at, provider, known_at, sequence, split_count)
SELECT v.symbol, v.kind, v.day, v.price, v.volume, v.held_at, v.provider, :now, GREATEST(i.sequence, 1),
       i.split_count - (SELECT count(*) FROM marketdata.corporate_actions c WHERE c.symbol = v.symbol
                       AND c.kind = 'split' AND c.applied_at IS NOT NULL AND c.effective_at > v.held_at)
FROM unnest(CAST(:symbol AS text[]), CAST(:kind AS text[]), CAST(:day AS date[]), CAST(:price AS numeric[]),
            CAST(:volume AS numeric[]), CAST(:held_at AS timestamptz[]), CAST(:provider AS text[]))
  AS v (symbol, kind, day, price, volume, held_at, provider)
JOIN marketdata.instruments i ON i.symbol = v.symbol
WHERE NOT {covering("v.symbol", "v.held_at")}
ON CONFLICT (symbol, day, kind) DO NOTHING
RETURNING symbol, kind, day, price, volume, held_at, provider, sequence, split_count
""")
_DAYS = text("""
SELECT market, day, open_at, close_at FROM marketdata.trading_days_v1
WHERE market = ANY(:markets) AND day BETWEEN CAST(:first AS date) - 1 AND CAST(:last AS date) + 1
ORDER BY market, day
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
