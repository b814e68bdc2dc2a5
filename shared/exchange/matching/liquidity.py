"""The liquidity of one price update, for accounts that may consume only a share of it.

The quantity that one of our orders consumes is not available to the next on the same update, whoever owns it.
"""

from dataclasses import dataclass, field
from decimal import Decimal

from shared.contracts.accounts import FillModel
from shared.contracts.prices import Price
from shared.exchange.matching.matching import Match, Stage
from shared.exchange.order import LEAST_QTY
from shared.money import ZERO

#: (symbol, source): the source is the ask's or the bid's size, the bar's volume or the auction's. ``volume`` adds up
#: all that was consumed of an update, from whichever source.
Pool = tuple[str, str]


@dataclass
class Liquidity:
    """``consumed`` is the quantity consumed from each pool so far, ``touched`` the pools that this transaction used."""

    consumed: dict[Pool, Decimal] = field(default_factory=dict)
    touched: set[Pool] = field(default_factory=set)

    def available(self, match: Match, price: Price, wanted: Decimal, participation: Decimal) -> Decimal:
        """The part of ``wanted`` that is still available, in whole shares where ``wanted`` is whole."""
        pool, size = _pool(match, price)
        left = max(size * participation - self.consumed.get(pool, ZERO), ZERO)
        unit = Decimal(1) if wanted % 1 == 0 else LEAST_QTY
        return min(wanted, left // unit * unit)

    def taken(self, price: Price) -> Decimal:
        """The quantity that our orders consumed of the whole update."""
        return self.consumed.get((price.symbol, "volume"), ZERO)

    def consume(self, match: Match, price: Price, qty: Decimal, model: FillModel) -> None:
        """Note a fill of an account with that model. Its pools are left to others where it has no participation."""
        pools = [(price.symbol, "volume")]
        if model.participation is not None:
            pools.append(_pool(match, price)[0])
        for pool in pools:
            self.consumed[pool] = self.consumed.get(pool, ZERO) + qty
            self.touched.add(pool)


def _pool(match: Match, price: Price) -> tuple[Pool, Decimal]:
    size = price.ask_size if match.order.buys else price.bid_size
    if match.stage is Stage.QUOTE and size is not None:
        return (price.symbol, "ask" if match.order.buys else "bid"), size
    return (price.symbol, "auction" if match.stage is Stage.AUCTION else "bar"), price.volume
