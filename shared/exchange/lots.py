"""Lots: what was bought, or sold short, and for how much; first in, first out.

A lot's cost is the cash that was paid for it; of a short one quantity and cost are negative. Closing part of a lot
takes the same part of its cost, rounded to the cent; the last part takes what is left, so that no cent is lost or
invented.
"""

from datetime import datetime
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

from shared.contracts.orders import Side
from shared.money import ZERO, cents


class Lot(NamedTuple):
    """``cost`` is the cash paid for ``qty`` shares, in the account's currency; ``opened_at`` is the market's time."""

    fill_id: UUID
    opened_at: datetime
    qty: Decimal
    cost: Decimal
    strategy_id: UUID | None = None


class Closed(NamedTuple):
    """A part of a lot that was closed: a round trip. ``qty``, ``cost`` and ``proceeds`` are positive.

    Of a short lot the proceeds came first, and the cost when it was closed.
    """

    lot: Lot
    qty: Decimal
    cost: Decimal
    proceeds: Decimal

    @property
    def realized(self) -> Decimal:
        return self.proceeds - self.cost


def held(lots: tuple[Lot, ...]) -> Decimal:
    """Shares held; negative where they are short."""
    return sum((lot.qty for lot in lots), ZERO)


def cost_of(lots: tuple[Lot, ...]) -> Decimal:
    return sum((lot.cost for lot in lots), ZERO)


def closing_qty(position: Decimal, side: Side, qty: Decimal) -> Decimal:
    """How much of ``qty`` closes what is held, rather than opens more of it."""
    against = -position if side is Side.BUY else position
    return min(qty, max(against, ZERO))


def trade(
    lots: tuple[Lot, ...],
    side: Side,
    qty: Decimal,
    amount: Decimal,
    *,
    fill_id: UUID,
    at: datetime,
    strategy_id: UUID | None = None,
) -> tuple[tuple[Lot, ...], tuple[Closed, ...]]:
    """Trade ``qty`` for ``amount`` of cash: the lots after it (a closed one has qty 0), and what was closed.

    What the lots do not hold on the other side opens a new one.
    """
    closing = closing_qty(held(lots), side, qty)
    closing_amount = amount if closing == qty else cents(amount * closing / qty)
    left, closed = _close(lots, closing, closing_amount)
    if closing == qty:
        return left, closed
    sign = 1 if side is Side.BUY else -1
    opened = Lot(fill_id, at, sign * (qty - closing), sign * (amount - closing_amount), strategy_id)
    return (*left, opened), closed


def _close(lots: tuple[Lot, ...], qty: Decimal, amount: Decimal) -> tuple[tuple[Lot, ...], tuple[Closed, ...]]:
    left: list[Lot] = []
    closed: list[Closed] = []
    for lot in lots:
        taken = min(abs(lot.qty), qty)
        if not taken:
            left.append(lot)
            continue
        share = amount if taken == qty else cents(amount * taken / qty)
        basis = lot.cost if taken == abs(lot.qty) else cents(lot.cost * taken / abs(lot.qty))
        closed.append(_closed(lot, taken, basis, share))
        left.append(lot._replace(qty=lot.qty + (taken if lot.qty < 0 else -taken), cost=lot.cost - basis))
        qty, amount = qty - taken, amount - share
    return tuple(left), tuple(closed)


def _closed(lot: Lot, qty: Decimal, basis: Decimal, amount: Decimal) -> Closed:
    return Closed(lot, qty, cost=basis, proceeds=amount) if lot.qty > 0 else Closed(lot, qty, amount, -basis)
