"""Store bars that came from a file or over HTTP, and roll minutes up."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice

from sqlalchemy import Connection, text

from services.marketdata.persistence import bars
from services.marketdata.persistence.partitions import ensure_partitions_between
from shared.bar_files import Read
from shared.bus.unit_of_work import ServiceContext, UnitOfWork
from shared.contracts.bars import LENGTHS, AnyBar, BarFields, Interval, StoreBars, WrongBar, span_of

Lines = Iterable[Read]
#: Bars that are stored at a time.
BATCH = 50_000
#: Wrong lines that are named one by one.
MOST_NAMED = 20


@dataclass
class Checked:
    """The result of reading a whole file. ``wrong`` are the first wrong lines, each with its reason."""

    bars: int = 0
    refused: int = 0
    wrong: list[str] = field(default_factory=list)
    first: datetime | None = None
    last: datetime | None = None
    symbols: set[str] = field(default_factory=set)

    def refuse(self, line: int, reason: WrongBar) -> None:
        self.refused += 1
        if len(self.wrong) < MOST_NAMED:
            self.wrong.append(f"line {line}, {reason}")


def check(read: Lines, known: set[str]) -> Checked:
    """Read a whole file without storing it. ``known`` are the symbols of the instruments."""
    found = Checked()
    for line, bar in read:
        if isinstance(bar, WrongBar):
            found.refuse(line, bar)
        elif bar.symbol not in known:
            found.refuse(line, WrongBar("symbol", f"unknown instrument {bar.symbol}; add it first"))
        else:
            found.bars += 1
            found.symbols.add(bar.symbol)
            found.first = min(found.first or bar.start, bar.start)
            found.last = max(found.last or bar.start, bar.start)
    return found


def import_file(context: ServiceContext, read: Lines, checked: Checked) -> int:
    """Store the good lines of a checked file, all in one transaction, and return the number of rows written."""
    if checked.first is None or checked.last is None:
        return 0
    with context.engine.begin() as connection:
        ensure_partitions_between(connection, checked.first, checked.last, context.clock())
    good = (bar for _, bar in read if not isinstance(bar, WrongBar) and bar.symbol in checked.symbols)
    with context.engine.begin() as connection:
        return sum(store(connection, batch) for batch in _batches(good))


def store_given(uow: UnitOfWork, command: StoreBars) -> int:
    """Store the bars of a command, but those of instruments that are gone. Returns the number of rows written."""
    known = known_symbols(uow.connection)
    given = [bar for bar in command.bars if bar.symbol in known]
    if not given:
        return 0
    ensure_partitions_between(uow.connection, *span_of(given), uow.now)
    return store(uow.connection, given)


def store(connection: Connection, given: Sequence[AnyBar]) -> int:
    """Store whole bars of existing partitions and roll their minutes up. Returns the number of rows written."""
    written = bars.store_bars(connection, given)
    minutes: dict[str, list[AnyBar]] = {}
    for bar in given:
        if bar.interval == Interval.MINUTE:
            minutes.setdefault(bar.symbol, []).append(bar)
    for symbol, its_bars in sorted(minutes.items()):
        first, last = span_of(its_bars)
        bars.roll_up(connection, [symbol], first, last + LENGTHS[Interval.MINUTE])
    return written


def known_symbols(connection: Connection) -> set[str]:
    return set(connection.execute(_SYMBOLS).scalars())


def _batches(given: Iterator[BarFields]) -> Iterator[list[BarFields]]:
    while batch := list(islice(given, BATCH)):
        yield batch


_SYMBOLS = text("SELECT symbol FROM marketdata.instruments")
