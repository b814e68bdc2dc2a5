"""Bars of prices: their intervals, their adjustments, the check of every bar from outside, and the files of bars."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import Annotated, ClassVar, NamedTuple, Protocol

from pydantic import AwareDatetime, BaseModel, Field

from shared.contracts.base import Command, NotNegative, Positive, Symbol
from shared.contracts.written import Printable


class Interval(StrEnum):
    """The length of a stored bar."""

    MINUTE = "1m"
    FIVE_MINUTES = "5m"
    QUARTER = "15m"
    HOUR = "1h"
    DAY = "1d"


class Adjustment(StrEnum):
    """The corporate actions after a bar that its prices are adjusted for, in the words of Alpaca."""

    RAW = "raw"
    SPLIT = "split"
    DIVIDEND = "dividend"
    ALL = "all"


LENGTHS: dict[str, timedelta] = {
    Interval.MINUTE: timedelta(minutes=1),
    Interval.FIVE_MINUTES: timedelta(minutes=5),
    Interval.QUARTER: timedelta(minutes=15),
    Interval.HOUR: timedelta(hours=1),
    Interval.DAY: timedelta(days=1),
}
#: The bars of one command.
MOST_BARS = 1000
_LARGEST = Decimal(10) ** 18
DECIMALS = 9
_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
_HALF_HOUR = timedelta(minutes=30)
_PRICES = ("open", "high", "low", "close")


class TradedBar(Protocol):
    """The prices and the volume of a bar of any length, whatever its class."""

    @property
    def symbol(self) -> str: ...
    @property
    def open(self) -> Decimal: ...
    @property
    def high(self) -> Decimal: ...
    @property
    def low(self) -> Decimal: ...
    @property
    def close(self) -> Decimal: ...
    @property
    def volume(self) -> Decimal: ...


class AnyBar(TradedBar, Protocol):
    """The fields of a bar, whatever its class."""

    @property
    def interval(self) -> str: ...
    @property
    def start(self) -> datetime: ...
    @property
    def provider(self) -> str: ...


class BarFields(NamedTuple):
    """A bar of a file, in the order of the columns. ``start`` is in UTC."""

    symbol: str
    interval: str
    start: datetime
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal
    provider: str


class WrongBar(ValueError):
    """A bar that cannot be stored. The message begins with the field."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field


def check_bar(bar: AnyBar, now: datetime) -> None:
    """Raise WrongBar unless the bar is whole: it starts on its interval, is over, and its range holds its prices.

    An hour may start at the half hour, as those of a market do that opens then.
    """
    length = LENGTHS.get(bar.interval)
    if length is None:
        raise WrongBar("interval", f"{bar.interval[:20]!r} is not one of {', '.join(LENGTHS)}")
    step = _HALF_HOUR if bar.interval == Interval.HOUR else length
    if bar.start < _EARLIEST or (bar.start - _EARLIEST) % step:
        raise WrongBar("start", f"{bar.start.isoformat()} is not the start of a bar of {bar.interval} in UTC")
    if bar.start + length > now:
        raise WrongBar("start", f"the bar of {bar.start.isoformat()} has not ended yet")
    for name in (*_PRICES, "volume"):
        _check_number(name, getattr(bar, name))
    if bar.low > min(bar.open, bar.close):
        raise WrongBar("low", "is above the open or the close")
    if bar.high < max(bar.open, bar.close):
        raise WrongBar("high", "is below the open or the close")


def _check_number(name: str, number: Decimal) -> None:
    if not number.is_finite() or number > _LARGEST or number < 0 or (number == 0 and name in _PRICES):
        raise WrongBar(name, f"{str(number)[:40]} is not a {'price' if name in _PRICES else 'volume'}")
    exponent = number.as_tuple().exponent
    if isinstance(exponent, int) and exponent < -DECIMALS and number != round(number, DECIMALS):
        raise WrongBar(name, f"{str(number)[:40]} has more than {DECIMALS} decimals")


class WholeBar(BaseModel):
    """A bar of one interval as it was traded. ``start`` is that of the interval, for a day midnight UTC of its date."""

    symbol: Symbol
    interval: Interval
    start: AwareDatetime
    open: Positive
    high: Positive
    low: Positive
    close: Positive
    volume: NotNegative
    provider: Annotated[Printable, Field(min_length=1, max_length=40)]


class StoreBars(Command):
    """Store whole bars, which replace those of the same symbol, interval and start."""

    service: ClassVar[str] = "marketdata"

    bars: tuple[WholeBar, ...] = Field(min_length=1, max_length=MOST_BARS)


def span_of(bars: Iterable[AnyBar]) -> tuple[datetime, datetime]:
    """The first and the last start."""
    starts = [bar.start for bar in bars]
    return min(starts), max(starts)
