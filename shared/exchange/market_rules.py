"""The rules of the simulated market that hold for every account."""

from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal


@dataclass(frozen=True)
class MarketRules:
    """A quote older than ``max_quote_age`` is stale. The assumed ``half_spread`` is a fraction of the last price."""

    max_quote_age: timedelta = timedelta(seconds=120)
    half_spread: Decimal = Decimal("0.0001")
