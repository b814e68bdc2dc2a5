"""The recorded daily prices as series of a backtest."""

from datetime import UTC, datetime, time, timedelta

from services.marketdata.providers.replay import recording
from services.strategy.backtest.series import Series
from services.strategy.strategies.view import Bar


def recorded(symbol: str) -> Series:
    """The symbol's recorded days, in newest shares."""
    bars = [
        Bar(datetime.combine(day.date, time(), UTC), day.open, day.high, day.low, day.close, day.volume)
        for day in recording()[symbol]
    ]
    return Series(symbol, bars, timedelta(days=1))
