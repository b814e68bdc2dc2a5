"""The rows of halts of accounts. The halt that stands is also in the row of its account."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from shared.exchange.order import Account
from shared.storage.driver import Call
from shared.storage.tables import Table


@dataclass(frozen=True)
class HaltRow:
    """The begin of a halt. ``value`` is the figure that reached ``limit_value``."""

    account_id: UUID
    id: UUID
    generation: int
    kind: str
    value: Decimal
    limit_value: Decimal
    reason: str
    halted_at: datetime


adding_halts = Table("orders.account_halts", HaltRow, key=("account_id", "id")).insert()


def ending_halt(account: Account, by: str, now: datetime) -> Call:
    """The statement that ends the account's halt in the history."""
    return _END, {"account_id": account.id, "id": account.halt_id, "by": by, "now": now}


_END = """
UPDATE orders.account_halts SET ended_at = %(now)s, ended_by = %(by)s
WHERE account_id = %(account_id)s AND id = %(id)s AND ended_at IS NULL
"""
