"""The recorded daily prices, from CSV text to bars per symbol with the splits spliced."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal, InvalidOperation

from services.marketdata.domain.splits import split_factor, split_price

COLUMNS = ["symbol", "date", "open", "high", "low", "close", "volume"]


class UnreadableRecording(ValueError):
    """The recorded prices are damaged. The message names the line."""

    def __init__(self, line: int, reason: str) -> None:
        super().__init__(f"recorded prices, line {line}: {reason}. Make the file again as data/SOURCE.md says")


@dataclass(frozen=True, slots=True)
class RecordedDay:
    """One day of one symbol: prices in US dollars per newest share, volume in newest shares."""

    symbol: str
    date: date
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    volume: Decimal


def recorded_bars(lines: Iterable[str]) -> dict[str, tuple[RecordedDay, ...]]:
    """Symbol → its bars by date, oldest first.

    ``lines`` are CSV with the header COLUMNS, prices as traded, each symbol's days in rising order. Raises
    UnreadableRecording.
    """
    rows = csv.reader(lines)
    if next(rows, None) != COLUMNS:
        raise UnreadableRecording(1, f"the header is not {','.join(COLUMNS)}")
    series: dict[str, list[RecordedDay]] = {}
    for row in rows:
        bar = _bar(row, rows.line_num)
        bars = series.setdefault(bar.symbol, [])
        if bars and bar.date <= bars[-1].date:
            raise UnreadableRecording(rows.line_num, f"{bar.date} follows {bars[-1].date}")
        bars.append(bar)
    return {symbol: tuple(bars) for symbol, bars in series.items()}


def _bar(row: Sequence[str], line: int) -> RecordedDay:
    try:
        symbol, date_text, *price_texts, volume_text = row
        day = date.fromisoformat(date_text)
        factor = split_factor(symbol, day)
        opened, high, low, close = (split_price(Decimal(price), factor) for price in price_texts)
        volume = Decimal(volume_text) * factor
        # inside the try because an ordered comparison with NaN raises
        consistent = volume >= 0 and 0 < low <= min(opened, close, high) and max(opened, close) <= high
    except (ValueError, InvalidOperation) as error:
        raise UnreadableRecording(line, f"{','.join(row)!r} is not a bar") from error
    if not consistent:
        raise UnreadableRecording(line, "open or close lies outside low and high, or the volume is negative")
    return RecordedDay(symbol, day, opened, high, low, close, volume)
