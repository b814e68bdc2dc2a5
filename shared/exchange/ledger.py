"""The ledger: one entry for each event that moves an account's cash or shares, with its effect on each book.

It is double entry. In every entry the growth of assets and expenses equals that of capital and income,

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
    """Money is in the account's currency, ``qty`` in shares of ``symbol``. ``reference`` is the id of the event.

    ``cost`` is the cash paid for shares held, negative for short ones. ``capital`` is the cash deposited.
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
        """True if its two sides are equal."""
        return self.cash + self.cost + self.fee + self.interest == self.realized + self.dividend + self.capital


def transfer(account_id: UUID, generation: int, at: datetime, reference: UUID, amount: Decimal) -> Entry:
    """The entry of a deposit, or of a withdrawal where ``amount`` is negative."""
    kind = Kind.DEPOSIT if amount >= 0 else Kind.WITHDRAWAL
    return Entry(account_id, generation, kind, at, reference, cash=amount, capital=amount)
