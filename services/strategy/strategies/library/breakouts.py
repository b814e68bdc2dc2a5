"""Breakouts: from the range of the last bars, and from the range after the open."""

from decimal import Decimal
from typing import Annotated

from pydantic import Field

from services.strategy.strategies.decision import Action, Condition, Decision
from services.strategy.strategies.strategy import Parameters, SymbolStrategy, act, hold
from services.strategy.strategies.view import SymbolView, View
from shared.contracts.written import Bounded

#: The longest session, of which the newest bar may be the last one.
MINUTES_OF_A_SESSION = 600


class Channel(Parameters):
    entry: Annotated[int, Bounded(ge=2, le=400)] = Field(default=20, description="Bars whose high a close must exceed.")
    exit: Annotated[int, Bounded(ge=2, le=400)] = Field(default=10, description="Bars whose low ends the position.")


class DonchianBreakout(SymbolStrategy[Channel]):
    """Enter on a close above the highest high of the bars before, and exit on one below their lowest low."""

    kind = "donchian_breakout"
    title = "Breakout from the Donchian channel"
    source = "R. Donchian's four-week rule, as in C. Faith: Way of the Turtle (2007)"
    parameters_model = Channel

    @property
    def warm_up(self) -> int:
        return max(self.parameters.entry, self.parameters.exit) + 1

    def decide_symbol(self, view: View, symbol: SymbolView) -> Decision:  # noqa: ARG002
        bars, close = symbol.bars(self.warm_up), symbol.close
        if len(bars) < self.warm_up or close is None:
            return hold(symbol, "The channel does not have enough bars yet.")
        highest = max(bar.high for bar in bars[-self.parameters.entry - 1 : -1])
        lowest = min(bar.low for bar in bars[-self.parameters.exit - 1 : -1])
        values = (("close", close), ("highest", highest), ("lowest", lowest))
        if close < lowest:
            below = Condition("close < lowest", True, values)
            return act(symbol, Action.EXIT, f"The close is below the low of {self.parameters.exit} bars.", below)
        above = Condition("close > highest", close > highest, values)
        if above.holds:
            return act(
                symbol, Action.ENTER_LONG, f"The close is above the high of {self.parameters.entry} bars.", above
            )
        return hold(symbol, "The close is inside the channel.", above)


class OpeningRange(Parameters):
    minutes: Annotated[int, Bounded(ge=1, le=240)] = Field(default=30, description="Minutes of the opening range.")
    exit_before_close: Annotated[int, Bounded(ge=1, le=240)] = Field(
        default=5, description="Minutes before the close at which the position is closed."
    )


class OpeningRangeBreakout(SymbolStrategy[OpeningRange]):
    """Enter on a close above the range of the first minutes, with a stop below it, and exit before the close."""

    kind = "opening_range_breakout"
    title = "Breakout from the opening range"
    source = "T. Crabel: Day Trading with Short Term Price Patterns and Opening Range Breakout (1990)"
    parameters_model = OpeningRange

    @property
    def warm_up(self) -> int:
        return MINUTES_OF_A_SESSION

    def decide_symbol(self, view: View, symbol: SymbolView) -> Decision:
        opened, closes, close = symbol.session.open_at, symbol.session.close_at, symbol.close
        if opened is None or closes is None or close is None or not opened < view.now <= closes:
            return hold(symbol, "There is no session with an opening range now.")
        left = Decimal(int((closes - view.now).total_seconds() // 60))
        if left <= self.parameters.exit_before_close:
            late = Condition(
                f"minutes to close <= {self.parameters.exit_before_close}", True, (("minutes to close", left),)
            )
            return act(symbol, Action.EXIT, "The session is about to close.", late)
        since = int((view.now - opened) / view.interval)
        today = [bar for bar in symbol.bars(since + 1) if bar.start >= opened]
        first = [
            bar for bar in today if (bar.start + view.interval - opened).total_seconds() <= self.parameters.minutes * 60
        ]
        if not first or len(first) == len(today):
            return hold(symbol, "The opening range is not over yet.")
        high, low = max(bar.high for bar in first), min(bar.low for bar in first)
        above = Condition(
            "close > range high", close > high, (("close", close), ("range high", high), ("range low", low))
        )
        if above.holds:
            return act(symbol, Action.ENTER_LONG, "The close is above the opening range.", above, stop_loss=low)
        return hold(symbol, "The close is not above the opening range.", above)
