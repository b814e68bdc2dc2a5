"""The index of resting orders in Python, equal to the store's SQL, for tests that compare the two."""

from dataclasses import replace
from decimal import Decimal

from shared.contracts.orders import OrderType
from shared.contracts.prices import Price
from shared.exchange.matching.triggers import TriggerDirection, price_trigger
from shared.exchange.order import Order


def concerned(order: Order, price: Price, *, on_bar: bool) -> bool:
    """The condition of ``_CONCERNED``: the index by the extreme price, then the price that counts, or the trail."""
    trigger_direction, trigger_price = price_trigger(order)
    below = trigger_direction is TriggerDirection.BELOW
    counts = _counts(order, price, below=below)
    if below:
        near, at = trigger_price >= min(_known(price.low, price.last, price.ask)), trigger_price >= counts
    else:
        near, at = trigger_price <= max(_known(price.high, price.last, price.bid)), trigger_price <= counts
    in_bar = _in_bar(order, price, on_bar=on_bar)
    return (near and (in_bar or at)) or (in_bar and _trailed(order, price))


def followed(order: Order, price: Price, *, on_bar: bool) -> Order:
    """The effect of ``_FOLLOW`` on trailing stops that have a best price: they keep the best so far."""
    if not _trails(order) or order.hwm is None:
        return order
    in_bar = _in_bar(order, price, on_bar=on_bar)
    seen = price if in_bar else price.model_copy(update={"high": price.last, "low": price.last})
    return replace(order, hwm=_best(order, seen))


def _counts(order: Order, price: Price, *, below: bool) -> Decimal:
    """The price that counts without a bar: a resting limit's side of the quote, or the last."""
    rests = order.type is OrderType.LIMIT or (order.type is OrderType.STOP_LIMIT and order.triggered)
    side = price.ask if below else price.bid
    return side if rests and side is not None else price.last


def _known(*prices: Decimal | None) -> list[Decimal]:
    return [price for price in prices if price is not None]


def _in_bar(order: Order, price: Price, *, on_bar: bool) -> bool:
    return on_bar and price.since is not None and order.active_at <= price.since


def _trails(order: Order) -> bool:
    return order.type is OrderType.TRAILING_STOP and not order.triggered


def _trailed(order: Order, price: Price) -> bool:
    if not _trails(order):
        return False
    best = _best(order, price)
    trail = order.trail_price if order.trail_price is not None else best * (order.trail_percent or 0) / 100
    return price.last >= best + trail if order.buys else price.last <= best - trail


def _best(order: Order, price: Price) -> Decimal:
    if order.buys:
        return price.low if order.hwm is None else min(order.hwm, price.low)
    return price.high if order.hwm is None else max(order.hwm, price.high)
