"""The rows of rebalances, their orders, and the targets that accounts keep."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID, uuid5

from sqlalchemy import Connection, Row, text

from services.strategy.rebalancing.plan import Plan, PlannedOrder
from shared.contracts.orders import Side
from shared.contracts.rebalancing import RebalanceState, Targets
from shared.money import plain

Trigger = Literal["request", "schedule"]


@dataclass(frozen=True)
class Rebalance:
    """A rebalance. ``budget`` is the cash that its buys may spend beside the proceeds of its sells."""

    id: UUID
    account_id: UUID
    generation: int
    trigger: Trigger
    state: RebalanceState
    targets: Targets
    budget: Decimal
    created_at: datetime
    started_at: datetime | None


@dataclass(frozen=True)
class OrderRow:
    """An order of a rebalance, with what orders knows of it: ``known`` is its status there, or None.

    ``refusal`` is the reason of a rejection.
    """

    symbol: str
    side: Side
    qty: Decimal
    price: Decimal
    order_id: UUID
    status: str
    filled_qty: Decimal
    filled_value: Decimal
    note: str | None = None
    known: str | None = None
    refusal: str | None = None


def order_id(rebalance_id: UUID, symbol: str) -> UUID:
    """The id of the order of this rebalance in the symbol."""
    return uuid5(rebalance_id, symbol)


def add(
    connection: Connection,
    rebalance: Rebalance,
    plan: Plan,
    now: datetime,
) -> bool:
    """Add a rebalance with its orders. False if its id is taken, or if the account has another one that is open."""
    given = {
        "id": rebalance.id,
        "account": rebalance.account_id,
        "generation": rebalance.generation,
        "trigger": rebalance.trigger,
        "state": rebalance.state.value,
        "targets": rebalance.targets.model_dump_json(),
        "plan": json.dumps(_json(plan)),
        "started_at": rebalance.started_at,
        "now": now,
    }
    if not connection.execute(_ADD, given).rowcount:
        return False
    orders = [_values(rebalance.id, each) for each in plan.orders]
    connection.execute(_ADD_ORDERS, {"id": rebalance.id, "orders": json.dumps(orders)})
    return True


def lock(connection: Connection, rebalance_id: UUID) -> Rebalance | None:
    """Lock the rebalance, and return it."""
    row = connection.execute(_LOCK, {"id": rebalance_id}).one_or_none()
    return None if row is None else _rebalance(row)


def open_ids(connection: Connection) -> list[UUID]:
    """The ids of the rebalances that are under way."""
    return list(connection.execute(_OPEN).scalars())


def lock_open_of(connection: Connection, account_id: UUID) -> UUID | None:
    """The id of the account's rebalance that is under way, or None. Only one transaction at a time looks."""
    connection.execute(_LOCK_ACCOUNT, {"account": str(account_id)})
    found: UUID | None = connection.execute(_OPEN_OF, {"account": account_id}).scalar_one_or_none()
    return found


def orders_of(connection: Connection, rebalance: Rebalance) -> list[OrderRow]:
    """The orders of the rebalance, as they are in orders now."""
    given = {"id": rebalance.id, "account": rebalance.account_id}
    return [
        OrderRow(**{**row._mapping, "side": Side(row.side)})  # noqa: SLF001
        for row in connection.execute(_ORDERS, given)
    ]


def save_orders(connection: Connection, rebalance_id: UUID, rows: Sequence[OrderRow]) -> None:
    """Save status, quantity and fills of these orders, in one statement. Rows that are as they were are not written."""
    if rows:
        given = [{**asdict(row), "order_id": str(row.order_id)} for row in rows]
        connection.execute(_SAVE_ORDERS, {"id": rebalance_id, "orders": json.dumps(given, default=str)})


def save_state(
    connection: Connection, rebalance_id: UUID, state: RebalanceState, now: datetime, reason: str | None = None
) -> None:
    """Save the state, and the reason if there is one."""
    finished = state in {RebalanceState.DONE, RebalanceState.INCOMPLETE, RebalanceState.CANCELED}
    given = {"id": rebalance_id, "state": state.value, "reason": reason, "now": now, "finished": finished}
    connection.execute(_SAVE_STATE, given)


def keep_targets(connection: Connection, account_id: UUID, targets: Targets | None, now: datetime) -> None:
    """Keep these targets for the account, or none."""
    if targets is None:
        connection.execute(_DROP_TARGETS, {"account": account_id})
    else:
        given = {"account": account_id, "targets": targets.model_dump_json(), "now": now}
        connection.execute(_KEEP_TARGETS, given)


def kept_targets(connection: Connection, before: datetime) -> dict[UUID, Targets]:
    """The targets of accounts without an open rebalance, for which the job started none since that time."""
    rows = connection.execute(_KEPT, {"before": before})
    return {row.account_id: Targets.model_validate(row.targets) for row in rows}


def note_start(connection: Connection, account_id: UUID, now: datetime) -> None:
    """Note that the job started a rebalance of the account."""
    connection.execute(_NOTE_START, {"account": account_id, "now": now})


def _rebalance(row: Row[Any]) -> Rebalance:
    return Rebalance(
        row.id,
        row.account_id,
        row.generation,
        row.trigger,
        RebalanceState(row.state),
        Targets.model_validate(row.targets),
        Decimal(row.plan["budget"]),
        row.created_at,
        row.started_at,
    )


def _json(plan: Plan) -> dict[str, Any]:
    """The plan with its numbers as text."""
    plain_numbers: dict[str, Any] = json.loads(json.dumps(asdict(plan), default=_text))
    return plain_numbers


def _text(value: object) -> str:
    return plain(value) if isinstance(value, Decimal) else str(value)


def _values(rebalance_id: UUID, order: PlannedOrder) -> dict[str, str | None]:
    return {
        "symbol": order.symbol,
        "side": order.side.value,
        "qty": str(order.qty),
        "price": str(order.price),
        "order_id": str(order_id(rebalance_id, order.symbol)),
        "note": order.cut,
    }


_ADD = text("""
INSERT INTO strategy.rebalances
  (id, account_id, generation, trigger, state, targets, plan, created_at, started_at)
VALUES (:id, :account, :generation, :trigger, :state, CAST(:targets AS jsonb), CAST(:plan AS jsonb), :now, :started_at)
ON CONFLICT DO NOTHING
""")
_ADD_ORDERS = text("""
INSERT INTO strategy.rebalance_orders (rebalance_id, symbol, side, qty, price, order_id, status, note)
SELECT :id, symbol, side, qty, price, order_id, 'planned', note
FROM jsonb_to_recordset(CAST(:orders AS jsonb))
  AS given (symbol text, side text, qty numeric, price numeric, order_id uuid, note text)
""")
_LOCK = text("""
SELECT id, account_id, generation, trigger, state, targets, plan, created_at, started_at
FROM strategy.rebalances WHERE id = :id FOR UPDATE
""")
_OPEN = text("SELECT id FROM strategy.rebalances WHERE state IN ('selling', 'buying') ORDER BY account_id")
_LOCK_ACCOUNT = text("SELECT pg_advisory_xact_lock(hashtextextended('rebalance/' || :account, 0))")
_OPEN_OF = text("SELECT id FROM strategy.rebalances WHERE account_id = :account AND state IN ('selling', 'buying')")
#: Proceeds and costs are in the account's currency, less the fees.
_ORDERS = text("""
SELECT r.symbol, r.side, r.qty, r.price, r.order_id, r.status, r.note, o.status AS known, o.reject_message AS refusal,
       COALESCE(f.qty, r.filled_qty) AS filled_qty, COALESCE(f.value, r.filled_value) AS filled_value
FROM strategy.rebalance_orders r
LEFT JOIN orders.orders_v1 o ON o.account_id = :account AND o.id = r.order_id
LEFT JOIN LATERAL (
  SELECT sum(f.qty) AS qty,
         sum(CASE r.side WHEN 'sell' THEN f.amount - f.fee ELSE f.amount + f.fee END) AS value
  FROM orders.fills_v1 f WHERE f.account_id = :account AND f.order_id = r.order_id
) f ON true
WHERE r.rebalance_id = :id ORDER BY r.side DESC, r.symbol
""")
_SAVE_ORDERS = text("""
UPDATE strategy.rebalance_orders o SET
  status = v.status, qty = v.qty, filled_qty = v.filled_qty, filled_value = v.filled_value, note = v.note
FROM jsonb_to_recordset(CAST(:orders AS jsonb))
  AS v (symbol text, status text, qty numeric, filled_qty numeric, filled_value numeric, note text)
WHERE o.rebalance_id = :id AND o.symbol = v.symbol
  AND (o.status, o.qty, o.filled_qty, o.filled_value, o.note)
    IS DISTINCT FROM (v.status, v.qty, v.filled_qty, v.filled_value, v.note)
""")
_SAVE_STATE = text("""
UPDATE strategy.rebalances r SET
  state = :state, reason = COALESCE(:reason, reason), started_at = COALESCE(started_at, :now),
  finished_at = CASE WHEN :finished THEN CAST(:now AS timestamptz) END
WHERE r.id = :id
""")
_KEEP_TARGETS = text("""
INSERT INTO strategy.account_targets (account_id, targets, changed_at)
VALUES (:account, CAST(:targets AS jsonb), :now)
ON CONFLICT (account_id) DO UPDATE SET
  targets = excluded.targets, changed_at = excluded.changed_at, started_at = NULL
""")
_DROP_TARGETS = text("DELETE FROM strategy.account_targets WHERE account_id = :account")
_KEPT = text("""
SELECT t.account_id, t.targets FROM strategy.account_targets t
WHERE (t.started_at IS NULL OR t.started_at <= :before) AND NOT EXISTS (
  SELECT FROM strategy.rebalances r WHERE r.account_id = t.account_id AND r.state IN ('selling', 'buying'))
ORDER BY t.account_id
""")
_NOTE_START = text("UPDATE strategy.account_targets SET started_at = :now WHERE account_id = :account")
