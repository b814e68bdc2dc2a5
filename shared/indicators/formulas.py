"""Technical indicators of series of bars, by TA-Lib. Pure functions on arrays.

A value is computed from the bars of a window. For a moving sum the window is as long as the sum. Exponential averages
(also Wilder's) remember all bars, each a little less: their window is so long that the bars before it weigh less than
TAIL, so a value does not depend on where its window begins. A value that does not exist yet, or whose formula has
nothing to divide by, is NaN.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from itertools import pairwise
from math import ceil, log
from typing import Any

import numpy as np

from shared.contracts.indicators import IndicatorName, Parameters
from shared.indicators.bars import LENGTHS, NO_SESSION, Array, Bars
from shared.indicators.ta_lib import talib

#: The weight of all bars before a window, beside 1 for those in it.
TAIL = 1e-13
#: An oscillator where there is no movement at all. TA-Lib says 0, which would mean that all movement was down.
FLAT = 50.0


@dataclass(frozen=True, slots=True)
class Formula:
    """``before`` returns the number of earlier bars that a value depends on, ``compute`` one array for each output."""

    before: Callable[[Mapping[str, int]], int]
    compute: Callable[[Bars, Mapping[str, Any]], tuple[Array, ...]]


def bars_before(name: IndicatorName, parameters: Parameters, interval: str) -> int:
    """Return the number of earlier bars that a value depends on. OBV depends on all of them."""
    if name is IndicatorName.VWAP:
        return timedelta(days=1) // LENGTHS[interval]
    return FORMULAS[name].before({each: int(value) for each, value in parameters.items()})


def compute(name: IndicatorName, parameters: Mapping[str, Any], bars: Bars) -> tuple[Array, ...]:
    """Return an array for each output, with a value for each bar.

    ``parameters`` are numbers: whole ones as int, deviations as float. The values of the first ``bars_before`` bars
    are those of a series that begins there.
    """
    return FORMULAS[name].compute(bars, parameters)


def numbers(parameters: Parameters) -> dict[str, Any]:
    """Return the parameters as ``compute`` takes them."""
    return {each: float(value) if each == "deviations" else int(value) for each, value in parameters.items()}


def _memory(weight: float) -> int:
    """Return the bars after which those before weigh less than TAIL, if each new one has this weight."""
    return ceil(log(TAIL) / log(1 - weight))


def _ema_memory(period: int) -> int:
    return period + (_memory(2 / (period + 1)) if period > 1 else 0)


def _wilder_memory(period: int) -> int:
    return period + _memory(1 / period) + 1


def _sma(bars: Bars, p: Mapping[str, Any]) -> tuple[Array, ...]:
    return (_mean(bars.closes, p["period"]),)


def _mean(values: Array, period: int) -> Array:
    mean: Array = talib.MA(values, period, 0)
    return mean


def _ema(bars: Bars, p: Mapping[str, Any]) -> tuple[Array, ...]:
    return (talib.EMA(bars.closes, p["period"]),)


def _rsi(bars: Bars, p: Mapping[str, Any]) -> tuple[Array, ...]:
    values = talib.RSI(bars.closes, p["period"])
    if (values == 0).any():
        momentum = talib.CMO(bars.closes, p["period"])  # -100 where all movement was down, 0 where there was none
        values[(values == 0) & (momentum == 0)] = FLAT
    return (values,)


def _macd(bars: Bars, p: Mapping[str, Any]) -> tuple[Array, ...]:
    macd, signal, histogram = talib.MACD(bars.closes, p["fast"], p["slow"], p["signal"])
    return macd, signal, histogram


def _bollinger(bars: Bars, p: Mapping[str, Any]) -> tuple[Array, ...]:
    """TA-Lib subtracts squares of sums, so the deviation is taken of differences: few digits are lost then."""
    base = bars.closes[0]  # no later bar may change a value, not even in its last digit
    differences = bars.closes - base
    middle = _mean(differences, p["period"])
    width = talib.STDDEV(differences, p["period"], p["deviations"])
    return base + (middle + width), base + middle, base + (middle - width)


def _atr(bars: Bars, p: Mapping[str, Any]) -> tuple[Array, ...]:
    return (talib.ATR(bars.highs, bars.lows, bars.closes, p["period"]),)


def _obv(bars: Bars, _: Mapping[str, Any]) -> tuple[Array, ...]:
    return (talib.OBV(bars.closes, bars.volumes),)


def _adx(bars: Bars, p: Mapping[str, Any]) -> tuple[Array, ...]:
    prices = (bars.highs, bars.lows, bars.closes)
    adx = talib.ADX(*prices, p["period"])
    return adx, talib.PLUS_DI(*prices, p["period"]), talib.MINUS_DI(*prices, p["period"])


def _stochastic(bars: Bars, p: Mapping[str, Any]) -> tuple[Array, ...]:
    """The close's place in the range of the last bars, averaged. A range of no width counts as FLAT."""
    lowest, highest = talib.MIN(bars.lows, p["k_period"]), talib.MAX(bars.highs, p["k_period"])
    width = highest - lowest
    place = np.where(np.isnan(width), np.nan, FLAT)
    np.divide(100 * (bars.closes - lowest), width, out=place, where=width > 0)
    k = _mean(place, p["k_smoothing"])
    return k, _mean(k, p["d_period"])


def _vwap(bars: Bars, _: Mapping[str, Any]) -> tuple[Array, ...]:
    """TA-Lib has none: the sum of typical price by volume since the session began, over the volume since then."""
    values = np.full(len(bars), np.nan)
    worth = (bars.highs + bars.lows + bars.closes) / 3 * bars.volumes
    edges = [0, len(bars)]
    if len(bars) and not bars.sessions[0] == bars.sessions[-1] != NO_SESSION:  # else all lie in one session
        edges[1:1] = (np.flatnonzero(np.diff(bars.sessions)) + 1).tolist()
    for begin, end in pairwise(edges):
        if begin < end and bars.sessions[begin] != NO_SESSION:
            volume = np.cumsum(bars.volumes[begin:end])
            np.divide(np.cumsum(worth[begin:end]), volume, out=values[begin:end], where=volume > 0)
    return (values,)


FORMULAS: Mapping[IndicatorName, Formula] = {
    IndicatorName.SMA: Formula(lambda p: p["period"], _sma),
    IndicatorName.EMA: Formula(lambda p: _ema_memory(p["period"]), _ema),
    IndicatorName.RSI: Formula(lambda p: _wilder_memory(p["period"]), _rsi),
    IndicatorName.MACD: Formula(lambda p: _ema_memory(p["slow"]) + _ema_memory(p["signal"]), _macd),
    IndicatorName.BOLLINGER: Formula(lambda p: p["period"], _bollinger),
    IndicatorName.ATR: Formula(lambda p: _wilder_memory(p["period"]), _atr),
    IndicatorName.VWAP: Formula(lambda _: 0, _vwap),
    IndicatorName.OBV: Formula(lambda _: 0, _obv),
    IndicatorName.ADX: Formula(lambda p: 2 * _wilder_memory(p["period"]), _adx),
    IndicatorName.STOCHASTIC: Formula(lambda p: p["k_period"] + p["k_smoothing"] + p["d_period"], _stochastic),
}
