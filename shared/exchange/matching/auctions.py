"""The opening and closing auctions (NYSE opening and closing auction, Nasdaq cross).

All orders trade at one price, the session's official open or close: market orders, and limit orders whose limit allows
that price. The rest of them is canceled. No other price fills these orders, and no other orders fill in an auction.
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


def execute_auction(orders: Sequence[Order], auction: OfficialPricePublished, book: Book, now: datetime) -> Execution:
    """Fill and end these orders, which are all for this auction.

    An order that reached the market too late gets nothing. Without a volume the available liquidity is not known.
    """
    price = Price(
        symbol=auction.symbol,
        last=auction.price,
        open=auction.price,
        high=auction.price,
        low=auction.price,
        close=auction.price,
        volume=ZERO if auction.volume is None else auction.volume,
        quoted_at=auction.held_at,
        sequence=auction.sequence,
        split_count=auction.split_count,
        provider=auction.provider,
    )
    matches = []
    for order in orders:
        takes_part = order.active_at < auction.held_at and within(order, auction.price)
        at = auction.price if takes_part else None
        matches.append(Match(order, at, Stage.AUCTION, unlimited=auction.volume is None))
    return execute_matches(orders, matches, {auction.symbol: price}, book, now)
