"""Strategies that hold rather than trade: buy and hold, dollar-cost averaging, target allocation, momentum ranking."""

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from services.strategy.strategies.decision import Action, Condition, Decision
from services.strategy.strategies.strategy import Parameters, Strategy, SymbolStrategy, act, hold
from services.strategy.strategies.view import SymbolView, View
from shared.contracts.base import Symbol
from shared.contracts.written import Bounded
from shared.money import ZERO

Period = Literal["day", "week", "month"]
Weight = Annotated[Decimal, Bounded(gt=0, le=1, decimal_places=6)]


class Nothing(Parameters):
    """No parameters."""


class BuyAndHold(Strategy[Nothing]):
    """Buy each symbol once, for equal parts of the equity."""

    kind = "buy_and_hold"
    title = "Buy and hold"
    source = "B. Malkiel: A Random Walk Down Wall Street (1973)"
    parameters_model = Nothing

    def decide(self, view: View) -> Iterable[Decision]:
        weight = (Decimal(1) / len(view.symbols)).quantize(Decimal("0.000001"), rounding="ROUND_DOWN")
        for symbol in view.symbols.values():
            if symbol.position.qty or symbol.position.buying:
                yield hold(symbol, "The symbol is held already.")
            else:
                yield act(symbol, Action.TARGET, "The symbol is not held yet.", weight=weight)


class Averaging(Parameters):
    amount: Annotated[Decimal, Bounded(gt=0, le=1_000_000_000, decimal_places=2)] = Field(
        default=Decimal(100), description="Money for each symbol and period, in the account's currency."
    )
    every: Period = Field(default="month", description="The period at whose first bar it buys.")


class DollarCostAveraging(SymbolStrategy[Averaging]):
    """Buy each symbol for the same amount at the first bar of every period."""

    kind = "dollar_cost_averaging"
    title = "Dollar-cost averaging"
    source = "B. Graham: The Intelligent Investor (1949)"
    parameters_model = Averaging

    @property
    def warm_up(self) -> int:
        return 2

    def decide_symbol(self, view: View, symbol: SymbolView) -> Decision:  # noqa: ARG002
        if not _begins(symbol, self.parameters.every):
            return hold(symbol, f"The {self.parameters.every} did not just begin.")
        return act(symbol, Action.BUY, f"A {self.parameters.every} began.", notional=self.parameters.amount)


class Allocation(Parameters):
    weights: Annotated[dict[Symbol, Weight], Field(min_length=1, max_length=500)] = Field(
        description="The fraction of the equity that each symbol is to have. The rest stays cash."
    )
    band: Annotated[Decimal, Bounded(ge=0, le=1, decimal_places=6)] = Field(
        default=Decimal("0.05"), description="The distance from its weight at which a symbol is traded."
    )

    @model_validator(mode="after")
    def _at_most_all(self) -> Self:
        if sum(self.weights.values()) > 1:
            raise ValueError("weights: add up to more than 1")
        return self


class TargetAllocation(Strategy[Allocation]):
    """Bring each symbol back to its weight when it is further from it than the band."""

    kind = "target_allocation"
    title = "Target allocation with bands"
    source = "D. Swensen: Unconventional Success (2005)"
    parameters_model = Allocation

    def named_symbols(self) -> Iterable[tuple[str, str]]:
        return (("weights", symbol) for symbol in self.parameters.weights)

    def decide(self, view: View) -> Iterable[Decision]:
        for symbol in view.symbols.values():
            weight = self.parameters.weights.get(symbol.symbol, ZERO)
            value = symbol.value_held
            if value is None or view.account.equity <= 0:
                yield hold(symbol, "There is no price or no rate to the account's currency yet.")
                continue
            if symbol.position.buying or symbol.position.selling:
                yield hold(symbol, "An order is open.")
                continue
            now = value / view.account.equity
            values = (("weight", now), ("target", weight), ("band", self.parameters.band))
            away = Condition("weight is outside of the band", abs(now - weight) > self.parameters.band, values)
            if away.holds:
                yield act(symbol, Action.TARGET, "The weight is outside of its band.", away, weight=weight)
            else:
                yield hold(symbol, "The weight is inside its band.", away)


class Ranking(Parameters):
    lookback: Annotated[int, Bounded(ge=2, le=400)] = Field(default=120, description="Bars of the return.")
    skip: Annotated[int, Bounded(ge=0, le=60)] = Field(default=0, description="Newest bars that are left out of it.")
    hold: Annotated[int, Bounded(ge=1, le=100)] = Field(default=3, description="The number of symbols to hold.")
    every: Period = Field(default="month", description="The period at whose first bar it ranks.")


class MomentumRanking(Strategy[Ranking]):
    """Hold the symbols with the highest returns, in equal parts, and rank anew at the first bar of every period.

    At its second bar the ranking holds still: by then the sales have filled, and their proceeds buy what is missing.
    """

    kind = "momentum_ranking"
    title = "Momentum ranking"
    source = "N. Jegadeesh, S. Titman: Returns to Buying Winners and Selling Losers, Journal of Finance 48 (1993)"
    parameters_model = Ranking

    @property
    def warm_up(self) -> int:
        return self.parameters.lookback + self.parameters.skip + 2

    def decide(self, view: View) -> Iterable[Decision]:
        ages = {name: _age(symbol, self.parameters.every) for name, symbol in view.symbols.items()}
        returns = {name: self._return(symbol, ages[name] or 0) for name, symbol in view.symbols.items()}
        known = {name: value for name, value in returns.items() if value is not None}
        best = sorted(known, key=lambda name: (-known[name], name))[: self.parameters.hold]
        weight = (Decimal(1) / self.parameters.hold).quantize(Decimal("0.000001"), rounding="ROUND_DOWN")
        for name, symbol in view.symbols.items():
            value = returns[name]
            if ages[name] is None:
                yield hold(symbol, f"The {self.parameters.every} did not just begin.")
            elif value is None:
                yield hold(symbol, "The return does not have enough bars yet.")
            else:
                top = Condition(f"among the best {self.parameters.hold}", name in best, (("return", value),))
                if top.holds and ages[name] and not _lacks(view, symbol, weight):
                    yield hold(symbol, "The return is among the best, and its part is held.", top)
                elif top.holds:
                    yield act(symbol, Action.TARGET, "The return is among the best.", top, weight=weight)
                elif symbol.position.qty:
                    yield act(symbol, Action.EXIT, "The return is no longer among the best.", top)
                else:
                    yield hold(symbol, "The return is not among the best.", top)

    def _return(self, symbol: SymbolView, age: int) -> Decimal | None:
        """The return as it was known so many bars ago."""
        count = self.parameters.lookback + self.parameters.skip + 1
        bars = symbol.bars(count + age)
        if len(bars) < count + age:
            return None
        return bars[-1 - self.parameters.skip - age].close / bars[0].close - 1


def _lacks(view: View, symbol: SymbolView, weight: Decimal) -> bool:
    """True if less than half of the weight is held, and nothing is ordered."""
    value = symbol.value_held
    return value is not None and not symbol.position.buying and value < view.account.equity * weight / 2


def _age(symbol: SymbolView, period: Period) -> int | None:
    """0 at the first bar of a period, 1 at its second one, None after these."""
    bars = [_number(bar.start, period) for bar in symbol.bars(3)]
    if len(bars) >= 2 and bars[-1] != bars[-2]:
        return 0
    return 1 if len(bars) == 3 and bars[-2] != bars[-3] else None


def _begins(symbol: SymbolView, period: Period) -> bool:
    """True at the first bar of a period. The very first bar begins none, since the one before it is not known."""
    return _age(symbol, period) == 0


def _number(at: datetime, period: Period) -> tuple[int, ...]:
    match period:
        case "day":
            return (at.toordinal(),)
        case "week":
            return tuple(at.isocalendar()[:2])
    return (at.year, at.month)
