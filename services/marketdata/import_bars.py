"""Import bars from a file, CSV or Parquet: ``python -m services.marketdata.import_bars FILE``.

docs/market-data.md describes the shape. A wrong line refuses the whole file, unless --partial leaves it out. The
database is that of PAPERPROFIT_DATABASE_URL.
"""

import argparse
import sys
from pathlib import Path

from services.marketdata.usecases import import_bars
from shared.bar_files import WrongFile, read_file
from shared.bus.unit_of_work import ServiceContext
from shared.contracts.bars import Interval
from shared.service import make_context
from shared.settings import ServiceSettings, load


def main(arguments: list[str], context: ServiceContext | None = None) -> int:
    """Import the file, and return the exit code: 1 if it was refused."""
    given = _parser().parse_args(arguments)
    context = context or make_context("marketdata", load(ServiceSettings))
    now = context.clock()

    def read() -> import_bars.Lines:
        return read_file(given.file, now, interval=given.interval, provider=given.provider)

    try:
        with context.engine.begin() as connection:
            known = import_bars.known_symbols(connection)
        checked = import_bars.check(read(), known)
        for reason in checked.wrong:
            sys.stderr.write(f"{given.file.name}, {reason}\n")
        if checked.refused and not given.partial:
            sys.stderr.write(f"nothing imported: {checked.refused} wrong lines; mend them or add --partial\n")
            return 1
        written = import_bars.import_file(context, read(), checked)
    except (WrongFile, OSError) as error:
        sys.stderr.write(f"nothing imported: {error}\n")
        return 1
    sys.stdout.write(f"{checked.bars} bars read, {written} new or changed, {checked.refused} lines left out\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m services.marketdata.import_bars", description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--interval", choices=[each.value for each in Interval], help="where the file has no interval")
    parser.add_argument("--provider", default="import", help="where the file has no provider (default: import)")
    parser.add_argument("--partial", action="store_true", help="leave wrong lines out")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
