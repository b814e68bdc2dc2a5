"""A soak: PaperProfit trades for half an hour, and its memory, connections and tables may not grow without end.

The soak runs the embedded run, as ``make run`` starts it, on a fresh folder and a free port. The one process has every
service, the relays, the workers and the gateway, so a leak of any of them shows. The goal for the first month is also
that of its settings. Three traders trade around the clock, and a page is open. A sample is taken every 10 seconds, and
the second half of them is judged (``bench/soak_judgement.py``).

SOAK_MINUTES   how long it runs (30)

It exits with 1 if memory, connections, files or threads grow steadily, or if the first month needs more than 1 GB
beside the books.
"""

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from bench.embedded_run import EmbeddedRun
from bench.report import OUT, NotMeasured
from bench.soak_judgement import Growth, Point, TooShort, bytes_per_hour, failures, first_month, growth
from bench.soak_retention import BOOKS, kept_days
from bench.soak_samples import Sample, Sampler
from bench.soak_traders import Trader, Viewer

TRADERS = 3
SAMPLE_SECONDS = 10.0
SAMPLES_A_MINUTE = 6
MEGABYTE = 1e6
LEAST_MINUTES, MOST_MINUTES = 3.0, 60 * 24 * 30.0
HEADINGS = ("table", "rows", "rows an hour", "kB", "kB an hour", "kept", "MB after a month")


def main() -> int:
    try:
        minutes = _minutes(os.environ.get("SOAK_MINUTES", "30"))
        samples = soak(minutes)
        lines = report(samples)
    except (NotMeasured, TooShort, ValueError) as error:
        print(f"soak: {error}", file=sys.stderr)
        return 1
    for line in lines:
        print(f"FAILED: {line}", file=sys.stderr)
    print(f"\nthe soak of {minutes:g} minutes " + ("failed" if lines else "passed"))
    return 1 if lines else 0


def _minutes(given: str) -> float:
    try:
        minutes = float(given)
    except ValueError:
        minutes = 0.0
    if not LEAST_MINUTES <= minutes <= MOST_MINUTES:
        raise ValueError(f"SOAK_MINUTES must be from {LEAST_MINUTES:g} to {MOST_MINUTES:g}, not {given!r}")
    return minutes


def soak(minutes: float) -> Sequence[Sample]:
    """Run the product under load, and sample it. Raises NotMeasured where it ends or does not answer."""
    print(f"soak: starting the embedded run for {minutes:g} minutes", flush=True)
    with TemporaryDirectory(prefix="paperprofit-soak-") as name, ExitStack() as stack:
        run = stack.enter_context(EmbeddedRun(Path(name).resolve()))
        traders = [Trader(run, number) for number in range(TRADERS)]
        sampler = stack.enter_context(Sampler(run))
        for part in (*traders, viewer := Viewer(run)):
            part.start()
            stack.callback(part.stop)
        samples = _samples(sampler, minutes, lambda sample: _progress(sample, minutes, traders))
        if any(trader.failed for trader in traders) or not all(trader.orders for trader in traders):
            raise NotMeasured(f"the traders did not trade: {[(each.orders, each.failed) for each in traders]}")
        orders, refused = sum(each.orders for each in traders), sum(each.refused for each in traders)
        print(
            f"\n{orders} orders of {TRADERS} traders, of which {refused} refused; {viewer.events:,} events of the page"
        )
    return samples


def _samples(sampler: Sampler, minutes: float, each_minute: Callable[[Sample], None]) -> Sequence[Sample]:
    began, samples = time.monotonic(), [sampler.take()]
    while (elapsed := time.monotonic() - began) < 60 * minutes:
        time.sleep(SAMPLE_SECONDS - elapsed % SAMPLE_SECONDS)
        samples.append(sampler.take())
        if (len(samples) - 1) % SAMPLES_A_MINUTE == 0:
            each_minute(samples[-1])
    return samples


def _progress(sample: Sample, minutes: float, traders: Sequence[Trader]) -> None:
    memory = ", ".join(f"{name} {each.resident / MEGABYTE:.0f} MB" for name, each in sample.memory.items())
    size = sum(table.bytes for table in sample.tables.values())
    connections, orders = sum(sample.connections.values()), sum(trader.orders for trader in traders)
    print(
        f"soak: minute {60 * sample.hours:.0f} of {minutes:g}: {memory}, {connections} connections, "
        f"{size / MEGABYTE:.1f} MB in tables, {orders} orders",
        flush=True,
    )


def report(samples: Sequence[Sample]) -> list[str]:
    """Print and write growth per hour and the first month, and return the lines of what failed. Raises TooShort."""
    judged = {name: (growth(series, least), unit) for name, (series, least, unit) in _judged(samples).items()}
    print("\nsecond half of the soak                           mean      at the end      an hour")
    for name, (found, unit) in judged.items():
        print(f"{name:44} {found.mean:9,.1f}       {found.last:9,.1f}    {found.per_hour:9,.1f}  {unit}")
    _print_resident(samples)
    tables = _growth_of_tables(samples)
    months = {name: each.month for name, each in tables.items()}
    _print_tables(tables)
    month = sum(size for name, size in months.items() if name not in BOOKS)
    books = sum(size for name, size in months.items() if name in BOOKS)
    print(f"\nfirst month: {month / MEGABYTE:,.0f} MB, and {books / MEGABYTE:,.0f} MB of books at the traders' rate")
    lines = failures(judged, month)
    _write(samples, judged, tables, lines)
    return lines


def _judged(samples: Sequence[Sample]) -> dict[str, tuple[list[Point], float, str]]:
    """Return what may not grow steadily: each series with the least rise that counts, and its unit.

    Memory is that of a process: PostgreSQL has one for each connection, and their number is a series of its own.
    """

    def series(value: Callable[[Sample], float]) -> list[Point]:
        return [Point(sample.hours, value(sample)) for sample in samples]

    lasting = [name for name in samples[0].memory if all(name in sample.memory for sample in samples)]
    memory = {
        f"own memory of a process of {name}": (
            series(lambda sample, of=name: sample.memory[of].own / sample.memory[of].processes / MEGABYTE),  # type: ignore[misc]
            0.1,
            "MB",
        )
        for name in lasting
    }
    return {
        **memory,
        "connections to the database": (series(lambda sample: sum(sample.connections.values())), 2.0, "connections"),
        "open files and sockets": (series(lambda sample: sample.files), 3.0, "files"),
        "threads": (series(lambda sample: sample.threads), 2.0, "threads"),
    }


def _print_resident(samples: Sequence[Sample]) -> None:
    print("\nprocesses at the end: resident memory, of it own memory")
    for name, memory in samples[-1].memory.items():
        resident, own = memory.resident / MEGABYTE, memory.own / MEGABYTE
        print(f"{name:30} {memory.processes:3} processes  {resident:7,.0f} MB  {own:7,.0f} MB")
    print("connections: " + ", ".join(f"{name} {count}" for name, count in samples[-1].connections.items()))
    print(f"the database: {samples[-1].database / MEGABYTE:,.1f} MB")


class TableGrowth(NamedTuple):
    """Rows and bytes at the end and what each grows by in an hour, the days that rows are kept, the month's bytes."""

    rows: float
    rows_per_hour: float
    bytes: float
    bytes_per_hour: float
    kept: str
    month: float


def _growth_of_tables(samples: Sequence[Sample]) -> dict[str, TableGrowth]:
    kept, found = kept_days(), {}
    for name in samples[-1].tables:
        there = [sample for sample in samples if name in sample.tables]
        rows = [Point(sample.hours, sample.tables[name].rows) for sample in there]
        sizes = [Point(sample.hours, sample.tables[name].bytes) for sample in there]
        rate, days = bytes_per_hour(rows, sizes, there[-1].tables[name].least), kept.get(name)
        found[name] = TableGrowth(
            rows=rows[-1].value,
            rows_per_hour=growth(rows).per_hour,
            bytes=sizes[-1].value,
            bytes_per_hour=rate,
            kept="books" if name in BOOKS else "" if days is None else f"{days:g} d",
            month=first_month(sizes[-1].value, rate, days),
        )
    return found


def _print_tables(tables: dict[str, TableGrowth]) -> None:
    print("\n{:34}{:>10}{:>14}{:>10}{:>12}{:>10}{:>18}".format(*HEADINGS))
    for name, each in sorted(tables.items(), key=lambda item: -item[1].month):
        if each.rows:
            print(
                f"{name:34}{each.rows:10,.0f}{each.rows_per_hour:14,.0f}{each.bytes / 1000:10,.0f}"
                f"{each.bytes_per_hour / 1000:12,.1f}{each.kept:>10}{each.month / MEGABYTE:18,.1f}"
            )


def _write(
    samples: Sequence[Sample],
    judged: dict[str, tuple[Growth, str]],
    tables: dict[str, TableGrowth],
    lines: Sequence[str],
) -> None:
    OUT.mkdir(exist_ok=True)
    path = OUT / "soak.json"
    written = {
        "judged": {name: {**asdict(found), "unit": unit} for name, (found, unit) in judged.items()},
        "tables": {name: each._asdict() for name, each in tables.items()},
        "failures": lines,
        "samples": [asdict(sample) for sample in samples],
    }
    path.write_text(json.dumps(written, indent=1) + "\n")
    print(f"written to {path}")


if __name__ == "__main__":
    sys.exit(main())
