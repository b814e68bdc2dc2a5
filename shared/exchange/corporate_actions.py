"""The effect of splits and dividends on lots, open orders and cash.

A split changes the number of shares and never their cost.
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
    """The lots after the split. Those opened before it have new shares, rounded down to nine decimals, at the old cost.

    The first of them gets the shares that rounding each would lose, so that open orders never hold more than there is.
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
    """The open order in new shares at their prices. Its filled part is unchanged.

    The open quantity of an order that must be of whole shares is rounded down. None means that nothing is left of it.
    Source: FINRA Rule 5330 (adjustment of orders).
    """
    qty, held_for_orders = order.qty, _shares(order.held_for_orders, ratio)
    if qty is not None:
        unit = LEAST_QTY if order.time_in_force is TimeInForce.DAY else Decimal(1)
        left = ((qty - order.filled_qty) * ratio) // unit * unit
        if not left:
            return None
        qty = order.filled_qty + left
        if not order.is_entry:  # the shares that an entry has bought were not rounded down
            held_for_orders = min(held_for_orders, left)
    return replace(
        order,
        qty=qty,
        held_for_orders=held_for_orders,
        limit_price=_price(order.limit_price, ratio),
        stop_price=_price(order.stop_price, ratio),
        trail_price=_price(order.trail_price, ratio),
        hwm=_price(order.hwm, ratio),
    )


def dividend(qty: Decimal, amount: Decimal, rate: Rate) -> Decimal:
    """The cash for ``qty`` shares at ``amount`` each in their currency, negative where they are short."""
    return cents(qty * amount * rate.of(buys=qty < 0)) if qty else ZERO


def _shares(qty: Decimal, ratio: Decimal) -> Decimal:
    return _finest(qty * ratio, ROUND_DOWN)


def _price(price: Decimal | None, ratio: Decimal) -> Decimal | None:
    return None if price is None else max(_finest(price / ratio, ROUND_HALF_EVEN), LEAST_QTY)


def _finest(exact: Decimal, rounding: str) -> Decimal:
    """The number itself where nine decimals are enough for it, else rounded to them."""
    rounded = exact.quantize(LEAST_QTY, rounding=rounding)
    return exact if exact == rounded else rounded
