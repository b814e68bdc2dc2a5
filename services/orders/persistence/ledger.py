"""The entries of the ledger: adding them, and finding out whether one is there."""

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import Connection, text

from shared.exchange.ledger import Entry, Kind
from shared.storage.tables import Table, typed

LEDGER = Table("orders.ledger", Entry, key=("account_id", "kind", "reference"))
saving_entries = LEDGER.insert()


class _Booked(NamedTuple):
    reference: UUID


def booked(connection: Connection, kind: Kind, references: Sequence[UUID]) -> set[UUID]:
    """Those of the references that have an entry of that kind."""
    found = connection.execute(_REFERENCES, {"kind": kind.value, "references": list(references)})
    return {entry.reference for entry in typed(_Booked, found)}


def is_booked(connection: Connection, account_id: UUID, reference: UUID) -> bool:
    """Tell whether the transfer or reset has an entry."""
    values = {"account_id": account_id, "reference": reference}
    return connection.execute(_TRANSFER, values).first() is not None


_REFERENCES = text("SELECT reference FROM orders.ledger WHERE kind = :kind AND reference = ANY(:references)")
_TRANSFER = text("""
SELECT 1 FROM orders.ledger
WHERE account_id = :account_id AND kind IN ('deposit', 'withdrawal') AND reference = :reference
""")
