"""Pairs: two symbols whose prices move together, traded when they have moved apart."""

from collections.abc import Iterable
from math import log, sqrt
from typing import Annotated, Self

from pydantic import Field, model_validator

from services.strategy.strategies.decision import Action, Condition, Decision
from services.strategy.strategies.strategy import Parameters, Strategy, act, hold
from services.strategy.strategies.view import SymbolView, View
from shared.contracts.base import Symbol
from shared.contracts.written import Bounded


class Pair(Parameters):
    first: Symbol = Field(description="The symbol that is bought when it is cheap beside the second one.")
    second: Symbol = Field(description="The other symbol.")
    period: Annotated[int, Bounded(ge=5, le=400)] = Field(default=60, description="Bars of mean and deviation.")
    enter: Annotated[float, Bounded(gt=0, le=10)] = Field(default=2.0, description="Deviations at which to enter.")
    exit: Annotated[float, Bounded(ge=0, le=10)] = Field(default=0.5, description="Deviations at which to exit.")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.first == self.second:
            raise ValueError("second: must be another symbol than first")
        if self.exit >= self.enter:
            raise ValueError("exit: must be below enter")
        return self


class Pairs(Strategy[Pair]):
    """Buy the cheap symbol and sell the dear one short when the logarithm of their ratio is far from its mean."""

    kind = "pairs"
    title = "Pairs trading"
    source = "E. Gatev, W. Goetzmann, K. G. Rouwenhorst: Pairs Trading, Review of Financial Studies 19 (2006)"
    parameters_model = Pair

    @property
    def warm_up(self) -> int:
        return self.parameters.period + self.parameters.period // 4

    def named_symbols(self) -> Iterable[tuple[str, str]]:
        return (("first", self.parameters.first), ("second", self.parameters.second))

    def decide(self, view: View) -> Iterable[Decision]:
        wanted = (self.parameters.first, self.parameters.second)
        first, second = (view.symbols.get(name) for name in wanted)
        if first is None or second is None:
            return [hold(symbol, "The other symbol of the pair has no bar yet.") for symbol in view.symbols.values()]
        score = self._score(first, second)
        if score is None:
            return [hold(each, "The ratio does not have enough bars yet.") for each in (first, second)]
        values = (("deviations", score),)
        if first.position.qty or second.position.qty:
            near = Condition(f"within {self.parameters.exit} deviations", abs(score) <= self.parameters.exit, values)
            if near.holds:
                return [act(each, Action.EXIT, "The ratio is back at its mean.", near) for each in (first, second)]
            return [hold(each, "The ratio is not back at its mean.", near) for each in (first, second)]
        far = Condition(f"beyond {self.parameters.enter} deviations", abs(score) >= self.parameters.enter, values)
        if not far.holds:
            return [hold(each, "The ratio is near its mean.", far) for each in (first, second)]
        cheap, dear = (second, first) if score > 0 else (first, second)
        return [
            act(cheap, Action.ENTER_LONG, "The symbol is cheap beside the other one.", far),
            act(dear, Action.ENTER_SHORT, "The symbol is dear beside the other one.", far),
        ]

    def _score(self, first: SymbolView, second: SymbolView) -> float | None:
        """The distance of the newest ratio from its mean in standard deviations.

        Bars that only one of the symbols has count for nothing. None where one lacks the newest bar, or too many.
        """
        left, right = first.bars(self.warm_up), {bar.start: bar.close for bar in second.bars(self.warm_up)}
        if not left or left[-1].start != second.bars(1)[-1].start:
            return None
        both = [(bar.close, right[bar.start]) for bar in left if bar.start in right][-self.parameters.period :]
        if len(both) < self.parameters.period:
            return None
        ratios = [log(one / other) for one, other in both]
        mean = sum(ratios) / len(ratios)
        deviation = sqrt(sum((ratio - mean) ** 2 for ratio in ratios) / (len(ratios) - 1))
        return (ratios[-1] - mean) / deviation if deviation else None
