"""Bars as arrays, and the values of indicators on them: the same computation live and in a backtest."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from math import isfinite
from operator import attrgetter

import numpy as np

from services.strategy.strategies.view import Bar, Indicator, Session
from shared.contracts.indicators import OUTPUTS, GivenParameters, IndicatorName, complete
from shared.indicators.bars import Array, Bars, Times, days_of, sessions_between
from shared.indicators.formulas import compute, numbers

EPOCH, MICROSECOND = datetime(1970, 1, 1, tzinfo=UTC), timedelta(microseconds=1)
DAY = timedelta(days=1)
#: The trading days of a market: their opens and their closes, in order. None for a market that never closes.
Days = tuple[Times, Times] | None


class Values(Sequence[float | None]):
    """The values of an indicator, which become floats when they are read. A missing value is None."""

    __slots__ = ("array",)

    def __init__(self, array: Array) -> None:
        self.array = array

    def __len__(self) -> int:
        return len(self.array)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN204
        if isinstance(index, slice):
            return [each if isfinite(each) else None for each in self.array[index].tolist()]
        value = float(self.array[index])
        return value if isfinite(value) else None

    def __iter__(self) -> Iterator[float | None]:
        return iter(self[:])


def columns_of(bars: Sequence[Bar], interval: timedelta, days: Days = None) -> Bars:
    """The columns of the bars. ``days`` are the trading days of their market, which are the sessions of the VWAP."""
    highs, lows, closes, volumes = (
        np.fromiter(map(float, map(attrgetter(name), bars)), np.float64, len(bars))
        for name in ("high", "low", "close", "volume")
    )
    starts = np.fromiter(map(microseconds, map(attrgetter("start"), bars)), np.int64, len(bars))
    return Bars(starts, highs, lows, closes, volumes, sessions_of(starts, interval, days))


def sessions_of(starts: Times, interval: timedelta, days: Days) -> Times:
    """The session that each bar lies in, as marketdata's indicators have them. A daily bar is one by itself."""
    if interval >= DAY:
        return starts
    return days_of(starts) if days is None else sessions_between(starts, *days)


def microseconds(at: datetime) -> int:
    """The time as arrays have it."""
    return (at - EPOCH) // MICROSECOND


def days_from(sessions: Sequence[Session]) -> tuple[Times, Times]:
    """The trading days as arrays of their opens and closes."""
    known = [(microseconds(each.open_at), microseconds(each.close_at)) for each in sessions if each.open_at is not None
             and each.close_at is not None]  # fmt: skip
    found = np.array(known, dtype=np.int64).reshape(-1, 2)
    return np.ascontiguousarray(found[:, 0]), np.ascontiguousarray(found[:, 1])


def array_of(indicator: Indicator, columns: Bars) -> Array:
    """The indicator's value at each bar, which is not finite where it does not exist."""
    name = IndicatorName(indicator.name)
    if not len(columns):
        return np.empty(0)
    parameters = complete(name, GivenParameters(**indicator.parameters))
    outputs = dict(zip(OUTPUTS[name], compute(name, numbers(parameters), columns), strict=True))
    return outputs[indicator.output or OUTPUTS[name][0]]
