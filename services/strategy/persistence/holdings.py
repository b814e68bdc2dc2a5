"""The strategies' own shares, open orders and results, from the views of orders.

The holding is the open lots that the strategy's orders opened. It leaves out shares that others bought on the
strategy's account: the strategy must not sell them. A reset of the account drops its lots, so they are always of its
present generation.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import Connection, text

from services.strategy.persistence.strategies import StrategyRow
from shared.money import ZERO

#: Strategy and symbol.
HoldingKey = tuple[UUID, str]


@dataclass(frozen=True, slots=True)
class Held:
    """Open lots in one symbol: negative shares are short. ``cost`` is in the account's currency."""

    qty: Decimal
    cost: Decimal
    entered_at: datetime


@dataclass
class Ordered:
    """The shares that open orders would buy and sell. ``exits`` are the orders of brackets that hold shares."""

    buying: Decimal = ZERO
    selling: Decimal = ZERO
    entries: list[UUID] = field(default_factory=list)
    exits: list[UUID] = field(default_factory=list)
    #: Those of ``entries`` that buy.
    buys: set[UUID] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class Results:
    """Profits of a strategy since it is watched, and its losing round trips since the last one that won."""

    realized: Decimal = ZERO
    losses: int = 0


def held(connection: Connection, strategies: Sequence[StrategyRow]) -> dict[HoldingKey, Held]:
    """The open lots of each strategy and symbol."""
    return {
        (row.strategy_id, row.symbol): Held(row.qty, row.cost, row.entered_at)
        for row in connection.execute(_HELD, _of(strategies))
    }


def positions(connection: Connection, strategies: Sequence[StrategyRow]) -> dict[HoldingKey, Decimal]:
    """The shares that the accounts of the strategies hold, whoever bought them: account and symbol → quantity."""
    return {(row.account_id, row.symbol): row.qty for row in connection.execute(_POSITIONS, _of(strategies))}


def ordered(connection: Connection, strategies: Sequence[StrategyRow], now: datetime) -> dict[HoldingKey, Ordered]:
    """The open orders of each strategy and symbol. An order that orders has not answered yet is open for a day."""
    found: dict[HoldingKey, Ordered] = {}
    for row in connection.execute(_ORDERED, {**_of(strategies), "now": now}):
        each = found.setdefault((row.strategy_id, row.symbol), Ordered())
        if row.leg is not None:
            each.exits.append(row.id)
            continue
        each.entries.append(row.id)
        if row.side == "buy":
            each.buys.add(row.id)
            each.buying += row.qty
        else:
            each.selling += row.qty
    return found


def results(connection: Connection, strategies: Sequence[StrategyRow]) -> dict[UUID, Results]:
    """The results of each strategy's round trips in the account's generation, since it is watched."""
    watched = [each for each in strategies if each.watch.since is not None]
    values = {**_of(watched), "since": [each.watch.since for each in watched]}
    return {row.id: Results(row.realized, row.losses) for row in connection.execute(_RESULTS, values)}


def closed_at(connection: Connection, strategies: Sequence[StrategyRow], since: datetime) -> dict[HoldingKey, datetime]:
    """The time of the last round trip of each strategy and symbol, of those that ended since then."""
    rows = connection.execute(_CLOSED, {**_of(strategies), "since": since})
    return {(row.strategy_id, row.symbol): row.closed_at for row in rows}


def entries_since(connection: Connection, since: Mapping[UUID, datetime]) -> dict[UUID, int]:
    """The number of orders that each strategy sent to enter a position since its time."""
    rows = connection.execute(_ENTRIES, {"ids": list(since), "since": list(since.values())})
    return {row.strategy_id: row.number for row in rows}


def _of(strategies: Sequence[StrategyRow]) -> dict[str, object]:
    return {
        "ids": [each.id for each in strategies],
        "accounts": [each.account_id for each in strategies],
        "account_ids": sorted({each.account_id for each in strategies}),
        "symbols": sorted({symbol for each in strategies for symbol in each.symbols}),
    }


_STRATEGIES = "unnest(CAST(:ids AS uuid[]), CAST(:accounts AS uuid[])) AS s (id, account_id)"
_HELD = text("""
SELECT l.strategy_id, l.symbol, sum(l.qty) AS qty, sum(l.cost) AS cost, min(l.opened_at) AS entered_at
FROM orders.lots_v1 l
WHERE l.account_id = ANY(:account_ids) AND l.symbol = ANY(:symbols) AND l.strategy_id = ANY(:ids)
GROUP BY l.strategy_id, l.symbol HAVING sum(l.qty) <> 0
""")
_POSITIONS = text("""
SELECT account_id, symbol, qty FROM orders.positions_v1
WHERE account_id = ANY(:account_ids) AND symbol = ANY(:symbols)
""")
_ORDERED = text("""
SELECT o.strategy_id, o.symbol, o.id, o.side, o.qty - o.filled_qty AS qty, o.leg
FROM orders.orders_v1 o
WHERE o.account_id = ANY(:account_ids) AND o.symbol = ANY(:symbols) AND o.strategy_id = ANY(:ids)
  AND o.status IN ('accepted', 'held', 'partially_filled') AND o.qty IS NOT NULL
UNION ALL
SELECT d.strategy_id, d.symbol, d.order_id, d.side, d.qty, NULL
FROM strategy.decisions d JOIN strategy.strategies s ON s.id = d.strategy_id
JOIN orders.accounts_v1 a ON a.id = s.account_id
WHERE d.strategy_id = ANY(:ids) AND d.symbol = ANY(:symbols) AND d.order_id IS NOT NULL
  AND d.at > CAST(:now AS timestamptz) - interval '1 day' AND d.at >= COALESCE(a.generation_at, '-infinity')
  AND NOT EXISTS (SELECT FROM orders.orders_v1 o WHERE o.account_id = s.account_id AND o.id = d.order_id)
""")
_RESULTS = text("""
SELECT s.id, COALESCE(sum(r.realized_pl), 0) AS realized,
       count(*) FILTER (WHERE r.realized_pl < 0
         AND (won.id IS NULL OR (r.closed_at, r.id) > (won.closed_at, won.id))) AS losses
FROM unnest(CAST(:ids AS uuid[]), CAST(:accounts AS uuid[]), CAST(:since AS timestamptz[])) AS s (id, account_id, since)
JOIN orders.accounts_v1 a ON a.id = s.account_id
JOIN orders.round_trips_v1 r ON r.account_id = s.account_id AND r.entry_strategy_id = s.id
  AND r.generation = a.generation AND r.closed_at >= s.since
LEFT JOIN LATERAL (
  SELECT w.closed_at, w.id FROM orders.round_trips_v1 w
  WHERE w.account_id = s.account_id AND w.entry_strategy_id = s.id AND w.generation = a.generation
    AND w.closed_at >= s.since AND w.realized_pl >= 0
  ORDER BY w.closed_at DESC, w.id DESC LIMIT 1
) won ON true
GROUP BY s.id
""")
_CLOSED = text(f"""
SELECT s.id AS strategy_id, r.symbol, max(r.closed_at) AS closed_at
FROM {_STRATEGIES}
JOIN orders.round_trips_v1 r ON r.account_id = s.account_id AND r.entry_strategy_id = s.id AND r.closed_at >= :since
WHERE r.symbol = ANY(:symbols)
GROUP BY s.id, r.symbol
""")
_ENTRIES = text("""
SELECT d.strategy_id, count(*) AS number
FROM unnest(CAST(:ids AS uuid[]), CAST(:since AS timestamptz[])) AS s (id, since)
JOIN strategy.decisions d ON d.strategy_id = s.id AND d.order_id IS NOT NULL AND d.at >= s.since AND d.action <> 'exit'
  AND NOT (d.qty <= abs(d.position) AND (d.side = 'sell' AND d.position > 0 OR d.side = 'buy' AND d.position < 0))
GROUP BY d.strategy_id
""")
