"""The index of resting orders in Python, equal to the store's SQL, for tests that compare the two."""

from dataclasses import replace
from decimal import Decimal

from shared.contracts.orders import AT_ONCE, OrderType
from shared.contracts.prices import Price
from shared.exchange.matching.matching import buy_side, sell_side
from shared.exchange.matching.triggers import TriggerDirection, price_trigger
from shared.exchange.order import Order
from shared.exchange.trading_days import ALWAYS_OPEN, Hours


def concerned(order: Order, price: Price, *, on_bar: bool, hours: Hours = ALWAYS_OPEN) -> bool:
    """The condition of ``_CONCERNED``: the index by the extreme price, then the price that counts, or the trail."""
    trigger_direction, trigger_price = price_trigger(order)
    below = trigger_direction is TriggerDirection.BELOW
    counts = _counts(order, price, below=below)
    if below:
        near = trigger_price >= min(_known(price.low, price.last, buy_side(price)))
        at = counts is not None and trigger_price >= counts
    else:
        near = trigger_price <= max(_known(price.high, price.last, sell_side(price)))
        at = counts is not None and trigger_price <= counts
    in_bar = _in_bar(order, price, hours, on_bar=on_bar)
    return (near and (in_bar or (_on_quote(order, price, hours) and at))) or (in_bar and _trailed(order, price))


def followed(order: Order, price: Price, *, on_bar: bool, hours: Hours = ALWAYS_OPEN) -> Order:
    """The effect of ``_FOLLOW`` on trailing stops that have a best price: they keep the best so far."""
    if not _trails(order) or order.hwm is None:
        return order
    seen = [order.hwm]
    if _in_bar(order, price, hours, on_bar=on_bar):
        seen.append(price.low if order.buys else price.high)
    if _on_quote(order, price, hours):
        seen.append(price.last)
    return replace(order, hwm=min(seen) if order.buys else max(seen))


def _counts(order: Order, price: Price, *, below: bool) -> Decimal | None:
    """The price that counts without a bar: a resting limit's side of the quote, or the last."""
    lasting = order.type is OrderType.LIMIT and order.time_in_force not in AT_ONCE
    if not lasting and not (order.type is OrderType.STOP_LIMIT and order.triggered):
        return price.last
    return buy_side(price) if below else sell_side(price)


def _known(*prices: Decimal | None) -> list[Decimal]:
    return [price for price in prices if price is not None]


def _in_bar(order: Order, price: Price, hours: Hours, *, on_bar: bool) -> bool:
    start = price.bar_start or price.since
    in_session = hours.bar_extended if order.extended_hours else hours.bar
    return on_bar and in_session and start is not None and order.active_at <= start


def _on_quote(order: Order, price: Price, hours: Hours) -> bool:
    in_session = hours.quote_extended if order.extended_hours else hours.quote
    return in_session and order.active_at < price.quoted_at


def _trails(order: Order) -> bool:
    return order.type is OrderType.TRAILING_STOP and not order.triggered


def _trailed(order: Order, price: Price) -> bool:
    if not _trails(order):
        return False
    if order.buys:
        return price.high >= _stop(order, price.open) or price.last >= _stop(order, price.low)
    return price.low <= _stop(order, price.open) or price.last <= _stop(order, price.high)


def _stop(order: Order, seen: Decimal) -> Decimal:
    """The stop after it has followed that price."""
    best = seen if order.hwm is None else min(order.hwm, seen) if order.buys else max(order.hwm, seen)
    trail = order.trail_price if order.trail_price is not None else best * (order.trail_percent or 0) / 100
    return best + trail if order.buys else best - trail
