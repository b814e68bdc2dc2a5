"""The strategies by their kinds: those of this package, and those that other packages add by an entry point."""

from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points
from typing import Any

import structlog

from services.strategy.strategies.library.allocation import (
    BuyAndHold,
    DollarCostAveraging,
    MomentumRanking,
    TargetAllocation,
)
from services.strategy.strategies.library.breakouts import DonchianBreakout, OpeningRangeBreakout
from services.strategy.strategies.library.crossover import EmaCrossover, SmaCrossover
from services.strategy.strategies.library.oscillators import BollingerReversion, Macd, RsiReversion, VwapReversion
from services.strategy.strategies.library.pairs import Pairs
from services.strategy.strategies.rules import RuleStrategy
from services.strategy.strategies.strategy import Strategy

log = structlog.get_logger(__name__)

GROUP = "paperprofit.strategies"
OWN: tuple[type[Strategy[Any]], ...] = (
    BuyAndHold,
    DollarCostAveraging,
    TargetAllocation,
    MomentumRanking,
    SmaCrossover,
    EmaCrossover,
    Macd,
    RsiReversion,
    BollingerReversion,
    VwapReversion,
    DonchianBreakout,
    OpeningRangeBreakout,
    Pairs,
    RuleStrategy,
)


class UnknownStrategy(ValueError):
    """There is no strategy of that kind. The message names those that there are."""

    def __init__(self, kind: str) -> None:
        super().__init__(f"kind: there is no strategy {kind!r}, choose one of {', '.join(sorted(strategies()))}")


@cache
def strategies() -> Mapping[str, type[Strategy[Any]]]:
    """All strategies: kind → class. An own one is not replaced by another package's."""
    found: dict[str, type[Strategy[Any]]] = {}
    for entry in entry_points(group=GROUP):
        try:
            strategy = entry.load()
            found[strategy.kind] = strategy
        except (ImportError, AttributeError) as error:
            log.warning("a strategy of another package could not be loaded", entry_point=entry.value, error=str(error))
    return found | {strategy.kind: strategy for strategy in OWN}


def make_strategy(kind: str, parameters: Mapping[str, Any]) -> Strategy[Any]:
    """The strategy with these parameters. Raises UnknownStrategy, and ValueError of pydantic that names each field."""
    known = strategies()
    if kind not in known:
        raise UnknownStrategy(kind)
    strategy = known[kind]
    return strategy(strategy.parameters_model.model_validate(dict(parameters)))
