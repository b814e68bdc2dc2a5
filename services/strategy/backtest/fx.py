"""Exchange rates of a backtest, from the bars of currency pairs."""

from collections import deque
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from services.strategy.backtest.exchange import BacktestExchange
from services.strategy.backtest.series import Series
from shared.exchange.fx import rate_of
from shared.exchange.market_rules import MarketRules

_STEP = Decimal("1E-12")


class Rates:
    """The rates to come. A pair such as EUR/USD gives the rate of a euro in dollars, and that of a dollar in euros."""

    def __init__(self, pairs: Sequence[Series], rules: MarketRules) -> None:
        ends: list[tuple[datetime, str, str, Decimal]] = []
        for each in pairs:
            base, quoted = each.symbol.split("/", 1)
            ends += [(bar.start + each.interval, base, quoted, bar.close) for bar in each.bars]
        self._coming = deque(sorted(ends))
        self._rules = rules

    def follow(self, exchange: BacktestExchange, now: datetime) -> None:
        """Set the rates of the bars that have ended. The last one counts until the next, however old it is."""
        while self._coming and self._coming[0][0] <= now:
            at, base, quoted, close = self._coming.popleft()
            exchange.rates[base, quoted] = rate_of(None, None, close, at, self._rules)
            inverse = (1 / close).quantize(_STEP)
            exchange.rates[quoted, base] = rate_of(None, None, inverse, at, self._rules)
