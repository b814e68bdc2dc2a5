"""Matching one order with one price update: the price, if any, at which the order fills.

The time since the previous update has three stages: the bar's open, its range, and the quote at its end. The quote
counts for every order. Open and range count only for accounts that fill on bars, once the whole bar is later than the
order. A fill needs a quote that is newer than the order and not stale. A buy pays the ask, a sell gets the bid. Where
the provider has no quote, the last price ± half an assumed spread stands in. No price is ever made up: without a usable
quote the order waits.

Inside the range the sequence of prices is unknown, so the worse case is assumed. A limit has to be traded through, not
only touched. A stop is checked before a trailing stop follows the bar's best price. A limit on the far side of its stop
waits for the quote. Types of orders and their triggers are Alpaca's (orders-at-alpaca).
"""

from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from enum import IntEnum
from typing import NamedTuple

from shared.contracts.orders import AUCTIONS, OrderType, Side
from shared.contracts.prices import Price
from shared.exchange.costs import rounded
from shared.exchange.market_rules import MarketRules
from shared.exchange.order import Order


class Stage(IntEnum):
    """The stage of a price update that fills an order, in the sequence in which they happen."""

    OPEN = 0
    RANGE = 1
    QUOTE = 2
    AUCTION = 3


class Match(NamedTuple):
    """The order after the update, and the price of its fill, or None where it keeps waiting.

    ``takes_liquidity``: it trades at the market, so it may slip. ``unlimited``: the available liquidity is not known.
    """

    order: Order
    price: Decimal | None = None
    stage: Stage = Stage.QUOTE
    takes_liquidity: bool = False
    unlimited: bool = False

    def precedence(self, price: Price) -> tuple[object, ...]:
        """The key that sorts matches: the stage, market orders, the better limit, then time (price-time priority)."""
        order, eager = self.order, Decimal("Infinity")
        if order.limit_price is not None:
            eager = order.limit_price / price.last if order.buys else price.last / order.limit_price
        return (self.stage, -eager, order.accepted_at, order.id.int, order.account_id.int)


def oldest_fresh(at: datetime, rules: MarketRules) -> datetime:
    """The oldest time of a price that is not stale, if it became known ``at`` that time."""
    return at - rules.max_quote_age


def usable(price: Price, order: Order, at: datetime, rules: MarketRules) -> bool:
    """True if the order may fill on a quote that became known ``at`` that time. Orders for an auction never may."""
    fresh = price.quoted_at >= oldest_fresh(at, rules)
    in_time = order.expires_at is None or price.quoted_at < order.expires_at
    return fresh and in_time and price.quoted_at > order.active_at and order.time_in_force not in AUCTIONS


def match(order: Order, price: Price, rules: MarketRules, *, on_bar: bool) -> Match:
    """Match the order with the update. ``on_bar``: its account also fills inside of bars."""
    if on_bar and price.since is not None and price.since >= order.active_at:
        order, found = _in_bar(order, price, rules)
        if found is not None:
            return found
    if waits_for_stop(order):
        order = follow(order, price.last)
        stop = stop_of(order)
        if stop is None or not _reached(order, stop, price.last):
            return Match(order)
        order = replace(order, triggered=True)
    quote = buy_price(price, rules) if order.buys else sell_price(price, rules)
    if order.limit_price is None:
        return Match(order, quote, Stage.QUOTE, takes_liquidity=True)
    return Match(order, quote, Stage.QUOTE) if within(order, quote) else Match(order)


def _in_bar(order: Order, price: Price, rules: MarketRules) -> tuple[Order, Match | None]:
    """The order after the bar, and its match inside of it, if any."""
    if waits_for_stop(order):
        return _stop_in_bar(order, price)
    if order.limit_price is not None:
        return order, _limit_in_bar(order, order.limit_price, price)
    if price.bid is not None or price.ask is not None:
        return order, None
    # a bar alone: its open is the first price after the order, with half the assumed spread inside the bar's range
    if order.buys:
        at = min(rounded(price.open * (1 + rules.half_spread), order.side), price.high)
    else:
        at = max(rounded(price.open * (1 - rules.half_spread), order.side), price.low)
    return order, Match(order, at, Stage.OPEN, takes_liquidity=True)


def _stop_in_bar(order: Order, price: Price) -> tuple[Order, Match | None]:
    stop, limit = stop_of(order), order.limit_price
    if stop is not None and _reached(order, stop, price.open):
        order = replace(order, triggered=True)
        if limit is not None:
            return order, _limit_in_bar(order, limit, price)  # the rest of the bar comes after the trigger
        return order, Match(order, price.open, Stage.OPEN, takes_liquidity=True)
    if stop is not None and _reached(order, stop, price.high if order.buys else price.low):
        order = replace(order, triggered=True)
        if limit is None:
            return order, Match(order, stop, Stage.RANGE, takes_liquidity=True)
        return order, Match(order, stop, Stage.RANGE) if within(order, stop) else None
    return follow(order, price.low if order.buys else price.high), None


def _limit_in_bar(order: Order, limit: Decimal, price: Price) -> Match | None:
    if within(order, price.open):
        return Match(order, price.open, Stage.OPEN)
    through = price.low < limit if order.buys else price.high > limit
    return Match(order, limit, Stage.RANGE) if through else None


def waits_for_stop(order: Order) -> bool:
    """True if the order has a stop that was not reached yet."""
    stops = {OrderType.STOP, OrderType.STOP_LIMIT, OrderType.TRAILING_STOP}
    return order.type in stops and not order.triggered


def stop_of(order: Order) -> Decimal | None:
    """The price that triggers the order. It is None before a trailing stop has a price to follow."""
    if order.type is not OrderType.TRAILING_STOP:
        return order.stop_price
    if order.hwm is None:
        return None
    trail = order.trail_price if order.trail_price is not None else order.hwm * (order.trail_percent or 0) / 100
    return order.hwm + trail if order.buys else order.hwm - trail


def follow(order: Order, best: Decimal) -> Order:
    """The trailing stop with its best price so far, the highest for a sell and the lowest for a buy."""
    if order.type is not OrderType.TRAILING_STOP:
        return order
    if order.hwm is not None and (best >= order.hwm if order.buys else best <= order.hwm):
        return order
    return replace(order, hwm=best)


def _reached(order: Order, stop: Decimal, traded: Decimal) -> bool:
    return traded >= stop if order.buys else traded <= stop


def within(order: Order, price: Decimal) -> bool:
    """True if the order's limit allows that price."""
    if order.limit_price is None:
        return True
    return price <= order.limit_price if order.buys else price >= order.limit_price


def buy_price(price: Price, rules: MarketRules) -> Decimal:
    """The ask, or the last price plus half the assumed spread."""
    return price.ask if price.ask is not None else rounded(price.last * (1 + rules.half_spread), Side.BUY)


def sell_price(price: Price, rules: MarketRules) -> Decimal:
    """The bid, or the last price minus half the assumed spread."""
    return price.bid if price.bid is not None else rounded(price.last * (1 - rules.half_spread), Side.SELL)
