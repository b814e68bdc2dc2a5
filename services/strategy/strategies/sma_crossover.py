"""The crossover of two simple moving averages."""

from collections.abc import Mapping
from typing import Annotated, Self

from pydantic import Field, model_validator

from services.strategy.strategies.decision import Action, Condition, Decision
from services.strategy.strategies.strategy import Parameters, SymbolStrategy, act, hold
from services.strategy.strategies.view import Indicator, SymbolView, View
from shared.contracts.written import Bounded


class Averages(Parameters):
    fast: Annotated[int, Bounded(ge=1, le=1000)] = Field(default=10, description="Bars of the fast average.")
    slow: Annotated[int, Bounded(ge=2, le=2000)] = Field(default=20, description="Bars of the slow average.")
    short: bool = Field(default=False, description="Sell short when the fast average crosses below.")

    @model_validator(mode="after")
    def _slow_is_slower(self) -> Self:
        if self.slow <= self.fast:
            raise ValueError("slow: the slow average needs more bars than the fast one")
        return self


class SmaCrossover(SymbolStrategy[Averages]):
    """Buy when the fast average crosses above the slow one, and sell when it crosses below.

    A crossing takes two bars: at the one before, the fast average was not beyond the slow one. An average that is
    above all the time is no crossing.
    """

    kind = "sma_crossover"
    title = "Crossover of two simple moving averages"
    source = "W. Brock, J. Lakonishok and B. LeBaron: Simple Technical Trading Rules, Journal of Finance 47 (1992)"
    parameters_model = Averages

    @property
    def warm_up(self) -> int:
        return self.parameters.slow + 1

    def indicators(self) -> Mapping[str, Indicator]:
        return {
            "fast": Indicator("sma", {"period": self.parameters.fast}),
            "slow": Indicator("sma", {"period": self.parameters.slow}),
        }

    def decide_symbol(self, view: View, symbol: SymbolView) -> Decision:  # noqa: ARG002
        fast, slow, fast_before, slow_before = (
            symbol.value(name, back) for back in (0, 1) for name in ("fast", "slow")
        )
        if fast is None or slow is None or fast_before is None or slow_before is None:
            return hold(symbol, "The averages do not have enough bars yet.")
        values = (("fast", fast), ("slow", slow), ("fast before", fast_before), ("slow before", slow_before))
        if fast_before <= slow_before and fast > slow:
            crossed = Condition("fast crosses above slow", True, values)
            return act(symbol, Action.ENTER_LONG, "The fast average crossed above the slow one.", crossed)
        if fast_before >= slow_before and fast < slow:
            crossed = Condition("fast crosses below slow", True, values)
            short = self.parameters.short and symbol.position.qty <= 0
            action = Action.ENTER_SHORT if short else Action.EXIT
            return act(symbol, action, "The fast average crossed below the slow one.", crossed)
        return hold(symbol, "The averages did not cross.", Condition("the averages cross", False, values))
