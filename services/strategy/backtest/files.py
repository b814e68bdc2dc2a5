"""Bars of a file for a backtest: CSV of the shape that docs/market-data.md describes, or a plain price history.

A plain history has the columns Date (or Datetime, or one without a name), Open, High, Low, Close and Volume of one
symbol, in any order and case. Other columns are ignored.
"""

import csv
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from itertools import pairwise
from pathlib import Path

from services.strategy.backtest.series import Series
from services.strategy.strategies.view import Bar
from shared.bar_files import COLUMNS, Read, WrongFile, read_csv, read_file
from shared.contracts.bars import DECIMALS, LENGTHS, Interval, WrongBar

PROVIDER = "file"
_TIMES = ("date", "datetime", "time", "timestamp", "start", "")
_NUMBERS = ("open", "high", "low", "close", "volume")
_LONGEST_DATE = len("2026-11-23")


def series_of_file(
    path: Path,
    now: datetime,
    *,
    interval: str | None = None,
    symbol: str | None = None,
    begin: datetime | None = None,
    end: datetime | None = None,
) -> list[Series]:
    """The series of a file, by symbol, without bars that start at ``end`` or later. Bars before ``begin`` warm up.

    Raises WrongFile, which names the line and the field.
    """
    by_symbol: dict[str, dict[datetime, Bar]] = defaultdict(dict)
    intervals: set[str] = set()
    try:
        for line, read in _read(path, now, interval=interval, symbol=symbol):
            if isinstance(read, WrongBar):
                raise WrongFile(f"line {line}: {read}")
            if interval is not None and read.interval != interval:
                continue
            intervals.add(read.interval)
            bars = by_symbol[read.symbol]
            if read.start in bars and len(intervals) == 1:
                raise WrongFile(f"line {line}: start: {read.symbol} has a bar of {read.start.isoformat()} already")
            bars[read.start] = Bar(read.start, read.open, read.high, read.low, read.close, read.volume)
    except OSError as error:
        raise WrongFile(f"{path}: {(error.strerror or 'cannot be read').lower()}") from None
    if len(intervals) > 1:
        raise WrongFile(f"{path.name}: has bars of {', '.join(sorted(intervals))}; choose one with --interval")
    if not intervals:
        raise WrongFile(f"{path.name}: has no bars{'' if interval is None else f' of {interval}'}")
    length = LENGTHS[next(iter(intervals))]
    found = [
        Series(name, [bars[start] for start in sorted(bars) if end is None or start < end], length)
        for name, bars in sorted(by_symbol.items())
    ]
    if not any(each.bars and (begin is None or each.bars[-1].start >= begin) for each in found):
        raise WrongFile(f"{path.name}: has no bars between --from and --to")
    return [each for each in found if each.bars]


def _read(path: Path, now: datetime, *, interval: str | None, symbol: str | None) -> Iterator[Read]:
    if path.suffix == ".parquet":
        yield from read_file(path, now, interval=interval, provider=PROVIDER)
        return
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            header = [name.strip().lower() for name in next(csv.reader(lines), [])]
            lines.seek(0)
            if "symbol" in header:
                yield from read_csv(lines, now, interval=interval, provider=PROVIDER)
            else:
                name = symbol or _symbol(path)
                yield from read_csv(_rewritten(lines, header, name, interval), now, interval=None, provider=PROVIDER)
    except UnicodeDecodeError as error:
        raise WrongFile(f"{path.name}: is not CSV in UTF-8: {error.reason} at byte {error.start}") from None
    except csv.Error as error:
        raise WrongFile(f"{path.name}: is not CSV: {error}") from None


def _symbol(path: Path) -> str:
    """A symbol made of the file's name: ``goog_daily.csv`` has the prices of GOOG-DAILY."""
    return re.sub(r"[^A-Z0-9.-]+", "-", path.stem.upper()).strip("-.")[:16] or "FILE"


def _rewritten(lines: Iterator[str], header: Sequence[str], symbol: str, interval: str | None) -> Iterator[str]:
    """The lines of a plain history in the shape of files of bars, each at its own number."""
    missing = [name for name in _NUMBERS if name not in header]
    moment = next((name for name in _TIMES if name in header), None)
    if moment is None:
        missing.insert(0, "date")
    if missing or moment is None:
        shape = f"write Date,Open,High,Low,Close,Volume or {','.join(COLUMNS)}"
        raise WrongFile(f"line 1: the header has no {', '.join(missing)}; {shape}")
    rows = csv.reader(lines)
    next(rows)
    read = [(rows.line_num, row) for row in rows]
    places = [header.index(name) for name in (moment, *_NUMBERS)]
    chosen = interval or _interval([row[places[0]] for _, row in read if len(row) > places[0]])
    yield "symbol,interval,start,open,high,low,close,volume\n"
    written = 1
    for number, row in read:
        yield from ["\n"] * (number - written - 1)
        written = number
        fields = [row[place] if place < len(row) else "" for place in places] if row else []
        yield ",".join([symbol, chosen, _start(fields[0], chosen), *map(_rounded, fields[1:])]) + "\n" if row else "\n"


def _interval(times: Sequence[str]) -> str:
    """The interval of these times: a day where they have no time of day, else their smallest distance."""
    if all(len(text.strip()) <= _LONGEST_DATE or text.strip()[10:].lstrip("T ").startswith("00:00") for text in times):
        return Interval.DAY
    try:
        starts = sorted({datetime.fromisoformat(_start(text, "")) for text in times})
    except (ValueError, TypeError):
        return Interval.MINUTE  # the row that is no time is refused when it is read
    steps = [after - before for before, after in pairwise(starts)]
    step = min(steps, default=timedelta(0))
    found = next((name for name, length in LENGTHS.items() if length == step), None)
    if found is None:
        raise WrongFile(f"date: bars are {step} apart; choose one of {', '.join(LENGTHS)} with --interval")
    return found


def _start(text: str, interval: str) -> str:
    """The time in the notation of files of bars. A time without a zone is one of UTC."""
    text = text.strip()
    if interval == Interval.DAY:
        return text[:_LONGEST_DATE]
    try:
        return text if datetime.fromisoformat(text).tzinfo is not None else f"{text}Z"
    except ValueError:
        return text


def _rounded(text: str) -> str:
    """The number with the decimals that bars have. Text that is none stays, and is refused when it is read."""
    text = text.strip()
    try:
        return f"{round(Decimal(text), DECIMALS):f}" if "." in text and "e" not in text.lower() else text
    except InvalidOperation:
        return text.replace(",", "").replace('"', "") or "nothing"
