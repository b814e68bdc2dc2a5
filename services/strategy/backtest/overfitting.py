"""The Sharpe ratio of the best of many trials, deflated by their number.

Source: D. Bailey, M. López de Prado: The Deflated Sharpe Ratio, Journal of Portfolio Management 40 (2014). All ratios
are of one period, not of a year.
"""

from collections.abc import Sequence
from math import e, nan, sqrt
from statistics import NormalDist
from typing import NamedTuple

#: The constant of Euler and Mascheroni.
GAMMA = 0.5772156649015329
_NORMAL = NormalDist()


class Moments(NamedTuple):
    """The returns of a trial: their number, Sharpe ratio, skewness and kurtosis (3 for a normal distribution)."""

    number: int
    sharpe: float
    skewness: float
    kurtosis: float


def moments_of(returns: Sequence[float]) -> Moments:
    """The moments. The ratio is NaN where the returns do not vary."""
    number = len(returns)
    middle = sum(returns) / number if number else 0.0
    second = sum((each - middle) ** 2 for each in returns) / number if number else 0.0
    if number < 2 or not second:
        return Moments(number, nan, 0.0, 3.0)
    third = sum((each - middle) ** 3 for each in returns) / number
    fourth = sum((each - middle) ** 4 for each in returns) / number
    deviation = sqrt(second * number / (number - 1))
    return Moments(number, middle / deviation, third / second**1.5, fourth / second**2)


def expected_best(variance: float, trials: int) -> float:
    """The Sharpe ratio that the best of so many trials without any skill is expected to have.

    ``variance`` is that of the trials' ratios.
    """
    if trials < 2:
        return 0.0
    normal = (1 - GAMMA) * _NORMAL.inv_cdf(1 - 1 / trials) + GAMMA * _NORMAL.inv_cdf(1 - 1 / (trials * e))
    return sqrt(variance) * normal


def deflated_sharpe(best: Moments, variance: float, trials: int) -> float:
    """The probability that the best trial's true Sharpe ratio is above what luck alone would have brought."""
    spread = 1 - best.skewness * best.sharpe + (best.kurtosis - 1) / 4 * best.sharpe**2
    if not spread > 0 or best.number < 2:
        return nan
    beyond = best.sharpe - expected_best(variance, trials)
    return _NORMAL.cdf(beyond * sqrt(best.number - 1) / sqrt(spread))
