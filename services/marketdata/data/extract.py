# /// script
# requires-python = ">=3.11"
# dependencies = ["bokeh_sampledata==2026.1"]
# ///
"""Makes daily_prices.csv.gz from the package named above. SOURCE.md beside this file says where it is from."""

import csv
import gzip
import io
from collections.abc import Iterable, Iterator
from importlib.resources import files
from pathlib import Path

TARGET = Path(__file__).with_name("daily_prices.csv.gz")
COLUMNS = ("symbol", "date", "open", "high", "low", "close", "volume")
SOURCE_COLUMNS = ("Ticker", "Date", "Open", "High", "Low", "Close", "Volume")


def source_lines() -> list[str]:
    packed = files("bokeh_sampledata").joinpath("_data", "stocks.csv.gz").read_bytes()
    return gzip.decompress(packed).decode("ascii").splitlines()


def daily_prices(lines: Iterable[str]) -> Iterator[tuple[str, ...]]:
    """The rows of COLUMNS by symbol and date. Every figure keeps the source's own text."""
    rows = (tuple(row[column] for column in SOURCE_COLUMNS) for row in csv.DictReader(lines))
    yield from sorted(rows)  # ISO dates sort as text


def packed_csv(rows: Iterable[tuple[str, ...]]) -> bytes:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows(rows)
    # Without a time in the gzip header the same source gives the same file.
    return gzip.compress(text.getvalue().encode("ascii"), compresslevel=9, mtime=0)


if __name__ == "__main__":
    TARGET.write_bytes(packed_csv(daily_prices(source_lines())))
