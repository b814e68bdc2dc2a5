"""Which prices concern an order: what its row tells the index, so that an order far from the market costs nothing."""

from decimal import Decimal
from enum import StrEnum

from shared.contracts.orders import AT_ONCE, AUCTIONS
from shared.exchange.matching.matching import stop_of, waits_for_stop
from shared.exchange.order import Order

_EVERY = Decimal("Infinity")


class Direction(StrEnum):
    """A price concerns the order at its threshold or ``below`` it, or at it or ``above``; no price, but its auction."""

    BELOW = "below"
    ABOVE = "above"
    AUCTION = "auction"


def wakes(order: Order) -> tuple[Direction, Decimal]:
    """Where a price must be to concern the order; an infinite threshold: every price does."""
    if order.time_in_force in AUCTIONS:
        return Direction.AUCTION, _EVERY
    if waits_for_stop(order):
        stop = stop_of(order)
        if stop is None:
            return Direction.BELOW, _EVERY
        return (Direction.ABOVE if order.buys else Direction.BELOW), stop
    if order.limit_price is None or order.time_in_force in AT_ONCE:
        return Direction.BELOW, _EVERY
    return (Direction.BELOW if order.buys else Direction.ABOVE), order.limit_price
