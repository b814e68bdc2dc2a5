"""Reversion and trend by oscillators: MACD, RSI, Bollinger bands and the distance from VWAP."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from services.strategy.strategies.decision import Action, Condition, Decision
from services.strategy.strategies.strategy import Parameters, SymbolStrategy, act, crossings, hold, side
from services.strategy.strategies.view import Indicator, SymbolView, View
from shared.contracts.written import Bounded
from shared.indicators.bars import Array

#: Numbers that are as near are decided on exactly.
CLOSE_TO = 1e-9
TOO_FEW = "The indicator does not have enough bars yet."


class MacdParameters(Parameters):
    fast: Annotated[int, Bounded(ge=2, le=199)] = Field(default=12, description="Bars of the fast average.")
    slow: Annotated[int, Bounded(ge=3, le=200)] = Field(default=26, description="Bars of the slow average.")
    signal: Annotated[int, Bounded(ge=1, le=100)] = Field(default=9, description="Bars of the signal line.")

    @model_validator(mode="after")
    def _slow_is_slower(self) -> Self:
        if self.slow <= self.fast:
            raise ValueError("slow: the slow average needs more bars than the fast one")
        return self


class Macd(SymbolStrategy[MacdParameters]):
    """Enter when the MACD crosses above its signal line, and exit when it crosses below."""

    kind = "macd"
    title = "MACD and its signal line"
    source = "G. Appel: The Moving Average Convergence-Divergence Method (1979)"
    parameters_model = MacdParameters

    @property
    def warm_up(self) -> int:
        return self.parameters.slow + self.parameters.signal + 1

    def indicators(self) -> Mapping[str, Indicator]:
        terms = self.parameters.model_dump()
        return {"macd": Indicator("macd", terms, "macd"), "signal": Indicator("macd", terms, "signal")}

    def may_act(self, values: Mapping[str, Array], closes: Array) -> NDArray[np.bool_]:
        return crossings(values["macd"], values["signal"], closes)

    def decide_symbol(self, view: View, symbol: SymbolView) -> Decision:  # noqa: ARG002
        macd, signal = symbol.value("macd"), symbol.value("signal")
        macd_before, signal_before = symbol.value("macd", 1), symbol.value("signal", 1)
        if macd is None or signal is None or macd_before is None or signal_before is None:
            return hold(symbol, TOO_FEW)
        values = (("macd", macd), ("signal", signal), ("macd before", macd_before), ("signal before", signal_before))
        before, now = side(symbol, macd_before, signal_before, 1), side(symbol, macd, signal)
        if before <= 0 < now:
            crossed = Condition("macd crosses above signal", True, values)
            return act(symbol, Action.ENTER_LONG, "The MACD crossed above its signal line.", crossed)
        if before >= 0 > now:
            crossed = Condition("macd crosses below signal", True, values)
            return act(symbol, Action.EXIT, "The MACD crossed below its signal line.", crossed)
        return hold(symbol, "The MACD did not cross its signal line.", Condition("macd crosses signal", False, values))


class RsiParameters(Parameters):
    period: Annotated[int, Bounded(ge=2, le=100)] = Field(default=14, description="Bars of the index.")
    low: Annotated[Decimal, Bounded(gt=0, lt=100)] = Field(default=Decimal(30), description="Oversold below this.")
    high: Annotated[Decimal, Bounded(gt=0, lt=100)] = Field(default=Decimal(70), description="Exit above this.")

    @model_validator(mode="after")
    def _high_is_higher(self) -> Self:
        if self.high <= self.low:
            raise ValueError("high: must be above low")
        return self


class RsiReversion(SymbolStrategy[RsiParameters]):
    """Enter when the index comes back above ``low``, and exit when it reaches ``high``."""

    kind = "rsi_reversion"
    title = "Reversion after an oversold RSI"
    source = "J. W. Wilder: New Concepts in Technical Trading Systems (1978)"
    parameters_model = RsiParameters

    @property
    def warm_up(self) -> int:
        return self.parameters.period + 2

    def indicators(self) -> Mapping[str, Indicator]:
        return {"rsi": Indicator("rsi", {"period": self.parameters.period})}

    def may_act(self, values: Mapping[str, Array], closes: Array) -> NDArray[np.bool_]:
        low = np.full(len(closes), float(self.parameters.low))
        return crossings(values["rsi"], low, np.zeros(len(closes))) | (
            values["rsi"] >= float(self.parameters.high) - CLOSE_TO
        )

    def decide_symbol(self, view: View, symbol: SymbolView) -> Decision:  # noqa: ARG002
        rsi, before = symbol.value("rsi"), symbol.value("rsi", 1)
        if rsi is None or before is None:
            return hold(symbol, TOO_FEW)
        values = (("rsi", rsi), ("rsi before", before))
        low, high = self.parameters.low, self.parameters.high
        if rsi >= high:
            condition = Condition(f"rsi >= {high}", True, values)
            return act(symbol, Action.EXIT, f"The RSI reached {high}.", condition)
        if before < low <= rsi:
            condition = Condition(f"rsi crosses above {low}", True, values)
            return act(symbol, Action.ENTER_LONG, f"The RSI came back above {low}.", condition)
        return hold(symbol, "The RSI neither left the oversold range nor reached its exit.",
                    Condition(f"rsi crosses above {low}", False, values))  # fmt: skip


class BollingerParameters(Parameters):
    period: Annotated[int, Bounded(ge=2, le=400)] = Field(default=20, description="Bars of the middle band.")
    deviations: Annotated[Decimal, Bounded(gt=0, le=10, decimal_places=4)] = Field(
        default=Decimal(2), description="Standard deviations between the middle and an outer band."
    )


class BollingerReversion(SymbolStrategy[BollingerParameters]):
    """Enter below the lower band, and exit at the middle one."""

    kind = "bollinger_reversion"
    title = "Reversion from the lower Bollinger band"
    source = "J. Bollinger: Bollinger on Bollinger Bands (2001)"
    parameters_model = BollingerParameters

    @property
    def warm_up(self) -> int:
        return self.parameters.period

    def indicators(self) -> Mapping[str, Indicator]:
        terms = self.parameters.model_dump()
        return {name: Indicator("bollinger", terms, name) for name in ("lower", "middle")}

    def may_act(self, values: Mapping[str, Array], closes: Array) -> NDArray[np.bool_]:
        near = CLOSE_TO * closes
        return (closes >= values["middle"] - near) | (closes < values["lower"] + near)

    def decide_symbol(self, view: View, symbol: SymbolView) -> Decision:  # noqa: ARG002
        lower, middle, close = symbol.value("lower"), symbol.value("middle"), symbol.close
        if lower is None or middle is None or close is None:
            return hold(symbol, TOO_FEW)
        values = (("close", close), ("lower", lower), ("middle", middle))
        if side(symbol, float(close), middle) >= 0:
            return act(
                symbol, Action.EXIT, "The close is back at the middle band.", Condition("close >= middle", True, values)
            )
        below = Condition("close < lower", side(symbol, float(close), lower) < 0, values)
        if below.holds:
            return act(symbol, Action.ENTER_LONG, "The close is below the lower band.", below)
        return hold(symbol, "The close is between the lower and the middle band.", below)


class VwapParameters(Parameters):
    distance: Annotated[Decimal, Bounded(gt=0, lt=100, decimal_places=4)] = Field(
        default=Decimal(1), description="Percent below the average price at which to enter."
    )


class VwapReversion(SymbolStrategy[VwapParameters]):
    """Enter a percentage below the session's volume-weighted average price, and exit at it."""

    kind = "vwap_reversion"
    title = "Reversion to the volume-weighted average price"
    source = "S. Berkowitz, D. Logue, E. Noser: The Total Cost of Transactions on the NYSE (1988), for the average"
    parameters_model = VwapParameters

    def indicators(self) -> Mapping[str, Indicator]:
        return {"vwap": Indicator("vwap")}

    def decide_symbol(self, view: View, symbol: SymbolView) -> Decision:  # noqa: ARG002
        value, close = symbol.value("vwap"), symbol.close
        if value is None or close is None:
            return hold(symbol, "There is no average price of this session yet.")
        vwap = Decimal(repr(value))
        enter_at = vwap * (1 - self.parameters.distance / 100)
        values = (("close", close), ("vwap", vwap), ("enter at", enter_at))
        if close >= vwap:
            return act(
                symbol, Action.EXIT, "The close is back at the average price.", Condition("close >= vwap", True, values)
            )
        below = Condition("close <= enter at", close <= enter_at, values)
        if below.holds:
            return act(
                symbol, Action.ENTER_LONG, f"The close is {self.parameters.distance} % below the average price.", below
            )
        return hold(symbol, "The close is not far enough below the average price.", below)
