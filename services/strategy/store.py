"""Reads and writes of strategy: its own tables, and the published views of other services."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from sqlalchemy import Connection, text

from services.strategy.domain.sma_crossover import Decision, Holding, Rules
from shared.contracts.strategy import Action


@dataclass(frozen=True)
class Strategy:
    """An enabled strategy: the account it trades on, its symbols, and the interval of its bars."""

    id: UUID
    name: str
    account_id: UUID
    symbols: tuple[str, ...]
    interval: str
    rules: Rules


@dataclass(frozen=True)
class SymbolView:
    """A strategy's view of one symbol: the closes, oldest first, the newest bar's time, and the strategy's holding.

    The holding is the open lots that the strategy's orders opened. It leaves out shares that others bought on the
    strategy's account: the strategy must not sell them.
    """

    strategy: Strategy
    symbol: str
    closes: tuple[Decimal, ...]
    bar_at: datetime | None
    holding: Holding


def add_strategy(connection: Connection, strategy: Strategy, now: datetime) -> None:
    """Add the strategy, unless there is one with its name."""
    connection.execute(
        _ADD_STRATEGY,
        {
            "id": strategy.id,
            "name": strategy.name,
            "account_id": strategy.account_id,
            "symbols": list(strategy.symbols),
            "interval": strategy.interval,
            "fast": strategy.rules.fast,
            "slow": strategy.rules.slow,
            "order_qty": strategy.rules.order_qty,
            "max_position_qty": strategy.rules.max_position_qty,
            "now": now,
        },
    )


def enabled_strategies(connection: Connection) -> list[Strategy]:
    """Read the enabled strategies, by name."""
    return [
        Strategy(
            id=row.id,
            name=row.name,
            account_id=row.account_id,
            symbols=tuple(row.symbols),
            interval=row.interval,
            rules=Rules(row.fast, row.slow, row.order_qty, row.max_position_qty),
        )
        for row in connection.execute(_STRATEGIES)
    ]


def symbol_views(connection: Connection, strategy: Strategy, now: datetime) -> list[SymbolView]:
    """Read one view per symbol. An order that orders has not answered yet counts as open for a day."""
    rows = connection.execute(
        _SYMBOL_VIEWS,
        {
            "id": strategy.id,
            "account_id": strategy.account_id,
            "symbols": list(strategy.symbols),
            "interval": strategy.interval,
            "slow": strategy.rules.slow,
            "now": now,
        },
    )
    return [
        SymbolView(
            strategy=strategy,
            symbol=row.symbol,
            closes=tuple(row.closes or ()),
            bar_at=row.bar_at,
            holding=Holding(row.qty, row.buying, row.selling),
        )
        for row in rows
    ]


def add_decisions(
    connection: Connection, run_id: UUID, decided: Sequence[tuple[SymbolView, Decision]], now: datetime
) -> set[str]:
    """Log every decision, also those to hold, and return the symbols that this run had not decided on before."""
    added = connection.execute(
        _ADD_DECISIONS,
        {
            "strategies": [view.strategy.id for view, _ in decided],
            "symbols": [view.symbol for view, _ in decided],
            "bars": [view.bar_at for view, _ in decided],
            "actions": [str(decision.action) for _, decision in decided],
            "reasons": [decision.reason for _, decision in decided],
            "qtys": [decision.qty for _, decision in decided],
            "run_id": run_id,
            "now": now,
        },
    )
    return {row.symbol for row in added}


def add_signal(connection: Connection, signal_id: UUID, view: SymbolView, decision: Decision, now: datetime) -> bool:
    """Save the signal. False if this bar has one already, so that the strategy trades once per bar."""
    values = {
        "id": signal_id,
        "strategy_id": view.strategy.id,
        "symbol": view.symbol,
        "bar_at": view.bar_at,
        "action": Action(decision.action),
        "price": view.closes[-1],
        "reason": decision.reason,
        "now": now,
    }
    return connection.execute(_ADD_SIGNAL, values).rowcount == 1


def record_order(connection: Connection, run_id: UUID, view: SymbolView, order_id: UUID) -> None:
    """Record the order that followed from the run's decision on a symbol."""
    values = {
        "strategy_id": view.strategy.id,
        "symbol": view.symbol,
        "run_id": run_id,
        "order_id": order_id,
    }
    connection.execute(_RECORD_ORDER, values)


_ADD_STRATEGY = text("""
INSERT INTO strategy.strategies
  (id, name, kind, account_id, symbols, interval, fast, slow, order_qty, max_position_qty, created_at)
VALUES (:id, :name, 'sma_crossover', :account_id, :symbols, :interval, :fast, :slow, :order_qty,
        :max_position_qty, :now)
ON CONFLICT (name) DO NOTHING
""")
_STRATEGIES = text("""
SELECT id, name, account_id, symbols, interval, fast, slow, order_qty, max_position_qty
FROM strategy.strategies WHERE enabled ORDER BY name
""")
_SYMBOL_VIEWS = text("""
SELECT wanted.symbol, bars.closes, bars.bar_at, COALESCE(own.qty, 0) AS qty,
       COALESCE(ordered.buying, 0) + COALESCE(unanswered.buying, 0) AS buying,
       COALESCE(ordered.selling, 0) + COALESCE(unanswered.selling, 0) AS selling
FROM unnest(CAST(:symbols AS text[])) AS wanted (symbol)
LEFT JOIN LATERAL (
  SELECT array_agg(newest.close ORDER BY newest.start_at) AS closes, max(newest.start_at) AS bar_at
  FROM (SELECT close, start_at FROM marketdata.bars_v2 b
        WHERE b.symbol = wanted.symbol AND b.interval = :interval ORDER BY start_at DESC LIMIT :slow) newest
) bars ON true
LEFT JOIN LATERAL (
  SELECT sum(l.qty) AS qty FROM orders.lots_v1 l
  WHERE l.account_id = :account_id AND l.symbol = wanted.symbol AND l.strategy_id = :id
) own ON true
LEFT JOIN LATERAL (
  SELECT sum(qty - filled_qty) FILTER (WHERE side = 'buy' AND is_open) AS buying,
         sum(qty - filled_qty) FILTER (WHERE side = 'sell' AND is_open) AS selling
  FROM (
    SELECT side, qty, filled_qty, status IN ('accepted', 'partially_filled') AS is_open FROM orders.orders_v1 o
    WHERE o.account_id = :account_id AND o.strategy_id = :id AND o.symbol = wanted.symbol
  ) o
) ordered ON true
LEFT JOIN LATERAL (
  SELECT sum(d.qty) FILTER (WHERE d.action = 'buy') AS buying, sum(d.qty) FILTER (WHERE d.action = 'sell') AS selling
  FROM strategy.decisions d
  WHERE d.strategy_id = :id AND d.symbol = wanted.symbol AND d.order_id IS NOT NULL
    AND d.at > CAST(:now AS timestamptz) - interval '1 day'
    AND NOT EXISTS (SELECT FROM orders.orders_v1 o WHERE o.account_id = :account_id AND o.id = d.order_id)
) unanswered ON true
ORDER BY wanted.symbol
""")
_ADD_DECISIONS = text("""
INSERT INTO strategy.decisions (strategy_id, symbol, run_id, at, bar_at, action, reason, qty)
SELECT v.strategy_id, v.symbol, :run_id, :now, v.bar_at, v.action, v.reason, v.qty
FROM unnest(CAST(:strategies AS uuid[]), CAST(:symbols AS text[]), CAST(:bars AS timestamptz[]),
            CAST(:actions AS text[]), CAST(:reasons AS text[]), CAST(:qtys AS numeric[]))
  AS v (strategy_id, symbol, bar_at, action, reason, qty)
ON CONFLICT DO NOTHING
RETURNING symbol
""")
_ADD_SIGNAL = text("""
INSERT INTO strategy.trading_signals (id, strategy_id, symbol, bar_at, at, action, price, reason)
VALUES (:id, :strategy_id, :symbol, :bar_at, :now, :action, :price, :reason)
ON CONFLICT DO NOTHING
""")
_RECORD_ORDER = text("""
UPDATE strategy.decisions SET order_id = :order_id
WHERE strategy_id = :strategy_id AND symbol = :symbol AND run_id = :run_id
""")
