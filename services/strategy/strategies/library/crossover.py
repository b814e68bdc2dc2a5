"""The crossover of two moving averages, simple or exponential."""

from abc import ABC
from collections.abc import Mapping
from typing import Annotated, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from services.strategy.strategies.decision import Action, Condition, Decision
from services.strategy.strategies.strategy import Parameters, SymbolStrategy, act, crossings, hold, side
from services.strategy.strategies.view import Indicator, SymbolView, View
from shared.contracts.written import Bounded
from shared.indicators.bars import Array


class Averages(Parameters):
    fast: Annotated[int, Bounded(ge=2, le=399)] = Field(default=10, description="Bars of the fast average.")
    slow: Annotated[int, Bounded(ge=3, le=400)] = Field(default=20, description="Bars of the slow average.")
    short: bool = Field(default=False, description="Sell short when the fast average crosses below.")

    @model_validator(mode="after")
    def _slow_is_slower(self) -> Self:
        if self.slow <= self.fast:
            raise ValueError("slow: the slow average needs more bars than the fast one")
        return self


class _Crossover(SymbolStrategy[Averages], ABC):
    """Enter when the fast average crosses above the slow one, and exit when it crosses below.

    A crossing takes two bars: at the one before, the fast average was not beyond the slow one. An average that is
    above all the time is no crossing.
    """

    average: ClassVar[str]
    parameters_model = Averages

    @property
    def warm_up(self) -> int:
        return self.parameters.slow + 1

    def indicators(self) -> Mapping[str, Indicator]:
        return {
            "fast": Indicator(self.average, {"period": self.parameters.fast}),
            "slow": Indicator(self.average, {"period": self.parameters.slow}),
        }

    def may_act(self, values: Mapping[str, Array], closes: Array) -> NDArray[np.bool_]:
        return crossings(values["fast"], values["slow"], closes)

    def decide_symbol(self, view: View, symbol: SymbolView) -> Decision:  # noqa: ARG002
        (fast, fast_before), (slow, slow_before) = symbol.last_two("fast"), symbol.last_two("slow")
        if fast is None or slow is None or fast_before is None or slow_before is None:
            return hold(symbol, "The averages do not have enough bars yet.")
        values = (("fast", fast), ("slow", slow), ("fast before", fast_before), ("slow before", slow_before))
        before, now = side(symbol, fast_before, slow_before, 1), side(symbol, fast, slow)
        if before <= 0 < now:
            crossed = Condition("fast crosses above slow", True, values)
            return act(symbol, Action.ENTER_LONG, "The fast average crossed above the slow one.", crossed)
        if before >= 0 > now:
            crossed = Condition("fast crosses below slow", True, values)
            action = Action.ENTER_SHORT if self.parameters.short else Action.EXIT
            return act(symbol, action, "The fast average crossed below the slow one.", crossed)
        return hold(symbol, "The averages did not cross.", Condition("the averages cross", False, values))


class SmaCrossover(_Crossover):
    kind = "sma_crossover"
    title = "Crossover of two simple moving averages"
    source = "W. Brock, J. Lakonishok, B. LeBaron: Simple Technical Trading Rules, Journal of Finance 47 (1992)"
    average = "sma"


class EmaCrossover(_Crossover):
    kind = "ema_crossover"
    title = "Crossover of two exponential moving averages"
    source = "R. Colby: The Encyclopedia of Technical Market Indicators (2003)"
    average = "ema"
