"""At which price, if any, an order fills on a quote.

A fill needs a quote that is newer than the order's acceptance and not stale. A buy pays the ask, a sell gets
the bid; where the provider has no quote, the last price ± half an assumed spread stands in. There is no
made-up price: without a usable quote the order waits.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from services.orders.domain.order import Order
from shared.contracts.orders import OrderType, Side
from shared.contracts.prices import Price

#: Assumed quotes have four decimals, below a price of one nine: a cheap share is still not given away.
_STEP, _FINE_STEP = Decimal("0.0001"), Decimal("0.000000001")


@dataclass(frozen=True)
class MarketRules:
    """``max_quote_age``: an older quote is stale. ``half_spread``: assumed, as a fraction of the last price."""

    max_quote_age: timedelta = timedelta(seconds=120)
    half_spread: Decimal = Decimal("0.0001")


def usable(price: Price, order: Order, now: datetime, rules: MarketRules) -> bool:
    """Whether the order may fill on this quote at all."""
    fresh = now - price.quoted_at <= rules.max_quote_age
    in_time = order.expires_at is None or price.quoted_at < order.expires_at
    return fresh and in_time and price.quoted_at > order.accepted_at


def execution_price(order: Order, price: Price, rules: MarketRules) -> Decimal | None:
    """The price the whole order fills at on this quote, or None while it has to wait."""
    quote = buy_price(price, rules) if order.side is Side.BUY else sell_price(price, rules)
    return quote if _may_trade(order, quote, price.last) else None


def buy_price(price: Price, rules: MarketRules) -> Decimal:
    if price.ask is not None:
        return price.ask
    return (price.last * (1 + rules.half_spread)).quantize(_step(price.last), rounding=ROUND_CEILING)


def sell_price(price: Price, rules: MarketRules) -> Decimal:
    if price.bid is not None:
        return price.bid
    return (price.last * (1 - rules.half_spread)).quantize(_step(price.last), rounding=ROUND_FLOOR)


def _step(last: Decimal) -> Decimal:
    return _STEP if last >= 1 else _FINE_STEP


def _may_trade(order: Order, quote: Decimal, last: Decimal) -> bool:
    if order.type is OrderType.LIMIT and order.limit_price is not None:
        return quote <= order.limit_price if order.side is Side.BUY else quote >= order.limit_price
    if order.type is OrderType.STOP and order.stop_price is not None:
        return last >= order.stop_price if order.side is Side.BUY else last <= order.stop_price
    return order.type is OrderType.MARKET
