"""``python -m services.marketdata.import_instruments`` adds instruments: all of a list or set, or none.

    python -m services.marketdata.import_instruments FILE.csv [--unvalidated]
    python -m services.marketdata.import_instruments --set sp500-top

The columns of the CSV are those of ``POST /api/instruments/import``, and the provider is asked for its instruments as
there. A set is taken as it is. Instruments that exist with the same terms stay. A
list that has one with other terms is refused. One of a set stays as it is.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from uuid import uuid4

from services.marketdata.configured import configured_order
from services.marketdata.instrument_sets import UnreadableSet, read_set
from services.marketdata.settings import current
from services.marketdata.usecases.change_instruments import add
from services.marketdata.usecases.fetch_prices import Order
from services.marketdata.usecases.search_instruments import Searches
from services.marketdata.usecases.validate_instruments import validate
from shared.bus.unit_of_work import ServiceContext
from shared.contracts.instrument_lists import UnreadableList, read_csv
from shared.contracts.instruments import AddInstruments, GivenInstrument, InstrumentsRefused, InstrumentTerms
from shared.settings import InvalidSettings, ServiceSettings, load
from shared.storage.engine import make_engine


class NotImported(Exception):
    """Nothing was added. The message names the line or the instrument."""


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m services.marketdata.import_instruments",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("file", nargs="?", type=Path, help="a CSV file")
    source.add_argument("--set", help="a set of config/instruments.toml")
    parser.add_argument("--unvalidated", action="store_true", help="do not ask the provider for them")
    given = parser.parse_args(arguments)
    try:
        lines, listed = _read_file(given.file) if given.file else ([], [])
        url = load(ServiceSettings).database_url.get_secret_value()
        engine = make_engine(url, name="marketdata")
        try:
            context = ServiceContext("marketdata", engine)
            if not given.file:
                terms = read_set(current().instruments_file, given.set)
            elif given.unvalidated:
                terms = [each.terms() for each in listed]
            else:
                terms = validated(context, configured_order(), listed, lines)
            added = import_all(context, terms, lines)
        finally:
            engine.dispose()
    except (NotImported, UnreadableList, UnreadableSet, InvalidSettings) as error:
        print(f"import_instruments: {error}", file=sys.stderr)  # noqa: T201
        return 1
    print(f"added {len(added)} instruments: {', '.join(added)}" if added else "nothing to add")  # noqa: T201
    return 0


def _read_file(path: Path) -> tuple[list[int], list[GivenInstrument]]:
    """The lines and instruments of a CSV file. Raises NotImported and UnreadableList."""
    try:
        rows = read_csv(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise NotImported(f"{path} cannot be read: {error}") from None
    return [line for line, _ in rows], [each for _, each in rows]


def validated(
    context: ServiceContext, order: Order, listed: Sequence[GivenInstrument], lines: Sequence[int]
) -> list[InstrumentTerms]:
    """The terms of the list, with what the providers fill in. Raises NotImported."""
    answer = validate(context, Searches(), order, listed, uuid4())
    if answer.wrong:
        told = "; ".join(f"line {lines[each.place]}, {each.message}" for each in answer.wrong)
        raise NotImported(f"{told}. Correct them, or import the list without asking, with --unvalidated")
    if answer.unanswered:
        problems = "; ".join(f"{each.provider}: {each.problem}" for each in answer.asked if each.problem is not None)
        why = f"{answer.unanswered} instruments cannot be validated now ({problems})"
        raise NotImported(f"{why}; try again later, or import the list without asking, with --unvalidated")
    return list(answer.instruments)


def import_all(context: ServiceContext, terms: Sequence[InstrumentTerms], lines: Sequence[int] = ()) -> list[str]:
    """Add the instruments in one transaction, and return the symbols of the new ones. Raises NotImported."""
    command = AddInstruments(request_id=uuid4(), instruments=tuple(terms), pairs_with=("USD",))
    with context.unit_of_work() as uow:
        answer = add(uow, command, keep_others=not lines)
    if isinstance(answer, InstrumentsRefused):
        where = f"line {lines[answer.place]}, " if lines else ""
        raise NotImported(f"{where}{answer.message}")
    return list(answer.added)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
