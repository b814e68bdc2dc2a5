"""Lots: what was bought, at what cost, first in first out.

A lot's cost is the cash that was paid for it. Selling part of a lot takes the same part of its cost, rounded
to the cent; the last part takes what is left, so that no cent is lost or invented.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from shared.money import ZERO, cents


@dataclass(frozen=True)
class Lot:
    """``cost`` is the cash paid for ``qty`` shares, in the account's currency."""

    fill_id: UUID
    opened_at: datetime
    qty: Decimal
    cost: Decimal


@dataclass(frozen=True)
class Closed:
    """A part of a lot that was sold: a round trip."""

    lot: Lot
    qty: Decimal
    cost: Decimal
    proceeds: Decimal


class InsufficientShares(ArithmeticError):
    """More was to be sold than the lots hold."""


def held(lots: tuple[Lot, ...]) -> Decimal:
    return sum((lot.qty for lot in lots), ZERO)


def cost_of(lots: tuple[Lot, ...]) -> Decimal:
    return sum((lot.cost for lot in lots), ZERO)


def sell(lots: tuple[Lot, ...], qty: Decimal, amount: Decimal) -> tuple[tuple[Lot, ...], tuple[Closed, ...]]:
    """Sell ``qty`` for ``amount`` of cash: the lots after it (an emptied one has qty 0), and what was closed."""
    if qty > held(lots):
        raise InsufficientShares(f"{qty} to sell, {held(lots)} held")
    left: list[Lot] = []
    closed: list[Closed] = []
    open_qty, open_amount = qty, amount
    for lot in lots:
        taken = min(lot.qty, open_qty)
        if not taken:
            left.append(lot)
            continue
        cost = lot.cost if taken == lot.qty else cents(lot.cost * taken / lot.qty)
        proceeds = open_amount if taken == open_qty else cents(open_amount * taken / open_qty)
        closed.append(Closed(lot, taken, cost, proceeds))
        left.append(replace(lot, qty=lot.qty - taken, cost=lot.cost - cost))
        open_qty, open_amount = open_qty - taken, open_amount - proceeds
    return tuple(left), tuple(closed)
