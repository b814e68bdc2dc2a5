"""What splits and dividends do to lots, open orders and cash.

A split changes how many shares there are, and never what they cost.
"""

from dataclasses import replace
from datetime import datetime
from decimal import ROUND_DOWN, ROUND_HALF_EVEN, Decimal

from shared.contracts.orders import TimeInForce
from shared.exchange.fx import Rate
from shared.exchange.lots import Lot, held
from shared.exchange.order import LEAST_QTY, Order
from shared.money import ZERO, cents


def split_lots(lots: tuple[Lot, ...], ratio: Decimal, effective_at: datetime) -> tuple[Lot, ...]:
    """Those from before it in new shares, rounded to the ninth decimal towards nothing; what each cost stays.

    The first takes what rounding each of them would lose, so that no order promises more than is held.
    """
    old = tuple(lot for lot in lots if lot.opened_at < effective_at)
    new = {lot.fill_id: _shares(lot.qty, ratio) for lot in old}
    lost = _shares(held(old), ratio) - sum(new.values(), ZERO)
    first = next((lot.fill_id for lot in old if lot.qty), None)
    return tuple(
        lot._replace(qty=new[lot.fill_id] + (lost if lot.fill_id == first else ZERO)) if lot.fill_id in new else lot
        for lot in lots
    )


def split_order(order: Order, ratio: Decimal) -> Order | None:
    """The order in new shares and at prices of them, while what has filled stays as it was.

    What is left of an order that has to be of whole shares is rounded down to them; None where nothing is left.
    """
    qty = None
    if order.qty is not None:
        unit = LEAST_QTY if order.time_in_force is TimeInForce.DAY else Decimal(1)
        left = ((order.qty - order.filled_qty) * ratio) // unit * unit
        if not left:
            return None
        qty = order.filled_qty + left
    return replace(
        order,
        qty=qty,
        held_for_orders=_promised(order, qty, ratio),
        limit_price=_price(order.limit_price, ratio),
        stop_price=_price(order.stop_price, ratio),
        trail_price=_price(order.trail_price, ratio),
        hwm=_price(order.hwm, ratio),
    )


def _shares(qty: Decimal, ratio: Decimal) -> Decimal:
    return _finest(qty * ratio, ROUND_DOWN)


def _finest(exact: Decimal, rounding: str) -> Decimal:
    """The number itself where nine decimals hold it, else rounded to them."""
    rounded = exact.quantize(LEAST_QTY, rounding=rounding)
    return exact if exact == rounded else rounded


def _promised(order: Order, qty: Decimal | None, ratio: Decimal) -> Decimal:
    """What is left may have been rounded down; what an entry has bought was not."""
    held_for_orders = _shares(order.held_for_orders, ratio)
    return held_for_orders if qty is None or order.is_entry else min(held_for_orders, qty - order.filled_qty)


def _price(price: Decimal | None, ratio: Decimal) -> Decimal | None:
    return None if price is None else max(_finest(price / ratio, ROUND_HALF_EVEN), LEAST_QTY)


def dividend(qty: Decimal, amount: Decimal, rate: Rate) -> Decimal:
    """The cash for so many shares, ``amount`` in their currency for each: negative where they are short."""
    return cents(qty * amount * rate.of(buys=qty < 0)) if qty else ZERO
