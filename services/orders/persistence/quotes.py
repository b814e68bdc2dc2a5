"""Prices and the orders that they concern: applying them, and finding those that are missing."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from operator import attrgetter
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import Connection, text

from services.orders.persistence.orders import Concerned, GroupKey
from shared.bus.unit_of_work import UnitOfWork
from shared.contracts.prices import SEQUENCES_AHEAD, SPLITS_AHEAD, Price
from shared.exchange.matching.matching import buy_side, sell_side
from shared.exchange.trading_days import Hours
from shared.storage.driver import Call, column, fetch, numbers
from shared.storage.tables import typed

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
    reached: bool
    symbol: str
    hours: Hours


class _Missed(NamedTuple):
    """A price that was not applied. ``ahead`` is true where its sequence is far ahead of all that are known."""

    symbol: str
    ahead: bool


class Applied(NamedTuple):
    """The orders that prices are about.

    ``late`` are symbols of which something later was applied, or a split before the price is missing. Those ``ahead``
    are late too: their sequence is so far ahead that no real price has it. ``concerned`` are the order groups of the
    open orders that a price may fill. ``trailing`` are those that it moves, also where it is late. ``hours`` are the
    sessions of the symbols that have any of them.
    """

    late: set[str]
    ahead: set[str]
    concerned: Concerned
    trailing: Sequence[Trailing]
    hours: Mapping[str, Hours]


def apply_in_order(uow: UnitOfWork, prices: Columns) -> Applied:
    """Apply the prices that are neither late nor far ahead. ``prices`` is as ``columns`` makes it.

    Orders are found by index: resting ones cost nothing. Others wait for the same symbols meanwhile.
    """
    missed, rows = uow.begin((_APPLY, prices), (_CONCERNED, prices))
    not_applied = typed(_Missed, missed)
    late = {each.symbol for each in not_applied}
    concerned: dict[str, list[GroupKey]] = {}
    trailing: list[Trailing] = []
    hours: dict[str, Hours] = {}
    for account_id, order_group, id_, reached, symbol, its_hours in typed(_Candidate, rows):
        hours[symbol] = its_hours
        if reached and symbol not in late:
            concerned.setdefault(symbol, []).append((account_id, order_group))
        if id_ is not None:
            trailing.append(Trailing(account_id, order_group, id_, symbol))
    return Applied(late, {each.symbol for each in not_applied if each.ahead}, concerned, trailing, hours)


def following_best(applied: Applied, prices: Mapping[str, Price]) -> list[Call]:
    """The statement by which trailing stops follow the prices, or none. Orders that were concerned have done so."""
    followed = sorted(each for each in applied.trailing if each.symbol in prices)
    if not followed:
        return []
    seen = [(prices[each.symbol], applied.hours[each.symbol]) for each in followed]
    columns = {
        "accounts": [each.account_id for each in followed],
        "ids": [each.id for each in followed],
        "lasts": numbers(price.last if hours.quote else None for price, hours in seen),
        "highs": numbers(price.high for price, _ in seen),
        "lows": numbers(price.low for price, _ in seen),
        "starts": column("timestamptz", [_start(price) if hours.bar else None for price, hours in seen]),
    }
    return [(_FOLLOW, columns)]


def columns(prices: Collection[Price]) -> Columns:
    """The prices as parameters of a statement, by symbol, which is the order of the locks."""
    ordered = sorted(prices, key=attrgetter("symbol"))
    return {
        "symbols": column("text", [price.symbol for price in ordered]),
        "sequences": column("bigint", [price.sequence for price in ordered]),
        "split_counts": column("int", [price.split_count for price in ordered]),
        "buys": numbers(buy_side(price) for price in ordered),
        "sells": numbers(sell_side(price) for price in ordered),
        "lasts": numbers(price.last for price in ordered),
        "opens": numbers(price.open for price in ordered),
        "highs": numbers(price.high for price in ordered),
        "lows": numbers(price.low for price in ordered),
        "times": column("timestamptz", [price.quoted_at for price in ordered]),
        "starts": column("timestamptz", [_start(price) for price in ordered]),
        "own_starts": [price.bar_start is not None for price in ordered],
    }


def _start(price: Price) -> datetime | None:
    """The start of the price's bar: its own, or else the previous update."""
    return price.bar_start or price.since


def prices_with_open_orders(connection: Connection) -> list[Price]:
    """The current price of each symbol that has an open order, from marketdata's view."""
    return [Price.model_validate(row._asdict()) for row in fetch(connection, _CURRENT_PRICES, {})]


def missed_bars(connection: Connection, stale: datetime) -> list[Price]:
    """The stored bars between the last price that was applied and the current one, where updates lie between them.

    They are of symbols with open orders, and prices without a quote. If the current price is older than ``stale``, its
    own bar is one of them, because nothing else fills on it any more. Each symbol's are of its finest interval, without
    bars that reach into a halt. They come in the order of their ends and not all at once: when these are applied, there
    may be more.
    """
    wanted = {"on_its_way": f"{ON_ITS_WAY.total_seconds()} seconds", "most": BARS_AT_ONCE, "stale": stale}
    return [Price.model_validate(row._asdict()) for row in fetch(connection, _MISSED, wanted)]


#: The sequence of marketdata's own row, which commits with the price: no real price is ahead of it.
_KNOWN = "(SELECT i.sequence FROM marketdata.instruments_v1 i WHERE i.symbol = {}.symbol)"
#: A forged sequence gives way to the price that marketdata has now. Real prices may be applied after the statement's
#: snapshot, but not so many.
_APPLY = f"""
WITH applied AS (
  INSERT INTO orders.quotes AS q (symbol, sequence, quoted_at, split_count)
  SELECT v.symbol, v.sequence, v.quoted_at, v.split_count
  FROM unnest(%(symbols)b::text[], %(sequences)b::bigint[], %(times)b::timestamptz[], %(split_counts)b::int[])
    AS v (symbol, sequence, quoted_at, split_count)
  WHERE v.sequence <= {SEQUENCES_AHEAD} AND v.split_count <= {SPLITS_AHEAD} OR EXISTS (
    SELECT FROM marketdata.instruments_v1 i
    WHERE i.symbol = v.symbol AND i.sequence >= v.sequence - {SEQUENCES_AHEAD}
      AND i.split_count >= v.split_count - {SPLITS_AHEAD})
  ON CONFLICT (symbol) DO UPDATE SET sequence = excluded.sequence, quoted_at = excluded.quoted_at
  WHERE q.split_count >= excluded.split_count AND (
    q.sequence < excluded.sequence AND (
      q.sequence >= excluded.sequence - {SEQUENCES_AHEAD} OR {_KNOWN.format("excluded")} >= excluded.sequence)
    OR q.sequence = excluded.sequence AND q.quoted_at <= excluded.quoted_at
    OR q.sequence > excluded.sequence + 1000 AND {_KNOWN.format("excluded")} = excluded.sequence)
  RETURNING symbol
)
SELECT v.symbol, v.sequence - {SEQUENCES_AHEAD} > GREATEST(
  0, {_KNOWN.format("v")}, (SELECT q.sequence FROM orders.quotes q WHERE q.symbol = v.symbol)) AS ahead
FROM unnest(%(symbols)b::text[], %(sequences)b::bigint[]) AS v (symbol, sequence)
WHERE NOT EXISTS (SELECT FROM applied WHERE applied.symbol = v.symbol)
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
  SELECT i.symbol, i.quoted_at, q.sequence, q.quoted_at AS applied_at, i.quoted_at < %(stale)s AS stale
  FROM traded JOIN marketdata.instruments_v1 i ON i.symbol = traded.symbol
  JOIN orders.quotes q ON q.symbol = i.symbol AND i.quoted_at > q.quoted_at + CAST(%(on_its_way)s AS interval)
    AND i.sequence > q.sequence + CASE WHEN i.quoted_at < %(stale)s THEN 0 ELSE 1 END AND i.split_count = q.split_count
), bars AS (
  SELECT b.*, n.sequence, n.quoted_at AS until, n.stale,
         CASE b.interval WHEN '1m' THEN b.start_at END AS bar_start,
         CASE b.interval WHEN 'replay' THEN b.start_at ELSE b.start_at + interval '1 minute' END AS ends_at,
         lag(CASE b.interval WHEN 'replay' THEN b.start_at ELSE b.start_at + interval '1 minute' END, 1, n.applied_at)
           OVER (PARTITION BY b.symbol, b.interval ORDER BY b.start_at) AS since,
         bool_or(b.interval = 'replay') OVER (PARTITION BY b.symbol) AS replayed
  FROM behind n JOIN marketdata.bars_v1 b
    ON b.symbol = n.symbol AND b.interval IN ('replay', '1m')
    AND b.start_at >= n.applied_at AND b.start_at <= n.quoted_at
    AND (b.interval = '1m' OR b.start_at > n.applied_at)
)
SELECT symbol, open, high, low, close AS last, close, volume, provider, sequence, ends_at AS quoted_at, since, bar_start
FROM bars b WHERE (interval = 'replay') = replayed AND (ends_at < until OR stale AND ends_at = until)
  AND NOT EXISTS (SELECT FROM marketdata.halts_v1 h WHERE h.symbol = b.symbol AND h.began_at < b.ends_at
                    AND COALESCE(h.ended_at, 'infinity') > COALESCE(b.bar_start, b.since))
ORDER BY ends_at, symbol LIMIT %(most)s
"""
_ADJUST_QUOTE = text("""
INSERT INTO orders.quotes AS q (symbol, sequence, quoted_at, split_count)
VALUES (:symbol, 0, :effective_at, :split_count)
ON CONFLICT (symbol) DO UPDATE SET split_count = GREATEST(q.split_count, excluded.split_count),
  quoted_at = GREATEST(q.quoted_at, excluded.quoted_at)
""")
#: Columns of a price with the sessions that it lies in, in the order of ``Hours``.
_HOURS = "p.bar, p.bar_extended, p.quote, p.quote_extended, p.opened_at, p.extended_opened_at"
#: The session at a time is the latest one that has begun. The sessions of New York have no gap during a day.
_SESSION = """
LEFT JOIN LATERAL (
  SELECT s.day, s.phase = 'regular' AS regular, s.open_at, s.close_at FROM marketdata.sessions_v2 s
  WHERE s.market = p.market AND s.open_at <= p.{at} ORDER BY s.open_at DESC LIMIT 1
) {name} ON true
LEFT JOIN LATERAL (
  SELECT min(d.open_at) AS open_at, max(d.close_at) AS close_at FROM marketdata.sessions_v2 d
  WHERE d.market = p.market AND d.day = {name}.day AND {name}.close_at > p.{at}
) {name}_day ON true
"""
#: A bar with a start of its own lies in the session in which it starts. Another one must also end in it.
_PRICES = f"""
WITH priced AS MATERIALIZED (
  SELECT p.*, i.market, m.always_open
  FROM unnest(%(symbols)b::text[], %(buys)s::numeric[], %(sells)s::numeric[], %(lasts)s::numeric[],
              %(opens)s::numeric[], %(highs)s::numeric[], %(lows)s::numeric[], %(times)b::timestamptz[],
              %(starts)b::timestamptz[], %(own_starts)b::boolean[])
    AS p (symbol, buy, sell, last, open, high, low, quoted_at, start_at, own_start)
  LEFT JOIN marketdata.instruments_v1 i ON i.symbol = p.symbol
  LEFT JOIN marketdata.markets_v1 m ON m.code = i.market
  WHERE (SELECT true FROM orders.orders o WHERE o.works AND o.symbol = p.symbol LIMIT 1)
), timed AS MATERIALIZED (
  SELECT p.symbol, p.buy, p.sell, p.last, p.open, p.high, p.low, p.quoted_at, p.start_at,
         true AS bar, true AS bar_extended, true AS quote, true AS quote_extended,
         CAST(NULL AS timestamptz) AS opened_at, CAST(NULL AS timestamptz) AS extended_opened_at
  FROM priced p WHERE p.always_open
  UNION ALL
  SELECT p.symbol, p.buy, p.sell, p.last, p.open, p.high, p.low, p.quoted_at, p.start_at,
         COALESCE(b.regular AND b.close_at > p.start_at AND (p.own_start OR p.quoted_at <= b.close_at), false),
         COALESCE(b.close_at > p.start_at AND (p.own_start OR p.quoted_at <= b_day.close_at), false),
         COALESCE(q.regular AND q.close_at > p.quoted_at, false), COALESCE(q.close_at > p.quoted_at, false),
         CASE WHEN q.regular THEN q.open_at WHEN b.regular THEN b.open_at END,
         COALESCE(q_day.open_at, b_day.open_at)
  FROM priced p {_SESSION.format(at="start_at", name="b")} {_SESSION.format(at="quoted_at", name="q")}
  WHERE NOT p.always_open
), prices AS MATERIALIZED (
  SELECT p.*, bar OR quote AS regular, NOT (bar OR quote) AND (bar_extended OR quote_extended) AS extended FROM timed p
)
"""
#: The index is searched with the extreme price of the update; what is left then is compared with the one that counts.
_IN_BAR = "(o.on_bar AND o.active_at <= p.start_at AND CASE WHEN o.extended_hours THEN p.bar_extended ELSE p.bar END)"
_ON_QUOTE = "(o.active_at < p.quoted_at AND CASE WHEN o.extended_hours THEN p.quote_extended ELSE p.quote END)"
_RESTS = "(o.type = 'limit' AND o.time_in_force IN ('day', 'gtc') OR o.type = 'stop_limit' AND o.triggered)"
#: The best price that a trailing stop has seen with this one.
_BEST = """
CASE o.side WHEN 'sell' THEN GREATEST(o.hwm, CASE WHEN {in_bar} THEN p.high END, {last})
            ELSE LEAST(o.hwm, CASE WHEN {in_bar} THEN p.low END, {last}) END
"""
_SEEN = _BEST.format(in_bar=_IN_BAR, last=f"CASE WHEN {_ON_QUOTE} THEN p.last END")
#: A bar may lift a trailing stop and then reach it, by its low after its open, or by its last price after its high.
#: Where it does not lift it, the trigger_price says if it is reached.
_TRAILING = f"""
SELECT o.account_id, o.order_group, CASE WHEN o.hwm <> {_SEEN} THEN o.id END AS id,
       {_IN_BAR} AND CASE o.side
         WHEN 'sell' THEN p.low <= GREATEST(o.hwm, p.open)
                       - COALESCE(o.trail_price, GREATEST(o.hwm, p.open) * o.trail_percent / 100)
                       OR p.last <= GREATEST(o.hwm, p.high)
                       - COALESCE(o.trail_price, GREATEST(o.hwm, p.high) * o.trail_percent / 100)
         ELSE p.high >= LEAST(o.hwm, p.open)
                       + COALESCE(o.trail_price, LEAST(o.hwm, p.open) * o.trail_percent / 100)
                       OR p.last >= LEAST(o.hwm, p.low)
                       + COALESCE(o.trail_price, LEAST(o.hwm, p.low) * o.trail_percent / 100) END AS reached
FROM orders.orders o WHERE o.symbol = CASE WHEN p.regular THEN p.symbol END AND o.trails AND o.active_at < p.quoted_at
"""
#: An order is found by another index while only orders with extended hours may fill: the key of the other is null then.
_BELOW = """
  SELECT account_id, order_group, CAST(NULL AS uuid) AS id, true AS reached FROM orders.orders o
  WHERE o.symbol = CASE WHEN p.{hours} THEN p.symbol END AND o.trigger_direction = 'below' AND o.{works}
    AND o.trigger_price >= LEAST(p.low, p.last, p.buy)
    AND ({in_bar} OR {on_quote} AND o.trigger_price >= CASE WHEN {rests} THEN p.buy ELSE p.last END)
"""
_ABOVE = """
  SELECT account_id, order_group, NULL, true FROM orders.orders o
  WHERE o.symbol = CASE WHEN p.{hours} THEN p.symbol END AND o.trigger_direction = 'above' AND o.{works}
    AND o.trigger_price <= GREATEST(p.high, p.last, p.sell)
    AND ({in_bar} OR {on_quote} AND o.trigger_price <= CASE WHEN {rests} THEN p.sell ELSE p.last END)
"""
_PARTS = {"in_bar": _IN_BAR, "on_quote": _ON_QUOTE, "rests": _RESTS}
_CONCERNED = f"""
{_PRICES}
SELECT o.account_id, o.order_group, o.id, o.reached, p.symbol, {_HOURS} FROM prices p
CROSS JOIN LATERAL (
  {_BELOW.format(hours="regular", works="works", **_PARTS)} UNION ALL
  {_ABOVE.format(hours="regular", works="works", **_PARTS)} UNION ALL
  {_BELOW.format(hours="extended", works="works_extended", **_PARTS)} UNION ALL
  {_ABOVE.format(hours="extended", works="works_extended", **_PARTS)} UNION ALL
  {_TRAILING} AND o.side = 'sell' AND o.hwm < GREATEST(p.high, p.last)
  UNION ALL
  {_TRAILING} AND o.side = 'buy' AND o.hwm > LEAST(p.low, p.last)
) o
WHERE o.reached OR o.id IS NOT NULL
"""
#: The bar and the last price are null where they lie outside of the session.
_FOLLOW = f"""
WITH followed AS (
  SELECT o.account_id, o.id, o.hwm FROM unnest(
    %(accounts)b::uuid[], %(ids)b::uuid[], %(lasts)s::numeric[], %(highs)s::numeric[], %(lows)s::numeric[],
    %(starts)b::timestamptz[]) AS p (account_id, id, last, high, low, start_at)
  CROSS JOIN LATERAL (
    SELECT o.account_id, o.id, {_BEST.format(in_bar="(o.on_bar AND o.active_at <= p.start_at)", last="p.last")} AS hwm
    FROM orders.orders o
    WHERE o.account_id = p.account_id AND o.id = p.id AND o.trails FOR UPDATE
  ) o
)
UPDATE orders.orders o SET hwm = followed.hwm, trigger_price = followed.hwm
  + CASE o.side WHEN 'sell' THEN -1 ELSE 1 END * COALESCE(o.trail_price, followed.hwm * o.trail_percent / 100)
FROM followed
WHERE o.account_id = followed.account_id AND o.id = followed.id AND o.hwm <> followed.hwm
"""
_CURRENT_PRICES = f"""
{_TRADED}
SELECT symbol, bid, ask, bid_size, ask_size, last, COALESCE(open, last) AS open, COALESCE(high, last) AS high,
       COALESCE(low, last) AS low, last AS close, COALESCE(volume, 0) AS volume, quoted_at, since, bar_start,
       sequence,
       split_count, provider
FROM traded JOIN marketdata.instruments_v1 USING (symbol)
WHERE last IS NOT NULL AND sequence > 0
"""
