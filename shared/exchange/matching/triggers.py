"""The prices that can fill an order, for the index of its row, so that an order far from the market costs nothing."""

from decimal import Decimal
from enum import StrEnum

from shared.contracts.orders import AT_ONCE, AUCTIONS
from shared.exchange.matching.matching import stop_of, waits_for_stop
from shared.exchange.order import Order

_EVERY = Decimal("Infinity")


class TriggerDirection(StrEnum):
    """The side of its trigger price on which prices concern an order. An order for an auction waits for that alone."""

    BELOW = "below"
    ABOVE = "above"
    AUCTION = "auction"


def price_trigger(order: Order) -> tuple[TriggerDirection, Decimal]:
    """The trigger price and its direction. The price itself triggers too, and every price triggers an infinite one."""
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
