"""What the orders of an opening or closing auction get in it.

All trade at one price, the session's official open or close: those at the market, and those whose limit it lies within.
What is left of them then is canceled. No other price fills them, and no other order fills there.
"""

from collections.abc import Sequence
from datetime import datetime

from shared.contracts.official_prices import AuctionKind, OfficialPricePublished
from shared.contracts.orders import TimeInForce
from shared.contracts.prices import Price
from shared.exchange.matching.book import Book, Execution
from shared.exchange.matching.execution import execute_matches
from shared.exchange.matching.matching import Match, Stage, within
from shared.exchange.order import Order
from shared.money import ZERO

TIMES_IN_FORCE = {AuctionKind.OPEN: TimeInForce.OPG, AuctionKind.CLOSE: TimeInForce.CLS}


def settle_auction(orders: Sequence[Order], held: OfficialPricePublished, book: Book, now: datetime) -> Execution:
    """Fill and end these orders, which all are for this auction."""
    matches = [_match(order, held) for order in orders]
    return execute_matches(orders, matches, {held.symbol: _price(held)}, book, now)


def _match(order: Order, held: OfficialPricePublished) -> Match:
    """One that reached the market too late gets nothing; without a volume nobody knows what a share of it is."""
    takes_part = order.active_at < held.held_at and within(order, held.price)
    return Match(order, held.price if takes_part else None, Stage.AUCTION, unlimited=held.volume is None)


def _price(held: OfficialPricePublished) -> Price:
    """A bar of the one price, which fills name as that on which they happened."""
    return Price(
        symbol=held.symbol,
        last=held.price,
        open=held.price,
        high=held.price,
        low=held.price,
        close=held.price,
        volume=ZERO if held.volume is None else held.volume,
        quoted_at=held.held_at,
        sequence=held.sequence,
        split_count=held.split_count,
        provider=held.provider,
    )
