"""Intervals of bars, and the checks that hold for the bars of every source."""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from services.marketdata.domain.bar import Bar
from shared.contracts.bars import LENGTHS
from shared.money import ZERO

#: The decimals of a price or volume, and the bound of both, as everywhere else.
_EXPONENT = -9
_LARGEST = Decimal(10) ** 18
_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)


class WrongBar(ValueError):
    """A bar that cannot be stored. The message begins with the field."""


def check_bar(bar: Bar, now: datetime) -> None:
    """Raise WrongBar unless the bar is whole and over: it starts on its interval, and its range holds its prices.

    An hour may start at the half hour, as those of a market that opens then do.
    """
    length = LENGTHS.get(bar.interval)
    if length is None:
        raise WrongBar(f"interval: {bar.interval!r} is not one of {', '.join(LENGTHS)}")
    step = min(length, timedelta(minutes=30)) if bar.interval != "1d" else length
    if (bar.start - _EARLIEST) % step or bar.start < _EARLIEST:
        raise WrongBar(f"start: {bar.start.isoformat()} is not a start of a bar of {bar.interval} since 1970 in UTC")
    if bar.start + length > now:
        raise WrongBar(f"start: the bar of {bar.start.isoformat()} has not ended yet")
    for name in ("open", "high", "low", "close", "volume"):
        number: Decimal = getattr(bar, name)
        exponent = number.as_tuple().exponent
        if not number.is_finite() or number > _LARGEST or number < ZERO or (name != "volume" and not number):
            raise WrongBar(f"{name}: {str(number)[:40]} is not a {'volume' if name == 'volume' else 'price'}")
        if isinstance(exponent, int) and exponent < _EXPONENT:
            raise WrongBar(f"{name}: {str(number)[:40]} has more than nine decimals")
    if bar.low > min(bar.open, bar.close) or bar.high < max(bar.open, bar.close):
        raise WrongBar("low, high: open or close lies outside of them")


def whole_bars(bars: Iterable[Bar], now: datetime) -> Iterator[Bar | WrongBar]:
    """Each bar, or the reason that it cannot be stored."""
    for bar in bars:
        try:
            check_bar(bar, now)
        except WrongBar as error:
            yield error
        else:
            yield bar
