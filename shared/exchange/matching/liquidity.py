"""What the market has to give on one price update, for accounts that may take only a share of it.

What one of our orders took is not there for the next on the same update, whoever owns it.
"""

from dataclasses import dataclass, field
from decimal import Decimal

from shared.contracts.prices import Price
from shared.exchange.matching.matching import Match, Stage
from shared.exchange.order import LEAST_QTY
from shared.money import ZERO

#: (symbol, what is drawn from): the sizes at the ask and at the bid, the bar's volume, or the auction's.
Pool = tuple[str, str]


@dataclass
class Liquidity:
    """``taken`` is what earlier transactions took of the same updates, and what this one takes: in ``touched``."""

    taken: dict[Pool, Decimal] = field(default_factory=dict)
    touched: set[Pool] = field(default_factory=set)

    def there(self, match: Match, price: Price, wanted: Decimal, participation: Decimal) -> Decimal:
        """As much of ``wanted`` as may still be taken, in whole shares where it is whole."""
        pool, size = _pool(match, price)
        left = max(size * participation - self.taken.get(pool, ZERO), ZERO)
        unit = Decimal(1) if wanted % 1 == 0 else LEAST_QTY
        return min(wanted, left // unit * unit)

    def take(self, match: Match, price: Price, qty: Decimal) -> None:
        pool, _ = _pool(match, price)
        self.taken[pool] = self.taken.get(pool, ZERO) + qty
        self.touched.add(pool)


def _pool(match: Match, price: Price) -> tuple[Pool, Decimal]:
    size = price.ask_size if match.order.buys else price.bid_size
    if match.stage is Stage.QUOTE and size is not None:
        return (price.symbol, "ask" if match.order.buys else "bid"), size
    return (price.symbol, "auction" if match.stage is Stage.AUCTION else "bar"), price.volume
