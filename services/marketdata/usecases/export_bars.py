"""Write bars to a file, CSV or Parquet, page by page."""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, text

from shared.bar_files import COLUMNS, csv_line, parquet_chunks
from shared.bus.unit_of_work import ServiceContext
from shared.contracts.bars import LENGTHS

_PAGE = 10_000
Span = tuple[datetime, datetime]


def export_file(
    context: ServiceContext, path: Path, symbols: Sequence[str], interval: str, adjustment: str, span: Span
) -> int:
    """Write the bars that start within the span, by symbol and time, and return their number."""
    written = 0

    def pages() -> Iterator[list[tuple[Any, ...]]]:
        nonlocal written
        with context.engine.begin() as connection:
            for symbol in symbols:
                for page in pages_of(connection, symbol, interval, adjustment, span):
                    written += len(page)
                    yield page

    with path.open("wb") as target:
        if path.suffix == ".parquet":
            for chunk in parquet_chunks(pages()):
                target.write(chunk)
        else:
            target.write((",".join(COLUMNS) + "\n").encode())
            for page in pages():
                target.write("".join(map(csv_line, page)).encode())
    return written


def pages_of(
    connection: Connection, symbol: str, interval: str, adjustment: str, span: Span
) -> Iterator[list[tuple[Any, ...]]]:
    """Pages of bars, the oldest first, each bar in the order of a file's columns."""
    given = {"symbol": symbol, "interval": interval, "begin": span[0], "end": span[1]}
    first, last = connection.execute(_ENDS, given).one()
    step: timedelta = _PAGE * LENGTHS[interval]
    while first is not None and first <= last:
        part = {"begin": first, "end": min(first + step, span[1]), "adjustment": adjustment, "most": 2 * _PAGE}
        found = connection.execute(_BARS, {**given, **part}).all()
        if found:
            yield [(symbol, interval, *bar) for bar in reversed(found)]
        first = min(first + step, span[1])


_ENDS = text("""
SELECT min(start_at), max(start_at) FROM marketdata.market_data
WHERE symbol = :symbol AND interval = :interval AND start_at >= :begin AND start_at < :end
""")
_BARS = text("""
SELECT start_at, open, high, low, close, volume, provider
FROM marketdata.adjusted_bars_v1(:symbol, :interval, :begin, :end, :adjustment, :most)
""")
