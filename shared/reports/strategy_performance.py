"""The figures of one strategy, by the same code as those of its account.

A strategy has no money of its own. Its equity is that of the account as the time began, plus deposits, plus what the
strategy alone earned since then. The only strategy of an account, on which nobody else trades, has its equity.
"""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from itertools import accumulate
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from shared.money import ZERO, cents
from shared.performance import exposure
from shared.reports.performance import Asked, Stretch, performance_of, read_stretch
from shared.storage.keyset import records

Equity = list[tuple[datetime, Decimal]]


@dataclass(frozen=True)
class Holding:
    """Shares of today that the strategy held in a time, with their cost in the account's currency, and the outcome.

    Shares and cost of a short position are negative. ``closed_at`` is None while it is open.
    """

    symbol: str
    opened_at: datetime
    closed_at: datetime | None
    qty: Decimal
    cost: Decimal
    realized: Decimal


def strategy_performance(
    connection: Connection, strategy_id: UUID, created_at: datetime, asked: Asked, now: datetime
) -> dict[str, Any] | None:
    """Return the fields of the answer, or None for an unknown account. Without ``begin`` it is since the creation."""
    stretch = None
    if asked.begin is None:
        stretch = read_stretch(connection, replace(asked, by="strategy", begin=created_at), now)
        if stretch is not None and (not stretch.equity or stretch.equity[0][0] > created_at):
            stretch = None  # no value of the account is known from that time, but its first deposit is
    stretch = stretch or read_stretch(connection, replace(asked, by="strategy"), now)
    if stretch is None:
        return None
    group = str(strategy_id)
    found = _holdings(connection, strategy_id, stretch)
    equity = _equity(connection, strategy_id, stretch, found)
    own = replace(
        stretch,
        equity=equity,
        trips=[row for row in stretch.trips if row["group"] == group],
        traded={name: row for name, row in stretch.traded.items() if name == group},
        profits={name: profit for name, profit in stretch.profits.items() if name == group},
        exposure=exposure(
            [(each.opened_at, each.closed_at or stretch.end, each.cost) for each in found],
            stretch.begin,
            stretch.end,
            [value for _, value in equity],
        ),
    )
    return performance_of(connection, own)


def _holdings(connection: Connection, strategy_id: UUID, stretch: Stretch) -> list[Holding]:
    rows = records(connection, _HOLDINGS, strategy_id=strategy_id, **stretch.terms)
    if stretch.generation != stretch.account["generation"]:
        rows = [row for row in rows if row["closed_at"] is not None]
    return [Holding(**row) for row in rows]


def _equity(connection: Connection, strategy_id: UUID, stretch: Stretch, found: Sequence[Holding]) -> Equity:
    """The strategy's equity at the times of the account's."""
    if not stretch.equity:
        return []
    moments = [at for at, _ in stretch.equity]
    values = _values(connection, stretch, moments, found)
    fees = records(connection, _FEES, strategy_id=strategy_id, **stretch.terms)
    happened = [(each.closed_at, each.realized) for each in found if each.closed_at is not None]
    earned = _summed([*happened, *((row["at"], -row["fee"]) for row in fees)], moments)
    came = _summed([(flow.at, flow.amount) for flow in stretch.flows], moments)
    base = stretch.equity[0][1] - values[0] - earned[0]
    return [(at, cents(base + values[n] + earned[n] + came[n])) for n, at in enumerate(moments)]


def _summed(amounts: Iterable[tuple[datetime, Decimal]], moments: Sequence[datetime]) -> list[Decimal]:
    """The sum of the amounts until each of the moments, which are in order."""
    sums = [ZERO] * (len(moments) + 1)
    for at, amount in amounts:
        sums[bisect_left(moments, at)] += amount
    return list(accumulate(sums[:-1]))


def _values(
    connection: Connection, stretch: Stretch, moments: Sequence[datetime], found: Sequence[Holding]
) -> list[Decimal]:
    """The open profit at each moment: of current prices at the end, else of the newest closes before it."""
    held: dict[tuple[int, str], list[Holding]] = defaultdict(list)
    for each in found:
        end = len(moments) if each.closed_at is None else bisect_left(moments, each.closed_at)
        for number in range(bisect_left(moments, each.opened_at), end):
            held[number, each.symbol].append(each)
    prices = _prices(connection, stretch, moments, list(held))
    values = [ZERO] * len(moments)
    for place, holdings in held.items():
        price = prices[place]
        if price is not None:
            values[place[0]] += sum((each.qty * price - each.cost for each in holdings), ZERO)
    return values


def _prices(
    connection: Connection, stretch: Stretch, moments: Sequence[datetime], wanted: Sequence[tuple[int, str]]
) -> Mapping[tuple[int, str], Decimal | None]:
    """The price of each wanted moment and symbol in the account's currency, None where no bar or rate is known."""
    given = {
        "symbols": [symbol for _, symbol in wanted],
        "moments": [moments[number] for number, _ in wanted],
        "currency": stretch.account["currency"],
        "now": stretch.end if stretch.asked.end is None else None,
    }
    rows = records(connection, _PRICES, **given)
    return {place: row["price"] for place, row in zip(wanted, rows, strict=True)}


#: Round trips have the shares of their day, which splits after it have changed.
_HOLDINGS = text("""
SELECT r.symbol, r.opened_at, r.closed_at,
       CASE r.side WHEN 'long' THEN r.qty ELSE -r.qty END * COALESCE(
         (SELECT marketdata.product(s.new_shares) / marketdata.product(s.old_shares) FROM marketdata.adjustments_v1 s
          WHERE s.symbol = r.symbol AND s.kind = 'split' AND s.effective_at > r.closed_at), 1) AS qty,
       CASE r.side WHEN 'long' THEN r.cost ELSE -r.proceeds END AS cost, r.realized_pl AS realized
FROM orders.round_trips_v1 r
WHERE r.account_id = :account_id AND r.entry_strategy_id = :strategy_id AND r.generation = :generation
  AND r.closed_at >= :begin AND r.opened_at <= :end
UNION ALL
SELECT l.symbol, l.opened_at, NULL, l.qty, l.cost, 0
FROM orders.lots_v1 l
WHERE l.account_id = :account_id AND l.strategy_id = :strategy_id AND l.opened_at <= :end
""")
_FEES = text("""
SELECT f.filled_at AS at, f.fee FROM orders.fills_v1 f
JOIN orders.orders_v1 o ON o.account_id = f.account_id AND o.id = f.order_id
WHERE f.account_id = :account_id AND o.strategy_id = :strategy_id AND f.generation = :generation
  AND f.filled_at >= :begin AND f.filled_at <= :end AND f.fee <> 0
""")
#: The newest close of the longest interval, in today's shares. The price of the present moment is the current one.
_PRICES = text("""
WITH wanted AS (
  SELECT k.place, k.symbol, k.at, i.last, i.currency, r.symbol AS pair, r.last AS rate
  FROM unnest(CAST(:symbols AS text[]), CAST(:moments AS timestamptz[])) WITH ORDINALITY AS k (symbol, at, place)
  LEFT JOIN marketdata.instruments_v1 i ON i.symbol = k.symbol
  LEFT JOIN marketdata.rates_v1 r ON r.currency = i.currency AND r.account_currency = :currency
    AND i.currency <> :currency
)
SELECT CASE WHEN w.at = CAST(:now AS timestamptz) THEN w.last ELSE COALESCE(own.close, w.last) END
       * CASE WHEN w.pair IS NULL THEN CASE WHEN w.currency = :currency THEN 1 END
              WHEN w.at = CAST(:now AS timestamptz) OR pair.close IS NULL THEN w.rate
              WHEN split_part(w.pair, '/', 1) = w.currency THEN pair.close ELSE 1 / pair.close END AS price
FROM wanted w
LEFT JOIN LATERAL (SELECT b.close FROM (VALUES (1, '1d'), (2, '1h'), (3, '1m'), (4, 'replay')) AS i (place, interval)
  CROSS JOIN LATERAL (
    SELECT b.close FROM marketdata.bars_v2 b WHERE b.symbol = w.symbol AND b.interval = i.interval
      AND b.start_at <= w.at AND b.start_at > w.at - interval '10 days' ORDER BY b.start_at DESC LIMIT 1
  ) b ORDER BY i.place LIMIT 1) own ON true
LEFT JOIN LATERAL (SELECT b.close FROM (VALUES (1, '1d'), (2, '1h'), (3, '1m')) AS i (place, interval)
  CROSS JOIN LATERAL (
    SELECT b.close FROM marketdata.bars_v2 b WHERE b.symbol = w.pair AND b.interval = i.interval
      AND b.start_at <= w.at AND b.start_at > w.at - interval '10 days' ORDER BY b.start_at DESC LIMIT 1
  ) b ORDER BY i.place LIMIT 1) pair ON true
ORDER BY w.place
""")
