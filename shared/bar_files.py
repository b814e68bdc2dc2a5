"""Files of bars, CSV and Parquet, of the shape that docs/market-data.md describes.

Columns: ``symbol,interval,start,open,high,low,close,volume,provider``, in any order. ``interval`` and ``provider``
may be missing, and ``date`` may stand for the ``start`` of daily bars. A file is read row by row, however large it is.
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

from shared.contracts.bars import DECIMALS, LENGTHS, BarFields, Interval, WrongBar, check_bar
from shared.contracts.written import check_number

COLUMNS = ("symbol", "interval", "start", "open", "high", "low", "close", "volume", "provider")
_NEEDED = ("symbol", "open", "high", "low", "close", "volume")
_SYMBOL = re.compile(r"[A-Z0-9][A-Z0-9./-]{0,15}")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_NUMBERS = ("open", "high", "low", "close", "volume")
_LONGEST_PROVIDER = 40
#: Rows of a Parquet file that are in memory at a time.
_BATCH = 10_000

#: The number of the line or row, and its bar or the reason that it is none.
Read = tuple[int, BarFields | WrongBar]


class WrongFile(ValueError):
    """The file as a whole cannot be read. The message says what to do."""


def read_file(path: Path, now: datetime, *, interval: str | None, provider: str) -> Iterator[Read]:
    """Read a file by its suffix: ``.parquet``, or CSV in UTF-8. Raises WrongFile."""
    if path.suffix == ".parquet":
        yield from read_parquet(path, now, interval=interval, provider=provider)
        return
    try:
        with path.open(encoding="utf-8", newline="") as lines:
            yield from read_csv(lines, now, interval=interval, provider=provider)
    except UnicodeDecodeError as error:
        raise WrongFile(f"{path.name}: is not CSV in UTF-8: {error.reason} at byte {error.start}") from None


def read_csv(lines: Iterable[str], now: datetime, *, interval: str | None, provider: str) -> Iterator[Read]:
    """Read lines of CSV with a header. ``interval`` and ``provider`` are those of bars without such a column.

    Raises WrongFile.
    """
    rows = csv.reader(lines, strict=True)
    try:
        header = [name.strip().lower().removeprefix("\ufeff") for name in next(rows, [])]
        check_columns(header, interval)
        for row in rows:
            if row:
                yield rows.line_num, _read_row(header, row, now, interval, provider)
    except csv.Error as error:
        raise WrongFile(f"line {rows.line_num}: is not CSV: {error}") from None


def read_parquet(path: Path, now: datetime, *, interval: str | None, provider: str) -> Iterator[Read]:
    """Read the rows of a Parquet file. Raises WrongFile."""
    from pyarrow import ArrowException  # slow to import
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(path) as file:
            header = [name.lower() for name in file.schema_arrow.names]
            check_columns(header, interval)
            number = 0
            for batch in file.iter_batches(_BATCH):
                for row in batch.to_pylist():
                    number += 1
                    yield number, _read_row(header, list(row.values()), now, interval, provider)
    except (ArrowException, OSError) as error:
        raise WrongFile(f"{path.name}: is not a Parquet file: {str(error).splitlines()[0][:200]}") from None


def check_columns(header: Sequence[str], interval: str | None) -> None:
    """Raise WrongFile unless a bar can be read from these columns."""
    if len(set(header)) != len(header):
        raise WrongFile(f"line 1: a column is there twice: {','.join(header)[:200]}")
    missing = [name for name in _NEEDED if name not in header]
    if "start" not in header and "date" not in header:
        missing.append("start")
    if missing:
        raise WrongFile(f"line 1: the header has no {', '.join(missing)}; write {','.join(COLUMNS)}")
    unknown = sorted(set(header) - {*COLUMNS, "date"})
    if unknown:
        raise WrongFile(f"line 1: {', '.join(unknown)[:200]} is not a column of bars; write {','.join(COLUMNS)}")
    if "interval" not in header and interval is None and "date" not in header:
        raise WrongFile("line 1: the header has no interval; add the column or name the interval of all bars")


def _read_row(
    header: Sequence[str], row: Sequence[Any], now: datetime, interval: str | None, provider: str
) -> BarFields | WrongBar:
    if len(row) != len(header):
        return WrongBar("line", f"has {len(row)} fields, the header {len(header)}")
    given = dict(zip(header, row, strict=True))
    if "date" in given:
        given.setdefault("start", given["date"])
        interval = interval or Interval.DAY
    try:
        bar = _bar_of({"interval": interval, "provider": provider, **given})
        check_bar(bar, now)
    except WrongBar as error:
        return error
    return bar


def _bar_of(given: Mapping[str, Any]) -> BarFields:
    symbol, interval, provider = (str(given[name]).strip() for name in ("symbol", "interval", "provider"))
    if not _SYMBOL.fullmatch(symbol):
        raise WrongBar("symbol", f"{symbol[:40]!r} is not a symbol")
    if interval not in LENGTHS:
        raise WrongBar("interval", f"{interval[:20]!r} is not one of {', '.join(LENGTHS)}")
    if not (0 < len(provider) <= _LONGEST_PROVIDER and provider.isprintable()):
        raise WrongBar("provider", f"must be printable text of at most {_LONGEST_PROVIDER} characters")
    opened, high, low, close, volume = (_number(name, given[name]) for name in _NUMBERS)
    return BarFields(symbol, interval, _start(given["start"], interval), opened, high, low, close, volume, provider)


def _start(given: object, interval: str) -> datetime:
    """Read a time in UTC. A date alone is the start of a daily bar."""
    value = given
    if isinstance(given, str):
        text = f"{given}T00:00:00Z" if interval == Interval.DAY and _DAY.fullmatch(given) else given.strip()
        try:
            value = datetime.fromisoformat(text)
        except ValueError:
            raise WrongBar("start", f"{given[:40]!r} is not a time such as 2026-11-23T15:00:00Z") from None
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime.combine(value, time(), UTC)
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise WrongBar("start", f"{str(value)[:40]!r} has no time zone; write Z or an offset")
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise WrongBar("start", f"{str(value)[:40]!r} is not a time between 1970 and 9999") from None


def _number(name: str, value: object) -> Decimal:
    """Read a number. Floating point numbers of Parquet are rounded to the decimals that are kept."""
    if isinstance(value, Decimal):
        return value
    try:
        number = Decimal(check_number(str(value).strip()))
        return round(number, DECIMALS) if isinstance(value, float) else number
    except ValueError:
        raise WrongBar(name, f"{str(value)[:40]!r} is not a decimal number") from None


def csv_line(bar: Sequence[Any]) -> str:
    """A line of CSV of a bar, whose fields are in the order of the columns."""
    symbol, interval, start, *numbers, provider = bar
    text = f'"{provider}"' if {",", '"'} & set(provider) else provider
    return ",".join([symbol, interval, start.isoformat().replace("+00:00", "Z"), *map(_plain, numbers), text]) + "\n"


def _plain(number: Decimal) -> str:
    return f"{number:f}"


class _Chunks(io.RawIOBase):
    """A file that hands out what was written to it."""

    def __init__(self) -> None:
        super().__init__()
        self._written: list[bytes] = []
        self._size = 0

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._written.append(bytes(data))
        self._size += len(self._written[-1])
        return len(self._written[-1])

    def tell(self) -> int:
        return self._size

    def take(self) -> bytes:
        written, self._written = self._written, []
        return b"".join(written)


def parquet_chunks(pages: Iterable[Sequence[Sequence[Any]]]) -> Iterator[bytes]:
    """Make a Parquet file of pages of bars, whose fields are in the order of the columns, and yield it bit by bit."""
    import pyarrow as pa
    from pyarrow.parquet import ParquetWriter

    number = pa.decimal128(38, 9)
    kinds = [pa.string(), pa.string(), pa.timestamp("us", "UTC"), *[number] * 5, pa.string()]
    schema = pa.schema(list(zip(COLUMNS, kinds, strict=True)))
    target = _Chunks()
    with ParquetWriter(target, schema) as writer:
        for page in pages:
            columns = [list(column) for column in zip(*page, strict=True)]
            for place in range(3, 8):
                columns[place] = [round(each, 9) for each in columns[place]]
            arrays = [pa.array(column, kind) for column, kind in zip(columns, kinds, strict=True)]
            writer.write_batch(pa.record_batch(arrays, schema=schema))
            yield target.take()
    yield target.take()
