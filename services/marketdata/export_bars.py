"""Export bars to a file, CSV or Parquet: ``python -m services.marketdata.export_bars FILE --symbols AAPL``.

The file can be imported and replayed. The database is that of PAPERPROFIT_DATABASE_URL.
"""

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path

from services.marketdata.usecases.export_bars import export_file
from shared.bus.unit_of_work import ServiceContext
from shared.contracts.bars import Adjustment, Interval
from shared.service import make_context
from shared.settings import ServiceSettings, load


def main(arguments: list[str], context: ServiceContext | None = None) -> int:
    """Export the bars, and return the exit code: 1 if the file cannot be written."""
    given = _parser().parse_args(arguments)
    context = context or make_context("marketdata", load(ServiceSettings))
    symbols = given.symbols.upper().split(",")
    span = (given.begin, given.end)
    try:
        written = export_file(context, given.file, symbols, given.interval, given.adjustment, span)
    except OSError as error:
        sys.stderr.write(f"nothing exported: {error}\n")
        return 1
    sys.stdout.write(f"{written} bars written to {given.file}\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m services.marketdata.export_bars", description=__doc__)
    parser.add_argument("file", type=Path, help="its suffix .parquet or .csv is the format")
    parser.add_argument("--symbols", required=True, help="such as AAPL,MSFT")
    parser.add_argument("--interval", required=True, choices=[each.value for each in Interval])
    parser.add_argument("--adjustment", default="raw", choices=[each.value for each in Adjustment])
    parser.add_argument("--from", dest="begin", type=_time, default="1970-01-01", help="inclusive, a day or a time")
    parser.add_argument("--to", dest="end", type=_time, default="2200-01-01", help="exclusive")
    return parser


def _time(text: str) -> datetime:
    """Read a time. Without an offset it is in UTC."""
    time = datetime.fromisoformat(text)
    return time if time.tzinfo else time.replace(tzinfo=UTC)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
