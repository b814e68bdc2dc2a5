"""Foreign exchange: the rate at which money in one currency is converted to another.

A conversion uses the worse side of the pair's quote, as any trade does. A pair without a quote is converted at its last
price ± half the assumed spread, as an instrument is. No rate is ever made up: without one nothing fills.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from shared.exchange.market_rules import MarketRules

#: (currency, the account's currency).
Pair = tuple[str, str]
_STEP = Decimal("1E-12")
_ONE = Decimal(1)


@dataclass(frozen=True)
class Rate:
    """The exchange rate of a unit of one currency in another.

    ``pays`` is its cost, ``gets`` its proceeds, ``last`` its value. ``bid`` and ``ask`` are None where the provider has
    no quote. ``quoted_at`` is None for the rate of a currency in itself.
    """

    pays: Decimal
    gets: Decimal
    last: Decimal
    bid: Decimal | None = None
    ask: Decimal | None = None
    quoted_at: datetime | None = None

    def of(self, *, buys: bool) -> Decimal:
        """The rate at which a purchase, or a sale, of an instrument is converted."""
        return self.pays if buys else self.gets


#: The rate of a currency in itself.
SAME = Rate(_ONE, _ONE, _ONE)


def rate_of(bid: Decimal | None, ask: Decimal | None, last: Decimal, quoted_at: datetime, rules: MarketRules) -> Rate:
    """The rate from a pair's quote, or from its last price where it has none."""
    pays = ask if ask is not None else (last * (1 + rules.half_spread)).quantize(_STEP, rounding=ROUND_CEILING)
    gets = bid if bid is not None else (last * (1 - rules.half_spread)).quantize(_STEP, rounding=ROUND_FLOOR)
    return Rate(pays, gets, last, bid, ask, quoted_at)


def is_fresh(rate: Rate, at: datetime, rules: MarketRules) -> bool:
    """True if the rate is not older than a price may be."""
    return rate.quoted_at is None or at - rate.quoted_at <= rules.max_quote_age
