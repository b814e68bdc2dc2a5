"""The indicators and the bars that a strategy depends on, the same live and in a backtest."""

from collections.abc import Mapping
from typing import Any

from services.strategy.strategies.sizing import ATR, Sizing
from services.strategy.strategies.strategy import Strategy
from services.strategy.strategies.view import Indicator
from shared.contracts.bars import LENGTHS
from shared.contracts.indicators import GivenParameters, IndicatorName, complete
from shared.indicators.formulas import bars_before

#: Bars of one series in one evaluation. A position that is older than that counts from the oldest of them.
MOST_BARS = 2_000


def indicators_of(strategy: Strategy[Any], sizing: Sizing) -> dict[str, Indicator]:
    """The indicators that the strategy reads, and the one from which its sizes follow."""
    own = dict(strategy.indicators())
    return {ATR: Indicator("atr"), **own} if sizing.kind == "volatility" else own


def bars_needed(strategy: Strategy[Any], indicators: Mapping[str, Indicator], interval: str) -> int:
    """The number of bars that the strategy's values depend on. An interval without a length has those of minutes."""
    before = [
        bars_before(
            IndicatorName(each.name),
            complete(IndicatorName(each.name), GivenParameters(**each.parameters)),
            interval if interval in LENGTHS else "1m",
        )
        for each in indicators.values()
    ]
    return min(MOST_BARS, max(strategy.warm_up, max(before, default=0) + strategy.back) + 2)
