"""The indicators' formulas on recorded prices, beside plain ones that a reader can follow, and cut at random places."""

import random
from collections.abc import Sequence
from itertools import pairwise
from math import nan, sqrt
from typing import Any

import numpy as np
import pytest

from services.marketdata.providers.replay import recording
from shared.contracts.indicators import OUTPUTS, GivenParameters, IndicatorName, Parameters, complete, written
from shared.indicators.bars import NO_SESSION, Bars, days_of, sessions_between
from shared.indicators.formulas import bars_before, compute, numbers
from shared.indicators.series import OUTPUTS as PLACES
from shared.indicators.series import Series, Wanted, needed

HOUR = 3_600_000_000
Values = list[float]


def bars_of(symbol: str) -> Bars:
    """The recorded days as if they were hours, so that 24 of them are a session."""
    days = recording()[symbol]
    starts = np.arange(len(days), dtype=np.int64) * HOUR
    columns = [np.array([float(getattr(day, name)) for day in days]) for name in ("high", "low", "close", "volume")]
    return Bars(starts, *columns, days_of(starts))


IBM = bars_of("IBM")
HIGHS, LOWS, CLOSES, VOLUMES = (column.tolist() for column in (IBM.highs, IBM.lows, IBM.closes, IBM.volumes))


def ours(name: IndicatorName, bars: Bars = IBM, **parameters: int) -> list[Values]:
    given = complete(name, GivenParameters(**parameters))
    return [output.tolist() for output in compute(name, numbers(given), bars)]


def same(found: Sequence[float], expected: Sequence[float]) -> bool:
    return bool(found == pytest.approx(expected, rel=1e-9, abs=1e-9, nan_ok=True))


def mean_of_last(values: Values, period: int) -> Values:
    return [nan] * (period - 1) + [sum(values[i - period : i]) / period for i in range(period, len(values) + 1)]


def exponential(values: Values, weight: float, period: int) -> Values:
    """Begins with the mean of the first values."""
    result = [nan] * (period - 1) + [sum(values[:period]) / period]
    for value in values[period:]:
        result.append(result[-1] + weight * (value - result[-1]))
    return result


def wilder(values: Values, period: int) -> Values:
    return exponential(values, 1 / period, period)


def true_ranges() -> Values:
    return [
        max(high, before) - min(low, before) for high, low, before in zip(HIGHS[1:], LOWS[1:], CLOSES, strict=False)
    ]


def test_moving_averages() -> None:
    assert same(ours(IndicatorName.SMA)[0], mean_of_last(CLOSES, 20))
    assert same(ours(IndicatorName.EMA)[0], exponential(CLOSES, 2 / 21, 20))


def test_relative_strength_by_wilder() -> None:
    changes = [after - before for before, after in pairwise(CLOSES)]
    up = wilder([max(change, 0) for change in changes], 14)
    down = wilder([max(-change, 0) for change in changes], 14)
    assert same(ours(IndicatorName.RSI)[0], [nan, *(100 * u / (u + d) for u, d in zip(up, down, strict=True))])


def test_macd() -> None:
    """The fast average begins so that both have their first value at the same bar."""
    fast = [nan] * 14 + exponential(CLOSES[14:], 2 / 13, 12)
    slow = exponential(CLOSES, 2 / 27, 26)
    macd = [f - s for f, s in zip(fast, slow, strict=True)]
    signal = [nan] * 25 + exponential(macd[25:], 2 / 10, 9)
    found = ours(IndicatorName.MACD)
    assert same(found[0][33:], macd[33:])
    assert same(found[1], signal)
    assert same(found[2], [m - s for m, s in zip(macd, signal, strict=True)])


def test_bollinger_bands() -> None:
    """Two standard deviations of the population."""
    upper, middle, lower = ours(IndicatorName.BOLLINGER)
    mean = mean_of_last(CLOSES, 20)
    width = [nan] * 19 + [
        2 * sqrt(sum((close - mean[i]) ** 2 for close in CLOSES[i - 19 : i + 1]) / 20) for i in range(19, len(CLOSES))
    ]
    assert same(middle, mean)
    assert same(upper, [m + w for m, w in zip(mean, width, strict=True)])
    assert same(lower, [m - w for m, w in zip(mean, width, strict=True)])


def test_bollinger_bands_keep_their_digits_where_prices_hardly_move() -> None:
    """The difference of two large sums of squares would be all error."""
    closes = 50_000 + np.arange(60) % 2 * 1e-4
    upper, middle, lower = ours(IndicatorName.BOLLINGER, Bars(IBM.starts[:60], closes, closes, closes, closes, closes))
    assert (upper[-1] - middle[-1], middle[-1] - lower[-1]) == pytest.approx((1e-4, 1e-4), rel=1e-6)


def test_average_true_range_by_wilder() -> None:
    assert same(ours(IndicatorName.ATR)[0], [nan, *wilder(true_ranges(), 14)])


def test_directional_movement_by_wilder() -> None:
    """Sums of which each bar takes a part away, as in his book. The first sums have one movement less."""
    ups, downs = [], []
    for (high, low), (next_high, next_low) in pairwise(zip(HIGHS, LOWS, strict=True)):
        up, down = next_high - high, low - next_low
        ups.append(up if up > max(down, 0) else 0.0)
        downs.append(down if down > max(up, 0) else 0.0)
    sums = []
    for values in (true_ranges(), ups, downs):
        total = [sum(values[:13])]
        for value in values[13:]:
            total.append(total[-1] * 13 / 14 + value)
        sums.append(total[1:])
    plus = [100 * up / total for total, up, _ in zip(*sums, strict=True)]
    minus = [100 * down / total for total, _, down in zip(*sums, strict=True)]
    index = [100 * abs(p - m) / (p + m) for p, m in zip(plus, minus, strict=True)]
    found = ours(IndicatorName.ADX)
    assert same(found[1], [nan] * 14 + plus)
    assert same(found[2], [nan] * 14 + minus)
    assert same(found[0], [nan] * 14 + wilder(index, 14))


def test_on_balance_volume() -> None:
    expected = [VOLUMES[0]]
    for (before, after), volume in zip(pairwise(CLOSES), VOLUMES[1:], strict=True):
        expected.append(expected[-1] + volume * ((after > before) - (after < before)))
    assert ours(IndicatorName.OBV)[0] == expected


def test_stochastic() -> None:
    places = [
        100 * (CLOSES[i] - min(LOWS[i - 13 : i + 1])) / (max(HIGHS[i - 13 : i + 1]) - min(LOWS[i - 13 : i + 1]))
        for i in range(13, len(CLOSES))
    ]
    k = mean_of_last(places, 3)
    found = ours(IndicatorName.STOCHASTIC)
    assert same(found[0], [nan] * 13 + k)
    assert same(found[1], [nan] * 15 + mean_of_last(k[2:], 3))


def test_volume_weighted_average_price_of_a_session() -> None:
    expected: Values = []
    for number in range(len(CLOSES)):
        begin = number - number % 24
        worth = sum((HIGHS[i] + LOWS[i] + CLOSES[i]) / 3 * VOLUMES[i] for i in range(begin, number + 1))
        expected.append(worth / sum(VOLUMES[begin : number + 1]))
    assert same(ours(IndicatorName.VWAP)[0], expected)


def test_what_is_not_defined_is_no_zero() -> None:
    """Without movement an oscillator is in the middle. Without volume, and outside of sessions, there is no VWAP."""
    flat = np.full(60, 7.0)
    bars = Bars(IBM.starts[:60], flat, flat, flat, np.zeros(60), np.full(60, NO_SESSION, dtype=np.int64))
    assert ours(IndicatorName.RSI, bars)[0][-1] == 50
    assert [values[-1] for values in ours(IndicatorName.STOCHASTIC, bars)] == [50, 50]
    assert np.isnan(ours(IndicatorName.VWAP, bars)[0]).all()
    inside = Bars(bars.starts, flat, flat, flat, np.zeros(60), days_of(bars.starts))
    assert np.isnan(ours(IndicatorName.VWAP, inside)[0]).all()
    falling = Bars(bars.starts, flat, flat, np.arange(60, 0, -1.0), flat, bars.sessions)
    assert ours(IndicatorName.RSI, falling)[0][-1] == 0


def test_a_series_that_grows_equals_the_whole_at_every_cut() -> None:
    """Also begun again anywhere from its last bars, and if its last bar was another one at first."""
    chance = random.Random(3)
    given: list[Parameters] = [complete(name, GivenParameters()) for name in IndicatorName]
    wanted = [
        Wanted(name, parameters, "1h", slot)
        for slot, (name, parameters) in enumerate(zip(IndicatorName, given, strict=True))
    ]
    whole = {each.name: compute(each.name, each.numbers, IBM) for each in wanted}
    series, end = Series(wanted, IBM.between(0, 0), None), 0
    while end < len(IBM):
        begin, end = max(0, end - 1), min(len(IBM), end + chance.choice([1, 1, 2, 30, 400]))
        if chance.random() < 0.3:
            wrong = IBM.between(begin, end)
            series.extend(Bars(wrong.starts, wrong.highs * 2, wrong.lows, wrong.closes, wrong.volumes, wrong.sessions))
            series = Series(wanted, IBM.between(max(0, begin - needed(wanted)), begin), obv_before(whole, begin))
        number = series.extend(IBM.between(begin, end))
        found = series.values(number)
        for each in wanted:
            for place, output in enumerate(whole[each.name]):
                column = found[:, each.slot * PLACES + place].tolist()
                assert same(column, output[end - number : end].tolist()), (each.name, begin, end)


def obv_before(whole: dict[IndicatorName, Any], end: int) -> float | None:
    return float(whole[IndicatorName.OBV][0][end - 1]) if end else None


@pytest.mark.parametrize("name", IndicatorName)
def test_the_longest_window_is_of_bounded_length(name: IndicatorName) -> None:
    """It stays in memory for each series."""
    largest = {"sma": 400, "ema": 400, "bollinger": 400, "rsi": 100, "atr": 100, "adx": 100}
    terms = {"period": largest[name]} if name in largest else {}
    if name is IndicatorName.MACD:
        terms = {"fast": 199, "slow": 200, "signal": 100}
    assert bars_before(name, complete(name, GivenParameters(**terms)), "1m") <= 8_000


def test_equal_parameters_are_written_alike() -> None:
    given = complete(IndicatorName.BOLLINGER, GivenParameters.model_validate({"deviations": "2.50"}))
    assert written(given) == {"deviations": "2.5", "period": "20"}
    assert all(len(outputs) <= PLACES for outputs in OUTPUTS.values())


def test_a_bar_lies_in_the_session_that_covers_its_start() -> None:
    """The close is outside."""
    opens, closes = np.array([100, 300]), np.array([200, 400])
    starts = np.array([99, 100, 199, 200, 300, 400])
    assert sessions_between(starts, opens, closes).tolist() == [-1, 100, 100, -1, 300, -1]
    assert sessions_between(starts, opens[:0], closes[:0]).tolist() == [-1] * 6
