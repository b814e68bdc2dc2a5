"""Rebalances with their orders, and the targets that an account keeps."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, text

from shared.contracts.rebalancing import Targets
from shared.storage.keyset import Keyset, Record, records


def kept(connection: Connection, account_id: UUID) -> Record | None:
    """The account's targets with their times, or None."""
    return next(iter(records(connection, _KEPT, account_id=account_id)), None)


def kept_targets(connection: Connection, account_id: UUID) -> Targets | None:
    """The targets that the account keeps, or None."""
    found = kept(connection, account_id)
    return None if found is None else Targets.model_validate(found["targets"])


def one(connection: Connection, account_id: UUID, rebalance_id: UUID) -> Record | None:
    """The account's rebalance of this id, or None."""
    found = next(iter(records(connection, _ONE, account_id=account_id, id=rebalance_id)), None)
    return None if found is None else shown(found)


def shown(row: Mapping[str, Any]) -> Record:
    """The row as a response shows it: the orders of the plan with their progress."""
    plan, sent = row["plan"], {each["symbol"]: each for each in row["sent"]}
    orders = [
        {
            **{name: each[name] for name in ("value", "cost")},
            **sent[each["symbol"]],
            "client_order_id": f"rebalance-{row['id']}-{each['symbol']}",
        }
        for each in plan["orders"]
        if each["symbol"] in sent
    ]
    ended = [each for each in orders if each["status"] == "ended"]
    return {
        **{name: value for name, value in row.items() if name not in {"plan", "sent"}},
        **{name: plan[name] for name in ("equity", "cost", "left_out", "weights")},
        "cash": {"target": plan["cash_target"], "before": plan["cash_before"], "after": plan["cash_after"]},
        "orders": orders,
        "progress": {
            "ended": len(ended),
            "total": len(orders),
            "filled": sum(each["filled_qty"] == each["qty"] for each in ended),
        },
    }


_KEPT = text("SELECT targets, changed_at, started_at FROM strategy.account_targets_v1 WHERE account_id = :account_id")
_COLUMNS = """
SELECT r.id, r.account_id, r.generation, r.trigger, r.state, r.reason, r.targets, r.plan, r.created_at, r.started_at,
       r.finished_at, COALESCE((
         SELECT jsonb_agg(jsonb_build_object('symbol', o.symbol, 'side', o.side, 'qty', o.qty::text, 'price',
           o.price::text, 'order_id', o.order_id, 'status', o.status, 'filled_qty', o.filled_qty::text,
           'filled_value', o.filled_value::text, 'note', o.note))
         FROM strategy.rebalance_orders_v1 o WHERE o.rebalance_id = r.id), '[]') AS sent
FROM strategy.rebalances_v1 r
"""
_ONE = text(f"{_COLUMNS} WHERE r.account_id = :account_id AND r.id = :id")
REBALANCES = Keyset(
    _COLUMNS,
    ("created_at", "id"),
    {"account_id": "r.account_id = :account_id", "state": "r.state = :state"},
)
