"""What is paid and got in one currency, in another: at the worse side of the pair's quote, as with any price.

Where the pair has no quote, its last price ± half the assumed spread stands in, as for an instrument. There is no
made-up rate: without one nothing fills.
"""

from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal

from shared.exchange.matching.matching import MarketRules

#: (currency, the account's currency).
Pair = tuple[str, str]
_STEP = Decimal("1E-12")
_ONE = Decimal(1)


@dataclass(frozen=True)
class Rate:
    """Of one unit of a currency in another: ``pays`` is what it costs, ``gets`` what it brings, ``last`` its value.

    ``bid`` and ``ask`` are None where the provider has no quote, ``quoted_at`` of a currency in itself.
    """

    pays: Decimal
    gets: Decimal
    last: Decimal
    bid: Decimal | None = None
    ask: Decimal | None = None
    quoted_at: datetime | None = None

    def of(self, *, buys: bool) -> Decimal:
        """What an instrument that is bought, or sold, is converted at."""
        return self.pays if buys else self.gets


#: Of a currency in itself.
SAME = Rate(_ONE, _ONE, _ONE)


def rate_of(bid: Decimal | None, ask: Decimal | None, last: Decimal, quoted_at: datetime, rules: MarketRules) -> Rate:
    """The rate that a pair's quote makes."""
    pays = ask if ask is not None else (last * (1 + rules.half_spread)).quantize(_STEP, rounding=ROUND_CEILING)
    gets = bid if bid is not None else (last * (1 - rules.half_spread)).quantize(_STEP, rounding=ROUND_FLOOR)
    return Rate(pays, gets, last, bid, ask, quoted_at)


def is_fresh(rate: Rate, at: datetime, rules: MarketRules) -> bool:
    """Whether the rate is no older than a price may be."""
    return rate.quoted_at is None or at - rate.quoted_at <= rules.max_quote_age
