"""Strategies, their versions, signals, decisions and results, from the views of strategy and orders."""

from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from shared.storage.keyset import Keyset, Record, records

_COLUMNS = """
id, name, account_id, kind, parameters, version, symbols, interval, schedule, sizing, protections, note, state,
state_reason, generation, evaluated_at, failures, created_at, updated_at
"""
_OF_STRATEGY = {
    "strategy_id": "strategy_id = :strategy_id",
    "symbol": "symbol = :symbol",
    "begin": "at >= :begin",
    "end": "at < :end",
}
STRATEGIES = Keyset(
    f"SELECT {_COLUMNS} FROM strategy.strategies_v1",
    ("created_at", "id"),
    {"account_id": "account_id = :account_id", "state": "state = :state", "kind": "kind = :kind"},
)
VERSIONS = Keyset("SELECT version, at, terms FROM strategy.versions_v1", ("version",), _OF_STRATEGY)
SIGNALS = Keyset(
    """
    SELECT id, symbol, bar_at, at, type, action, version, price, strength, confidence, reason, indicators, order_id
    FROM strategy.signals_v1
    """,
    ("at", "id"),
    _OF_STRATEGY,
)
DECISIONS = Keyset(
    """
    SELECT symbol, run_id, version, at, bar_at, action, outcome, reason, side, qty, close, last, quote_at, position,
           equity, conditions, cuts, order_id
    FROM strategy.decisions_v1
    """,
    ("at", "symbol", "run_id"),
    {**_OF_STRATEGY, "outcome": "outcome = :outcome"},
)


def strategy(connection: Connection, strategy_id: UUID) -> Record | None:
    """Return the strategy, or None if there is none."""
    return next(iter(records(connection, _STRATEGY, id=strategy_id)), None)


def kinds(connection: Connection) -> list[Record]:
    """Return the kinds of strategies by name."""
    return records(connection, _KINDS)


def holdings(connection: Connection, found: Record) -> Record:
    """Return the number of symbols that the strategy holds, their cost, and the account's currency."""
    return records(connection, _HOLDINGS, id=found["id"], account_id=found["account_id"])[0]


def order_with_decision(connection: Connection, account_id: UUID | None, order_id: UUID) -> Record | None:
    """Return the order with the ``decision`` or the ``rebalance`` that it, or the orders it came from, come from.

    Without an account it is one that a strategy or a rebalance sent, of any account.
    """
    row: dict[str, Any]
    for row in records(
        connection, _ORDER if account_id is not None else _ANY_ORDER, account_id=account_id, id=order_id
    ):
        given = {"account_id": row["account_id"], "id": row["id"]}
        ids = [each["id"] for each in records(connection, _ORIGINS, **given)]
        found = {name: next(iter(records(connection, query, ids=ids)), None) for name, query in _SOURCES.items()}
        return {**row, **found}
    return None


_STRATEGY = text(f"SELECT {_COLUMNS} FROM strategy.strategies_v1 WHERE id = :id")
_KINDS = text("SELECT kind, title, source, schema FROM strategy.kinds_v1 ORDER BY kind")
_HOLDINGS = text("""
SELECT a.currency, count(l.symbol) AS positions, COALESCE(sum(l.cost), 0) AS cost
FROM (SELECT currency FROM orders.accounts_v1 WHERE id = :account_id) a
LEFT JOIN LATERAL (
  SELECT symbol, sum(cost) AS cost FROM orders.lots_v1
  WHERE account_id = :account_id AND strategy_id = :id GROUP BY symbol
) l ON true
GROUP BY a.currency
""")
_ORDER_COLUMNS = """
SELECT o.account_id, o.id, o.order_group, o.replaces, o.replaced_by, o.symbol, o.side, o.type, o.qty, o.notional,
       o.limit_price, o.stop_price, o.trail_price, o.trail_percent, o.filled_qty, o.filled_avg_price, o.status,
       o.reject_message, o.cancel_reason, o.leg, o.order_class, o.strategy_id, o.submitted_at, o.liquidation, a.currency
FROM orders.orders_v1 o JOIN orders.accounts_v1 a ON a.id = o.account_id
"""
_ORDER = text(f"{_ORDER_COLUMNS} WHERE o.account_id = :account_id AND o.id = :id")
_ANY_ORDER = text(f"""
{_ORDER_COLUMNS} WHERE o.id = :id AND CAST(:account_id AS uuid) IS NULL AND o.account_id IN (
  SELECT s.account_id FROM strategy.decisions_v1 d JOIN strategy.strategies_v1 s ON s.id = d.strategy_id
  WHERE d.order_id = :id
  UNION ALL
  SELECT r.account_id FROM strategy.rebalance_orders_v1 t JOIN strategy.rebalances_v1 r ON r.id = t.rebalance_id
  WHERE t.order_id = :id)
""")
#: The order, the one whose bracket it belongs to, and those that it replaced.
_ORIGINS = text("""
WITH RECURSIVE origins (id) AS (
  SELECT CAST(:id AS uuid)
  UNION
  SELECT before.id FROM origins g JOIN orders.orders_v1 o ON o.account_id = :account_id AND o.id = g.id
  CROSS JOIN LATERAL (VALUES (o.order_group), (o.replaces)) AS before (id) WHERE before.id IS NOT NULL
)
SELECT id FROM origins LIMIT 100
""")
_DECISION = text("""
SELECT d.strategy_id, s.name, s.kind, d.symbol, d.version, d.at, d.bar_at, d.action, d.outcome, d.reason, d.side, d.qty,
       d.close, d.last, d.quote_at, d.position, d.equity, d.conditions, d.cuts
FROM strategy.decisions_v1 d JOIN strategy.strategies_v1 s ON s.id = d.strategy_id
WHERE d.order_id = ANY(CAST(:ids AS uuid[])) LIMIT 1
""")
_REBALANCE = text("""
SELECT r.id, r.trigger = 'schedule' AS scheduled, COALESCE(r.started_at, r.created_at) AS at, t.note,
       w.weight ->> 'target' AS target, w.weight ->> 'before' AS weight_before, w.weight ->> 'after' AS weight_after
FROM strategy.rebalance_orders_v1 t JOIN strategy.rebalances_v1 r ON r.id = t.rebalance_id
LEFT JOIN LATERAL (
  SELECT weight FROM jsonb_array_elements(r.plan -> 'weights') AS weight WHERE weight ->> 'symbol' = t.symbol
) w ON true
WHERE t.order_id = ANY(CAST(:ids AS uuid[])) LIMIT 1
""")
_SOURCES = {"decision": _DECISION, "rebalance": _REBALANCE}
