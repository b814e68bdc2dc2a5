"""The audit trail: a row for each decision, and a signal for each bar on which a strategy wants to act."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from services.strategy.strategies.decision import Condition
from services.strategy.strategies.judgement import Outcome
from shared.contracts.orders import Side
from shared.money import ZERO

#: The decimals of a price at most.
DECIMALS = 9
#: The symbol of a decision that failed for all symbols.
EVERY = "*"


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionRow:
    """A decision with its inputs. Prices are in the instrument's currency, ``equity`` in the account's."""

    strategy_id: UUID
    symbol: str
    version: int
    action: str
    outcome: Outcome
    reason: str
    bar_at: datetime | None = None
    close: Decimal | None = None
    last: Decimal | None = None
    quote_at: datetime | None = None
    position: Decimal | None = None
    equity: Decimal | None = None
    conditions: tuple[Condition, ...] = ()
    side: Side | None = None
    qty: Decimal = ZERO
    cuts: tuple[str, ...] = ()
    order_id: UUID | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalRow:
    """A signal. ``indicators`` are the values of the strategy's indicators at the bar."""

    id: UUID
    strategy_id: UUID
    symbol: str
    version: int
    bar_at: datetime
    type: str
    side: Side | None
    price: Decimal
    strength: Decimal
    confidence: Decimal
    reason: str
    indicators: dict[str, float | None]
    order_id: UUID | None


def add(connection: Connection, run_id: UUID, rows: Sequence[DecisionRow], now: datetime) -> None:
    """Add the decisions. Those of a run that are there stay."""
    given = [{name: getattr(row, name) for name in _COLUMNS} for row in rows]
    for each, row in zip(given, rows, strict=True):
        each["conditions"] = _conditions(row.conditions)
        each["cuts"] = row.cuts or None
    connection.execute(_ADD, {"rows": json.dumps(given, default=str), "run_id": run_id, "now": now})


def decided(connection: Connection, run_id: UUID, ids: Sequence[UUID]) -> set[UUID]:
    """The strategies that decided in this run before."""
    return set(connection.execute(_DECIDED, {"run_id": run_id, "ids": list(ids)}).scalars())


def traded(connection: Connection, bars: Sequence[tuple[UUID, str, datetime]]) -> set[tuple[UUID, str]]:
    """The strategies and symbols that have traded on these bars: strategy, symbol and start of each."""
    values = {
        "ids": [strategy_id for strategy_id, _, _ in bars],
        "symbols": [symbol for _, symbol, _ in bars],
        "starts": [start for _, _, start in bars],
    }
    return {(row.strategy_id, row.symbol) for row in connection.execute(_TRADED, values)}


def add_signals(connection: Connection, signals: Sequence[SignalRow], now: datetime) -> set[UUID]:
    """Add the signals, and return the ids of those that may send their order.

    A bar is traded on once: a signal with an order stays as it is. One without an order gives way to a later one.
    """
    names = ("id", "strategy_id", "symbol", "version", "bar_at", "type", "side", "price", "strength", "confidence")
    values: dict[str, Any] = {
        name: [getattr(each, name) for each in signals] for name in (*names, "reason", "order_id")
    }
    values["indicators"] = [json.dumps(each.indicators) for each in signals]
    return set(connection.execute(_ADD_SIGNALS, {**values, "now": now}).scalars())


def _conditions(conditions: Sequence[Condition]) -> list[Any] | None:
    """The conditions for JSON: ``[["fast crosses above slow", true, {"fast": "12.5"}]]``."""
    if not conditions:
        return None
    return [[each.text, each.holds, {name: written(value) for name, value in each.values}] for each in conditions]


def written(value: Decimal | float | str | None) -> str | None:
    """The value as text. More than nine decimals are the error of an indicator's arithmetic: no price has as many."""
    if isinstance(value, Decimal) and value.is_finite() and value != round(value, DECIMALS):
        value = float(value)
    if isinstance(value, float):
        return f"{value:.12g}"
    return value if value is None else str(value)


#: The columns of a decision beside its run and its time, with their types.
_COLUMNS = {
    "strategy_id": "uuid",
    "symbol": "text",
    "version": "integer",
    "action": "text",
    "outcome": "text",
    "reason": "text",
    "bar_at": "timestamptz",
    "close": "numeric",
    "last": "numeric",
    "quote_at": "timestamptz",
    "position": "numeric",
    "equity": "numeric",
    "side": "text",
    "qty": "numeric",
    "order_id": "uuid",
    "conditions": "jsonb",
    "cuts": "text[]",
}
#: One document of JSON is written faster than a column of text for each of the columns.
_ADD = text(f"""
INSERT INTO strategy.decisions (run_id, at, {", ".join(_COLUMNS)})
SELECT :run_id, :now, {", ".join(f"v.{name}" for name in _COLUMNS)}
FROM json_to_recordset(CAST(:rows AS json)) AS v ({", ".join(f"{name} {kind}" for name, kind in _COLUMNS.items())})
ON CONFLICT DO NOTHING
""")
_DECIDED = text("""
SELECT DISTINCT strategy_id FROM strategy.decisions WHERE strategy_id = ANY(:ids) AND run_id = :run_id
""")
_TRADED = text("""
SELECT s.strategy_id, s.symbol
FROM unnest(CAST(:ids AS uuid[]), CAST(:symbols AS text[]), CAST(:starts AS timestamptz[]))
  AS k (strategy_id, symbol, bar_at)
JOIN strategy.trading_signals s
  ON s.strategy_id = k.strategy_id AND s.symbol = k.symbol AND s.bar_at = k.bar_at AND s.order_id IS NOT NULL
""")
_ADD_SIGNALS = text("""
INSERT INTO strategy.trading_signals AS s
  (id, strategy_id, symbol, version, bar_at, at, type, action, price, strength, confidence, reason, indicators,
   order_id)
SELECT v.id, v.strategy_id, v.symbol, v.version, v.bar_at, :now, v.type, v.side, v.price, v.strength, v.confidence,
       v.reason, CAST(v.indicators AS jsonb), v.order_id
FROM unnest(CAST(:id AS uuid[]), CAST(:strategy_id AS uuid[]), CAST(:symbol AS text[]), CAST(:version AS integer[]),
            CAST(:bar_at AS timestamptz[]), CAST(:type AS text[]), CAST(:side AS text[]), CAST(:price AS numeric[]),
            CAST(:strength AS numeric[]), CAST(:confidence AS numeric[]), CAST(:reason AS text[]),
            CAST(:indicators AS text[]), CAST(:order_id AS uuid[]))
  AS v (id, strategy_id, symbol, version, bar_at, type, side, price, strength, confidence, reason, indicators,
        order_id)
ON CONFLICT (strategy_id, symbol, bar_at) DO UPDATE SET
  at = excluded.at, version = excluded.version, type = excluded.type, action = excluded.action, price = excluded.price,
  strength = excluded.strength, confidence = excluded.confidence, reason = excluded.reason,
  indicators = excluded.indicators, order_id = excluded.order_id
WHERE s.order_id IS NULL
RETURNING s.id
""")
