"""The interface of a strategy: a pure object from views to decisions. A strategy is one file with a class like this.

It knows no clock, network or database, and keeps nothing between two calls: all that it may remember is in the view.
The same object therefore decides the same live, over a replay and in a backtest. Another package adds a strategy by an
entry point of the group ``paperprofit.strategies``.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from services.strategy.strategies.decision import Action, Condition, Decision
from services.strategy.strategies.view import Indicator, SymbolView, View
from shared.indicators.bars import Array

#: Values that are nearer to each other than this part of the close are equal. Averages of the same prices differ by
#: as much, because sums of floats are rounded, and would cross at random where a price stands still.
NEAR = 1e-10


class Parameters(BaseModel):
    """The base of a strategy's parameters. Every field has bounds and a description, which make its form."""

    model_config = ConfigDict(extra="forbid", frozen=True)


P = TypeVar("P", bound=Parameters)


class Strategy(ABC, Generic[P]):
    """The base of every strategy that looks at all of its symbols together."""

    #: The name in the API, such as ``sma_crossover``.
    kind: ClassVar[str]
    title: ClassVar[str]
    #: Where the rules are from: author, title, year.
    source: ClassVar[str]
    parameters_model: ClassVar[type[Parameters]]

    def __init__(self, parameters: P) -> None:
        self.parameters = parameters

    @property
    def warm_up(self) -> int:
        """The number of bars that it needs before its first decision to trade."""
        return 1

    @property
    def back(self) -> int:
        """The bars beyond the last two of which it reads indicators."""
        return 0

    def indicators(self) -> Mapping[str, Indicator]:
        """The indicators that it reads from views, by its own names for them."""
        return {}

    def named_symbols(self) -> Iterable[tuple[str, str]]:
        """The symbols that its parameters name, each with the parameter. They have to be among those that it trades."""
        return ()

    def missing_symbol(self, symbols: Iterable[str]) -> str | None:
        """The sentence about the first named symbol that is not one of these, or None."""
        given = set(symbols)
        missing = next(((field, name) for field, name in self.named_symbols() if name not in given), None)
        return None if missing is None else "{}: {} is not one of the symbols; add it to them".format(*missing)

    @abstractmethod
    def decide(self, view: View) -> Iterable[Decision]:
        """One decision for each symbol that it looked at."""


class SymbolStrategy(Strategy[P]):
    """The base of a strategy that looks at each symbol by itself."""

    def may_act(self, values: Mapping[str, Array], closes: Array) -> NDArray[np.bool_] | None:  # noqa: ARG002
        """The bars at which it may decide to act, or None where that does not follow from indicators and closes.

        ``values`` has its indicators. A backtest leaves out all other bars. A bar too many costs time only.
        """
        return None

    def decide(self, view: View) -> Iterable[Decision]:
        return [self.decide_symbol(view, symbol) for symbol in view.symbols.values()]

    @abstractmethod
    def decide_symbol(self, view: View, symbol: SymbolView) -> Decision:
        """The decision for one symbol."""


def hold(symbol: SymbolView, reason: str, *conditions: Condition) -> Decision:
    return Decision(symbol=symbol.symbol, action=Action.HOLD, reason=reason, conditions=conditions)


def act(symbol: SymbolView, action: Action, reason: str, *conditions: Condition, **terms: Any) -> Decision:
    """A decision to act. ``terms`` are further fields of Decision, such as ``stop_loss``."""
    return Decision(symbol=symbol.symbol, action=action, reason=reason, conditions=conditions, **terms)


def side(symbol: SymbolView, left: float, right: float, back: int = 0) -> int:
    """1 if ``left`` is above ``right`` at the bar so far back, -1 if it is below, 0 if they only differ by rounding."""
    near = NEAR * float(symbol.bars(back + 1)[0].close)
    return (left - right > near) - (left - right < -near)


def crossings(left: Array, right: Array, closes: Array) -> NDArray[np.bool_]:
    """The bars at which ``side`` is another than at the bar before."""
    near = NEAR * closes
    above, below = left - right > near, left - right < -near
    found = np.zeros(len(left), dtype=np.bool_)
    found[1:] = (above[1:] != above[:-1]) | (below[1:] != below[:-1])
    return found
