"""Matching one order with one price update: the price, if any, at which the order fills.

The time of the update has three stages: the bar's open, its range, and the quote at its end. Open and range count only
for accounts that fill on bars, and for a bar that started after the order reached the market. The quote must be newer
than the order. Each must lie in a session of the order's. A buy pays the ask, a sell gets the bid. If the provider
has no quote at all, the last price ± half an assumed spread stands in. No price is ever made up: without a usable quote
the order waits.

Inside the range the sequence of prices is unknown, so the worse case is assumed. A limit has to be traded through, not
only touched. A stop is checked before a trailing stop follows the bar's best price. A limit on the far side of its stop
waits for the quote. A limit that rested fills at its limit, since a trade beyond it would have been with it, unless the
market gapped. Types of orders and their triggers are Alpaca's (orders-at-alpaca). docs/exchange.md has all rules.
"""

from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from enum import IntEnum
from typing import NamedTuple

from shared.contracts.orders import AT_ONCE, OrderType, Side
from shared.contracts.prices import Price
from shared.exchange.costs import rounded
from shared.exchange.market_rules import MarketRules
from shared.exchange.order import Order
from shared.exchange.trading_days import ALWAYS_OPEN, Hours


class Stage(IntEnum):
    """The stage of a price update that fills an order, in the sequence in which they happen."""

    OPEN = 0
    RANGE = 1
    QUOTE = 2
    AUCTION = 3


class Match(NamedTuple):
    """The order after the update, and the price of its fill, or None where it keeps waiting.

    ``takes_liquidity``: it trades at the market, so it may slip. ``unlimited``: the available liquidity is not known.
    ``usable`` is False if the update has no price for its side, so that an ioc or fok order waits for the next one.
    """

    order: Order
    price: Decimal | None = None
    stage: Stage = Stage.QUOTE
    takes_liquidity: bool = False
    unlimited: bool = False
    usable: bool = True

    def precedence(self, price: Price) -> tuple[object, ...]:
        """The key that sorts matches: the stage, market orders, the better limit, then time (price-time priority)."""
        order, eager = self.order, Decimal("Infinity")
        if order.limit_price is not None:
            eager = order.limit_price / price.last if order.buys else price.last / order.limit_price
        return (self.stage, -eager, order.accepted_at, order.id.int, order.account_id.int)


def oldest_fresh(at: datetime, rules: MarketRules) -> datetime:
    """The oldest time of a price that is not stale, if it became known ``at`` that time."""
    return at - rules.max_quote_age


def bar_counts(order: Order, price: Price, hours: Hours = ALWAYS_OPEN) -> bool:
    """True if the order may fill inside the bar: it started after the order became active, and before the order ends.

    A bar without a start of its own began with the previous update, and may reach over the order's end.
    """
    start = price.bar_start or price.since
    if start is None or start < order.active_at or order.time_in_force in AT_ONCE:
        return False
    if not (hours.bar_extended if order.extended_hours else hours.bar):
        return False
    if order.expires_at is None:
        return True
    return start < order.expires_at if price.bar_start is not None else price.quoted_at <= order.expires_at


def quote_counts(order: Order, price: Price, hours: Hours = ALWAYS_OPEN) -> bool:
    """True if the order may fill on the quote: it is newer than the order, and older than its end."""
    in_time = order.expires_at is None or price.quoted_at < order.expires_at
    in_session = hours.quote_extended if order.extended_hours else hours.quote
    return in_session and in_time and price.quoted_at > order.active_at


def match(order: Order, price: Price, rules: MarketRules, *, on_bar: bool, hours: Hours = ALWAYS_OPEN) -> Match:
    """Match the order with the update. ``on_bar``: its account also fills inside of bars."""
    rests, gapped = _rests(order, price), _gapped(order, price, hours)
    by_quote = quote_counts(order, price, hours)
    quote = (buy_price(price, rules) if order.buys else sell_price(price, rules)) if by_quote else None
    if on_bar and bar_counts(order, price, hours):
        marketable = not rests and not gapped
        order, found = _in_bar(order, price, rules, quote=quote, gapped=gapped, marketable=marketable)
        if found is not None:
            return found
    if order.time_in_force in AT_ONCE and quote is None:
        return Match(order, usable=order.expires_at is not None and price.quoted_at >= order.expires_at)
    if by_quote and waits_for_stop(order):
        order = follow(order, price.last)
        stop = stop_of(order)
        if stop is not None and _reached(order, stop, price.last):
            order = replace(order, triggered=True, rests=True)
    if quote is None or waits_for_stop(order) or not within(order, quote):
        return Match(order)
    if order.limit_price is None:
        return Match(order, quote, Stage.QUOTE, takes_liquidity=True)
    if rests and not gapped:
        return Match(order, order.limit_price, Stage.QUOTE)
    return Match(_marketable(order), quote, Stage.QUOTE)


def _in_bar(
    order: Order, price: Price, rules: MarketRules, *, quote: Decimal | None, gapped: bool, marketable: bool
) -> tuple[Order, Match | None]:
    """The order after the bar, and its match inside of it, if any. ``quote`` is what it would fill at afterwards."""
    if waits_for_stop(order):
        return _stop_in_bar(order, price)
    limit = order.limit_price
    if limit is None or (marketable and _beyond(order, price.open)):
        if price.bid is None and price.ask is None:
            return order, _market_in_bar(order, price, rules)
        if quote is not None and within(order, quote):
            return order, None
    return order, None if limit is None else _limit_in_bar(order, limit, price, gapped=gapped, quote=quote)


def _gapped(order: Order, price: Price, hours: Hours) -> bool:
    """True if the order's session opened since the update before, or if a bar has no update before it."""
    if price.since is None:
        return price.bar_start is not None
    opened_at = hours.extended_opened_at if order.extended_hours else hours.opened_at
    return opened_at is not None and price.since < opened_at


def _rests(order: Order, price: Price) -> bool:
    """True if the limit order was on the market before this update, at a price that the quote did not reach."""
    if order.time_in_force in AT_ONCE or waits_for_stop(order):
        return False
    if order.rests is not None:
        return order.rests
    return price.since is not None and price.since > order.active_at


def _marketable(order: Order) -> Order:
    """The order as one that does not rest, so that its rest fills at the market, too."""
    return order if order.rests is False else replace(order, rests=False)


def _market_in_bar(order: Order, price: Price, rules: MarketRules) -> Match:
    """The fill on a bar alone: its open is the first price after the order, half the assumed spread worse."""
    if order.buys:
        at = min(rounded(price.open * (1 + rules.half_spread), order.side), price.high)
    else:
        at = max(rounded(price.open * (1 - rules.half_spread), order.side), price.low)
    if order.limit_price is not None and not within(order, at):
        at = order.limit_price
    return Match(order, at, Stage.OPEN, takes_liquidity=order.limit_price is None)


def _stop_in_bar(order: Order, price: Price) -> tuple[Order, Match | None]:
    """The order after the bar, and its match inside of it, if any. The rest of the bar comes after the trigger."""
    limit = order.limit_price
    stop = stop_of(order)
    if stop is not None and _reached(order, stop, price.open):
        order = replace(order, triggered=True, rests=True)
        if limit is not None:
            return order, _limit_in_bar(order, limit, price, gapped=True)
        return order, Match(order, price.open, Stage.OPEN, takes_liquidity=True)
    order = follow(order, price.open)
    stop = stop_of(order)
    if stop is not None and _reached(order, stop, price.high if order.buys else price.low):
        order = replace(order, triggered=True, rests=True)
        if limit is None:
            return order, Match(order, stop, Stage.RANGE, takes_liquidity=True)
        return order, Match(order, stop, Stage.RANGE) if within(order, stop) else None
    return follow(order, price.low if order.buys else price.high), None


def _limit_in_bar(
    order: Order, limit: Decimal, price: Price, *, gapped: bool, quote: Decimal | None = None
) -> Match | None:
    """The fill at the limit that was traded through, or at the open beyond it where the market gapped.

    A bar that lies beyond the limit as a whole never traded at it. Then the order fills on the quote at the bar's end,
    or else at the bar's worst price.
    """
    if gapped and _beyond(order, price.open):
        return Match(_marketable(order), price.open, Stage.OPEN)
    through = price.low < limit if order.buys else price.high > limit
    at = min(limit, price.high) if order.buys else max(limit, price.low)
    by_quote = quote is not None and within(order, quote) and (price.bid is not None or price.ask is not None)
    if not through or (at != limit and by_quote):
        return None
    return Match(order, at, Stage.RANGE)


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


def _beyond(order: Order, price: Decimal) -> bool:
    """True if the price is better than the order's limit, and not only equal to it."""
    return price != order.limit_price and within(order, price)


def within(order: Order, price: Decimal) -> bool:
    """True if the order's limit allows that price."""
    if order.limit_price is None:
        return True
    return price <= order.limit_price if order.buys else price >= order.limit_price


def buy_price(price: Price, rules: MarketRules) -> Decimal | None:
    """The ask, or the last price plus half the assumed spread. None where nobody sells."""
    side = buy_side(price)
    if side is None or price.ask is not None:
        return side
    return rounded(side * (1 + rules.half_spread), Side.BUY)


def sell_price(price: Price, rules: MarketRules) -> Decimal | None:
    """The bid, or the last price minus half the assumed spread. None where nobody buys."""
    side = sell_side(price)
    if side is None or price.bid is not None:
        return side
    return rounded(side * (1 - rules.half_spread), Side.SELL)


def buy_side(price: Price) -> Decimal | None:
    """The ask, or the last price where the provider has no quote. None where the quote cannot be used."""
    return _side(price, price.ask, price.ask_size)


def sell_side(price: Price) -> Decimal | None:
    """The bid, or the last price where the provider has no quote. None where the quote cannot be used."""
    return _side(price, price.bid, price.bid_size)


def _side(price: Price, side: Decimal | None, size: Decimal | None) -> Decimal | None:
    """A crossed quote is an error of the data. A locked one is two offers that stand (SEC Rule 610)."""
    if price.bid is None and price.ask is None:
        return price.last
    crossed = price.bid is not None and price.ask is not None and price.bid > price.ask
    return None if crossed or size == 0 else side
