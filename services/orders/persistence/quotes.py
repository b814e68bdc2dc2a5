"""Prices and the orders that they concern: applying them, finding those that are missing, and consumed liquidity."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal
from operator import attrgetter
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, text

from services.orders.persistence.orders import Concerned, GroupKey
from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.prices import Price
from shared.exchange.matching.liquidity import Liquidity, Pool
from shared.storage.driver import Call, column, fetch, numbers
from shared.storage.tables import Table, typed

Columns = dict[str, Any]
#: An event about a price may be on its way for this long. Later the price counts as missed.
ON_ITS_WAY = timedelta(seconds=10)
#: Bars that are read at a time.
BARS_AT_ONCE = 10_000


def split_quote(connection: Connection, symbol: str, split_count: int, effective_at: datetime) -> None:
    """Let prices after the split be applied from now on, and no more bars before it. Others wait meanwhile."""
    connection.execute(_ADJUST_QUOTE, {"symbol": symbol, "split_count": split_count, "effective_at": effective_at})


class Trailing(NamedTuple):
    """A trailing stop that has a better price to follow. Its fields are in the order of the locks."""

    account_id: UUID
    order_group: UUID
    id: UUID
    symbol: str


class _Candidate(NamedTuple):
    """An open order that a price may fill where it is ``reached``, or a trailing stop with the ``id`` to follow it."""

    account_id: UUID
    order_group: UUID
    id: UUID | None
    symbol: str
    reached: bool


class _Symbol(NamedTuple):
    symbol: str


class Applied(NamedTuple):
    """The orders that prices are about.

    ``late`` are symbols of which something later was applied, or a split before the price is missing. ``concerned`` are
    the order groups of the open orders that a price may fill. ``trailing`` are those that it moves, also where it is
    late.
    """

    late: set[str]
    concerned: Concerned
    trailing: Sequence[Trailing]


def apply_in_order(uow: UnitOfWork, prices: Columns) -> Applied:
    """Apply the prices that are not late. ``prices`` is as ``columns`` makes it.

    Orders are found by index: resting ones cost nothing. Others wait for the same symbols meanwhile.
    """
    missed, rows = uow.begin((_APPLY, prices), (_CONCERNED, prices))
    late = {each.symbol for each in typed(_Symbol, missed)}
    concerned: dict[str, list[GroupKey]] = {}
    trailing: list[Trailing] = []
    for account_id, order_group, id_, symbol, reached in typed(_Candidate, rows):
        if reached and symbol not in late:
            concerned.setdefault(symbol, []).append((account_id, order_group))
        if id_ is not None:
            trailing.append(Trailing(account_id, order_group, id_, symbol))
    return Applied(late, concerned, trailing)


def following_best(trailing: Sequence[Trailing], prices: Mapping[str, Price]) -> list[Call]:
    """The statement by which trailing stops follow the prices, or none. Orders that were concerned have done so."""
    followed = sorted(each for each in trailing if each.symbol in prices)
    if not followed:
        return []
    seen = [prices[each.symbol] for each in followed]
    columns = {
        "accounts": [each.account_id for each in followed],
        "ids": [each.id for each in followed],
        "lasts": numbers(price.last for price in seen),
        "highs": numbers(price.high for price in seen),
        "lows": numbers(price.low for price in seen),
        "sinces": [price.since for price in seen],
    }
    return [(_FOLLOW, columns)]


def columns(prices: Collection[Price]) -> Columns:
    """The prices as parameters of a statement, by symbol, which is the order of the locks."""
    ordered = sorted(prices, key=attrgetter("symbol"))
    return {
        "symbols": column("text", [price.symbol for price in ordered]),
        "sequences": column("bigint", [price.sequence for price in ordered]),
        "split_counts": column("int", [price.split_count for price in ordered]),
        "bids": numbers(price.bid for price in ordered),
        "asks": numbers(price.ask for price in ordered),
        "lasts": numbers(price.last for price in ordered),
        "highs": numbers(price.high for price in ordered),
        "lows": numbers(price.low for price in ordered),
        "times": column("timestamptz", [price.quoted_at for price in ordered]),
        "sinces": column("timestamptz", [price.since for price in ordered]),
    }


class _ConsumedRow(NamedTuple):
    symbol: str
    pool: str
    qty: Decimal


_CONSUMED = Table("orders.consumed", _ConsumedRow, key=("symbol", "pool"))
_saving_consumed = _CONSUMED.update(_ConsumedRow, "qty")


def lock_consumed(connection: Connection, prices: Mapping[str, Price]) -> dict[Pool, Decimal]:
    """The liquidity of each of these price updates that our orders consumed. Others wait for the symbols meanwhile."""
    ordered = [prices[symbol] for symbol in sorted(prices)]
    columns = {
        "symbols": [price.symbol for price in ordered],
        "sequences": [price.sequence for price in ordered],
        "times": [price.quoted_at for price in ordered],
    }
    return {(row.symbol, row.pool): row.qty for row in typed(_ConsumedRow, fetch(connection, _LOCK_CONSUMED, columns))}


def saving_consumed(liquidity: Liquidity) -> Call:
    """The statement that writes what an execution consumed. Its rows are locked, and of the update at hand."""
    return _saving_consumed([_ConsumedRow(*pool, liquidity.consumed[pool]) for pool in sorted(liquidity.touched)])


def prices_with_open_orders(connection: Connection) -> list[Price]:
    """The current price of each symbol that has an open order, from marketdata's view."""
    return [Price.model_validate(row._asdict()) for row in fetch(connection, _CURRENT_PRICES, {})]


def missed_bars(connection: Connection) -> list[Price]:
    """The stored bars between the last price that was applied and the current one, where updates lie between them.

    They are of symbols with open orders, and prices without a quote. Each symbol's are of its finest interval, without
    bars that reach into a halt. They come in the order of their ends and not all at once: when these are applied, there
    may be more.
    """
    wanted = {"on_its_way": f"{ON_ITS_WAY.total_seconds()} seconds", "most": BARS_AT_ONCE}
    return [Price.model_validate(row._asdict()) for row in fetch(connection, _MISSED, wanted)]


_APPLY = """
WITH applied AS (
  INSERT INTO orders.quotes AS q (symbol, sequence, quoted_at, split_count)
  SELECT v.symbol, v.sequence, v.quoted_at, v.split_count
  FROM unnest(%(symbols)b::text[], %(sequences)b::bigint[], %(times)b::timestamptz[], %(split_counts)b::int[])
    AS v (symbol, sequence, quoted_at, split_count)
  ON CONFLICT (symbol) DO UPDATE SET sequence = excluded.sequence, quoted_at = excluded.quoted_at
  WHERE q.split_count >= excluded.split_count AND (
    q.sequence < excluded.sequence OR q.sequence = excluded.sequence AND q.quoted_at <= excluded.quoted_at)
  RETURNING symbol
)
SELECT symbol FROM unnest(%(symbols)b::text[]) AS symbol EXCEPT SELECT symbol FROM applied
"""
#: The symbols with open orders, from one to the next by index: however many orders a symbol has, one of them is read.
_TRADED = """
WITH RECURSIVE traded AS (
  (SELECT symbol FROM orders.orders WHERE works ORDER BY symbol LIMIT 1)
  UNION ALL
  SELECT next.symbol FROM traded CROSS JOIN LATERAL (
    SELECT o.symbol FROM orders.orders o WHERE o.works AND o.symbol > traded.symbol ORDER BY o.symbol LIMIT 1
  ) next
)"""
#: A replayed bar ends when it is stored, a bar of a minute at its end. A bar from before the last price is not whole.
_MISSED = f"""
{_TRADED}, behind AS (
  SELECT i.symbol, i.quoted_at, q.sequence, q.quoted_at AS applied_at
  FROM traded JOIN marketdata.instruments_v1 i ON i.symbol = traded.symbol
  JOIN orders.quotes q ON q.symbol = i.symbol AND i.sequence > q.sequence + 1
    AND i.quoted_at > q.quoted_at + CAST(%(on_its_way)s AS interval) AND i.split_count = q.split_count
), bars AS (
  SELECT b.*, n.sequence, n.quoted_at AS until,
         CASE b.interval WHEN 'replay' THEN b.start_at ELSE b.start_at + interval '1 minute' END AS ends_at,
         CASE b.interval WHEN 'replay'
              THEN lag(b.start_at, 1, n.applied_at) OVER (PARTITION BY b.symbol, b.interval ORDER BY b.start_at)
              ELSE b.start_at END AS since,
         bool_or(b.interval = 'replay') OVER (PARTITION BY b.symbol) AS replayed
  FROM behind n JOIN marketdata.bars_v1 b
    ON b.symbol = n.symbol AND b.interval IN ('replay', '1m')
    AND b.start_at >= n.applied_at AND b.start_at < n.quoted_at
    AND (b.interval = '1m' OR b.start_at > n.applied_at)
)
SELECT symbol, open, high, low, close AS last, close, volume, provider, sequence, ends_at AS quoted_at, since
FROM bars b WHERE (interval = 'replay') = replayed AND ends_at < until
  AND NOT EXISTS (SELECT FROM marketdata.halts_v1 h WHERE h.symbol = b.symbol AND h.began_at < b.ends_at
                    AND COALESCE(h.ended_at, 'infinity') > b.since)
ORDER BY ends_at, symbol LIMIT %(most)s
"""
_ADJUST_QUOTE = text("""
INSERT INTO orders.quotes AS q (symbol, sequence, quoted_at, split_count)
VALUES (:symbol, 0, :effective_at, :split_count)
ON CONFLICT (symbol) DO UPDATE SET split_count = GREATEST(q.split_count, excluded.split_count),
  quoted_at = GREATEST(q.quoted_at, excluded.quoted_at)
""")
_PRICES = """
unnest(%(symbols)b::text[], %(bids)s::numeric[], %(asks)s::numeric[], %(lasts)s::numeric[],
       %(highs)s::numeric[], %(lows)s::numeric[], %(times)b::timestamptz[],
       %(sinces)b::timestamptz[]) AS p (symbol, bid, ask, last, high, low, quoted_at, since)
"""
#: The index is searched with the extreme price of the update; what is left then is compared with the one that counts.
_IN_BAR = "(o.on_bar AND o.active_at <= p.since)"
_RESTS = "(o.type = 'limit' OR o.type = 'stop_limit' AND o.triggered)"
#: The best price that a trailing stop has seen with this one.
_BEST = f"""
CASE o.side WHEN 'sell' THEN GREATEST(o.hwm, CASE WHEN {_IN_BAR} THEN p.high ELSE p.last END)
            ELSE LEAST(o.hwm, CASE WHEN {_IN_BAR} THEN p.low ELSE p.last END) END
"""
#: A bar may lift a trailing stop and then reach it. Where it does not lift it, the trigger_price says if it is reached.
_TRAILING = f"""
SELECT o.account_id, o.order_group, CASE WHEN o.hwm <> {_BEST} THEN o.id END AS id,
       {_IN_BAR} AND CASE o.side
         WHEN 'sell' THEN p.last <= GREATEST(o.hwm, p.high)
                       - COALESCE(o.trail_price, GREATEST(o.hwm, p.high) * o.trail_percent / 100)
         ELSE p.last >= LEAST(o.hwm, p.low)
                       + COALESCE(o.trail_price, LEAST(o.hwm, p.low) * o.trail_percent / 100) END AS reached
FROM orders.orders o WHERE o.symbol = p.symbol AND o.trails AND o.active_at < p.quoted_at
"""
_WAITS = "o.works AND o.active_at < p.quoted_at"
_CONCERNED = f"""
SELECT o.account_id, o.order_group, o.id, p.symbol, o.reached FROM {_PRICES}
CROSS JOIN LATERAL (
  SELECT account_id, order_group, CAST(NULL AS uuid) AS id, true AS reached FROM orders.orders o
  WHERE o.symbol = p.symbol AND o.trigger_direction = 'below' AND {_WAITS}
    AND o.trigger_price >= LEAST(p.low, p.last, p.ask)
    AND ({_IN_BAR} OR o.trigger_price >= CASE WHEN {_RESTS} THEN COALESCE(p.ask, p.last) ELSE p.last END)
  UNION ALL
  SELECT account_id, order_group, NULL, true FROM orders.orders o
  WHERE o.symbol = p.symbol AND o.trigger_direction = 'above' AND {_WAITS}
    AND o.trigger_price <= GREATEST(p.high, p.last, p.bid)
    AND ({_IN_BAR} OR o.trigger_price <= CASE WHEN {_RESTS} THEN COALESCE(p.bid, p.last) ELSE p.last END)
  UNION ALL
  {_TRAILING} AND o.side = 'sell' AND o.hwm < GREATEST(p.high, p.last)
  UNION ALL
  {_TRAILING} AND o.side = 'buy' AND o.hwm > LEAST(p.low, p.last)
) o
WHERE o.reached OR o.id IS NOT NULL
"""
_FOLLOW = f"""
WITH followed AS (
  SELECT o.account_id, o.id, o.hwm FROM unnest(
    %(accounts)b::uuid[], %(ids)b::uuid[], %(lasts)s::numeric[], %(highs)s::numeric[], %(lows)s::numeric[],
    %(sinces)b::timestamptz[]) AS p (account_id, id, last, high, low, since)
  CROSS JOIN LATERAL (
    SELECT o.account_id, o.id, {_BEST} AS hwm FROM orders.orders o
    WHERE o.account_id = p.account_id AND o.id = p.id AND o.trails FOR UPDATE
  ) o
)
UPDATE orders.orders o SET hwm = followed.hwm, trigger_price = followed.hwm
  + CASE o.side WHEN 'sell' THEN -1 ELSE 1 END * COALESCE(o.trail_price, followed.hwm * o.trail_percent / 100)
FROM followed
WHERE o.account_id = followed.account_id AND o.id = followed.id AND o.hwm <> followed.hwm
"""
_LOCK_CONSUMED = """
INSERT INTO orders.consumed AS t (symbol, pool, sequence, quoted_at, qty)
SELECT symbol, pool, sequence, quoted_at, 0
FROM unnest(%(symbols)b::text[], %(sequences)b::bigint[], %(times)b::timestamptz[])
  AS wanted (symbol, sequence, quoted_at)
CROSS JOIN unnest(ARRAY['ask', 'bid', 'bar']) AS pool
ORDER BY symbol, pool
ON CONFLICT (symbol, pool) DO UPDATE SET sequence = excluded.sequence, quoted_at = excluded.quoted_at,
  qty = CASE WHEN (t.sequence, t.quoted_at) = (excluded.sequence, excluded.quoted_at) THEN t.qty ELSE 0 END
RETURNING symbol, pool, qty
"""
_CURRENT_PRICES = f"""
{_TRADED}
SELECT symbol, bid, ask, bid_size, ask_size, last, COALESCE(open, last) AS open, COALESCE(high, last) AS high,
       COALESCE(low, last) AS low, last AS close, COALESCE(volume, 0) AS volume, quoted_at, since, sequence,
       split_count, provider
FROM traded JOIN marketdata.instruments_v1 USING (symbol)
WHERE last IS NOT NULL AND sequence > 0
"""
