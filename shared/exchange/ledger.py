"""The ledger: one entry for each thing that happened to an account, and in it what that did to each of its books.

Double entry: what an account owns and has spent grew by what it was paid in and has earned, in every entry,

    cash + cost + fee + interest = realized + dividend + capital

and the database refuses an entry that does not balance. Cash, positions and P&L are the sums of their columns.
"""

from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

from shared.money import ZERO


class Kind(StrEnum):
    DEPOSIT = "deposit"
    WITHDRAWAL = "withdrawal"
    FILL = "fill"
    SPLIT = "split"
    DIVIDEND = "dividend"
    INTEREST = "interest"


class Entry(NamedTuple):
    """Money is in the account's currency, ``qty`` in shares of ``symbol``; ``reference`` is what it is about.

    ``cost`` is what was paid for the shares held, negative for short ones; ``capital`` what was paid in.
    """

    account_id: UUID
    generation: int
    kind: Kind
    at: datetime
    reference: UUID
    cash: Decimal = ZERO
    symbol: str | None = None
    qty: Decimal = ZERO
    cost: Decimal = ZERO
    fee: Decimal = ZERO
    interest: Decimal = ZERO
    realized: Decimal = ZERO
    dividend: Decimal = ZERO
    capital: Decimal = ZERO

    @property
    def balances(self) -> bool:
        return self.cash + self.cost + self.fee + self.interest == self.realized + self.dividend + self.capital


def transfer(account_id: UUID, generation: int, at: datetime, reference: UUID, amount: Decimal) -> Entry:
    """Cash paid in, or out."""
    kind = Kind.DEPOSIT if amount >= 0 else Kind.WITHDRAWAL
    return Entry(account_id, generation, kind, at, reference, cash=amount, capital=amount)
