"""At which price, if any, an order fills on a price update.

What happened since the update before it is known in three stages: the bar's open, its range, and the quote at its end.
The quote counts for every order; open and range only for those whose account fills on bars, once the whole bar is later
than the order. A fill needs a quote that is newer than the order and not stale. A buy pays the ask, a sell gets the
bid; where the provider has no quote, the last price ± half an assumed spread stands in. There is no made-up price:
without a usable quote the order waits.

Inside the range nobody knows what came first, so the worse is assumed: a limit has to be traded through, not only
touched; a stop is checked before a trailing one follows the bar's best price; a limit that lies on the far side of its
stop waits for the quote.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from enum import IntEnum
from typing import NamedTuple

from shared.contracts.orders import AUCTIONS, OrderType, Side
from shared.contracts.prices import Price
from shared.exchange.costs import rounded
from shared.exchange.order import Order


@dataclass(frozen=True)
class MarketRules:
    """``max_quote_age``: an older quote is stale. ``half_spread``: assumed, as a fraction of the last price."""

    max_quote_age: timedelta = timedelta(seconds=120)
    half_spread: Decimal = Decimal("0.0001")


class Stage(IntEnum):
    """What of a price update it was that filled; in the order in which it happened."""

    OPEN = 0
    RANGE = 1
    QUOTE = 2
    AUCTION = 3


class Match(NamedTuple):
    """The order after the update, and where it fills; ``price`` is None while it goes on waiting.

    ``takes``: it takes liquidity at the market, so it may slip. ``unlimited``: nobody knows how much there is to take.
    """

    order: Order
    price: Decimal | None = None
    stage: Stage = Stage.QUOTE
    takes: bool = False
    unlimited: bool = False


def oldest_fresh(at: datetime, rules: MarketRules) -> datetime:
    """The time before which a price was stale at that time, when it became known."""
    return at - rules.max_quote_age


def usable(price: Price, order: Order, at: datetime, rules: MarketRules) -> bool:
    """Whether the order may fill at all on this quote, which became known ``at`` that time; for an auction never."""
    fresh = price.quoted_at >= oldest_fresh(at, rules)
    in_time = order.expires_at is None or price.quoted_at < order.expires_at
    return fresh and in_time and price.quoted_at > order.active_at and order.time_in_force not in AUCTIONS


def match(order: Order, price: Price, rules: MarketRules, *, on_bar: bool) -> Match:
    """What the update does to the order; ``on_bar``: its account fills inside of bars, too."""
    if on_bar and price.since is not None and price.since >= order.active_at:
        order, found = _in_bar(order, price, rules)
        if found is not None:
            return found
    return _at_quote(order, price, rules)


def _in_bar(order: Order, price: Price, rules: MarketRules) -> tuple[Order, Match | None]:
    if waits_for_stop(order):
        return _stop_in_bar(order, price)
    if order.limit_price is not None:
        return order, _limit_in_bar(order, price)
    if price.bid is None and price.ask is None:  # a bar alone: its open is the first price after the order
        return order, Match(order, _around(price.open, order.side, rules, price), Stage.OPEN, takes=True)
    return order, None


def _limit_in_bar(order: Order, price: Price) -> Match | None:
    limit = order.limit_price
    if limit is None:
        return None
    if within(order, price.open):
        return Match(order, price.open, Stage.OPEN)
    through = price.low < limit if order.buys else price.high > limit
    return Match(order, limit, Stage.RANGE) if through else None


def _stop_in_bar(order: Order, price: Price) -> tuple[Order, Match | None]:
    stop = stop_of(order)
    if stop is not None and _reached(order, stop, price.open):
        order = replace(order, triggered=True)
        if order.limit_price is not None:
            return order, _limit_in_bar(order, price)  # what follows the open is known to come after the trigger
        return order, Match(order, price.open, Stage.OPEN, takes=True)
    if stop is not None and _reached(order, stop, price.low if order.side is Side.SELL else price.high):
        order = replace(order, triggered=True)
        if order.limit_price is None:
            return order, Match(order, stop, Stage.RANGE, takes=True)
        return order, Match(order, stop, Stage.RANGE) if within(order, stop) else None
    return follow(order, price.high if order.side is Side.SELL else price.low), None


def _at_quote(order: Order, price: Price, rules: MarketRules) -> Match:
    if waits_for_stop(order):
        order = follow(order, price.last)
        stop = stop_of(order)
        if stop is None or not _reached(order, stop, price.last):
            return Match(order)
        order = replace(order, triggered=True)
    quote = buy_price(price, rules) if order.buys else sell_price(price, rules)
    if order.limit_price is None:
        return Match(order, quote, Stage.QUOTE, takes=True)
    return Match(order, quote, Stage.QUOTE) if within(order, quote) else Match(order)


def waits_for_stop(order: Order) -> bool:
    stops = {OrderType.STOP, OrderType.STOP_LIMIT, OrderType.TRAILING_STOP}
    return order.type in stops and not order.triggered


def stop_of(order: Order) -> Decimal | None:
    """The price that triggers the order; None before a trailing stop has seen one to follow."""
    if order.type is not OrderType.TRAILING_STOP:
        return order.stop_price
    if order.hwm is None:
        return None
    trail = order.trail_price if order.trail_price is not None else order.hwm * (order.trail_percent or 0) / 100
    return order.hwm + trail if order.buys else order.hwm - trail


def follow(order: Order, best: Decimal) -> Order:
    """The order with its best price so far: the highest for a sell, the lowest for a buy."""
    if order.type is not OrderType.TRAILING_STOP:
        return order
    if order.hwm is not None and (best >= order.hwm if order.buys else best <= order.hwm):
        return order
    return replace(order, hwm=best)


def _reached(order: Order, stop: Decimal, traded: Decimal) -> bool:
    return traded >= stop if order.buys else traded <= stop


def within(order: Order, price: Decimal) -> bool:
    if order.limit_price is None:
        return True
    return price <= order.limit_price if order.buys else price >= order.limit_price


def buy_price(price: Price, rules: MarketRules) -> Decimal:
    return price.ask if price.ask is not None else rounded(price.last * (1 + rules.half_spread), Side.BUY)


def sell_price(price: Price, rules: MarketRules) -> Decimal:
    return price.bid if price.bid is not None else rounded(price.last * (1 - rules.half_spread), Side.SELL)


def _around(traded: Decimal, side: Side, rules: MarketRules, price: Price) -> Decimal:
    """A price of the bar with half the assumed spread against the trader, inside the bar's range."""
    if side is Side.BUY:
        return min(rounded(traded * (1 + rules.half_spread), side), price.high)
    return max(rounded(traded * (1 - rules.half_spread), side), price.low)
