"""Lots: shares bought or sold short together, and their cost. They are closed first in, first out.

A lot's cost is the cash that was paid for it. For a short lot quantity and cost are negative. Closing a part of a lot
takes the same part of its cost, rounded to the cent. The last part takes the rest, so that no cent is lost or gained.
"""

from datetime import datetime
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

from shared.contracts.orders import Side
from shared.money import ZERO, cents


class Lot(NamedTuple):
    """``cost`` is the cash paid for ``qty`` shares, in the account's currency. ``opened_at`` is the market's time."""

    fill_id: UUID
    opened_at: datetime
    qty: Decimal
    cost: Decimal
    strategy_id: UUID | None = None


class Closed(NamedTuple):
    """A closed part of a lot, which makes a round trip. ``qty``, ``cost`` and ``proceeds`` are positive.

    For a short lot the proceeds came first, and the cost when it was closed.
    """

    lot: Lot
    qty: Decimal
    cost: Decimal
    proceeds: Decimal

    @property
    def realized(self) -> Decimal:
        return self.proceeds - self.cost


class Average(NamedTuple):
    """The effect of fills on the average entry price: it becomes ``kept`` times what it was, plus ``added``.

    A fill that opens moves the average by its weight, and one that closes leaves it. A position that begins, or crosses
    zero, has the price of what it opened. Source: Alpaca, ``avg_entry_price`` of a position.
    """

    kept: Decimal = Decimal(1)
    added: Decimal = ZERO

    def traded(self, before: tuple[Lot, ...], after: tuple[Lot, ...]) -> "Average":
        """The effect of these fills and of another one, which ``trade`` made ``after`` of the lots ``before`` it."""
        opened = after[len(before) :]
        if not opened:
            return self
        qty = held(after)
        weight = (qty - held(opened)) / qty
        return Average(self.kept * weight, self.added * weight + cost_of(opened) / qty)


def held(lots: tuple[Lot, ...]) -> Decimal:
    """The shares held, negative where they are short."""
    return sum((lot.qty for lot in lots), ZERO)


def cost_of(lots: tuple[Lot, ...]) -> Decimal:
    """The cash paid for the shares held, negative where they are short."""
    return sum((lot.cost for lot in lots), ZERO)


def closing_qty(position: Decimal, side: Side, qty: Decimal) -> Decimal:
    """The part of ``qty`` that closes the position instead of opening more of one."""
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
    """Trade ``qty`` for ``amount`` of cash. Return the lots after it (a closed one has qty 0) and the closed parts.

    A strategy closes its own lots first, so that it does not end up with those of others. A quantity beyond the
    position on the other side opens a new lot, which comes last.
    """
    closing = closing_qty(held(lots), side, qty)
    opening, opening_amount = qty - closing, ZERO if closing == qty else amount - cents(amount * closing / qty)
    amount -= opening_amount
    left: dict[UUID, Lot] = {}
    closed: list[Closed] = []
    for lot in sorted(lots, key=lambda lot: strategy_id is not None and lot.strategy_id != strategy_id):
        part = min(abs(lot.qty), closing)
        if not part:
            continue
        paid = amount if part == closing else cents(amount * part / closing)
        basis = lot.cost if part == abs(lot.qty) else cents(lot.cost * part / abs(lot.qty))
        long = lot.qty > 0
        closed.append(Closed(lot, part, cost=basis, proceeds=paid) if long else Closed(lot, part, paid, -basis))
        left[lot.fill_id] = lot._replace(qty=lot.qty - part if long else lot.qty + part, cost=lot.cost - basis)
        closing, amount = closing - part, amount - paid
    after = [left.get(lot.fill_id, lot) for lot in lots]
    if opening:
        sign = 1 if side is Side.BUY else -1
        after.append(Lot(fill_id, at, sign * opening, sign * opening_amount, strategy_id))
    return tuple(after), tuple(closed)
