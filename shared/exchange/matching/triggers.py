"""Which prices concern an order: what its row tells the index, so that an order far from the market costs nothing."""

from decimal import Decimal
from enum import StrEnum

from shared.contracts.orders import AT_ONCE, AUCTIONS
from shared.exchange.matching.matching import stop_of, waits_for_stop
from shared.exchange.order import Order

_EVERY = Decimal("Infinity")


class TriggerDirection(StrEnum):
    """A price concerns the order at its trigger_price or ``below`` it, or at it or ``above``; no price, but its
    auction.
    """

    BELOW = "below"
    ABOVE = "above"
    AUCTION = "auction"


def price_trigger(order: Order) -> tuple[TriggerDirection, Decimal]:
    """Where a price must be to concern the order; an infinite trigger_price: every price does."""
    if order.time_in_force in AUCTIONS:
        return TriggerDirection.AUCTION, _EVERY
    if waits_for_stop(order):
        stop = stop_of(order)
        if stop is None:
            return TriggerDirection.BELOW, _EVERY
        return (TriggerDirection.ABOVE if order.buys else TriggerDirection.BELOW), stop
    if order.limit_price is None or order.time_in_force in AT_ONCE:
        return TriggerDirection.BELOW, _EVERY
    return (TriggerDirection.BELOW if order.buys else TriggerDirection.ABOVE), order.limit_price
