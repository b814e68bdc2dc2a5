"""The embedded run as its user meets it: starting, the first price, a fill, what it costs, stopping.

Every run has a fresh folder and a free port. Only the cold start has a reference, the bare PostgreSQL on a
fresh folder: the rest is asked of ours alone. ``--quick`` shortens the measuring of CPU and leaves out the
fresh clone, which downloads every library again.
"""

import argparse
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory

import httpx2
import psutil

from bench.embedded_run import ROOT, EmbeddedRun
from bench.event_stream import EventStream
from bench.market_order import Fill, buy_one
from bench.report import Goal, NotMeasured, Row, comparison, figure, interleaved, run_benchmark
from embedded.postgres_cluster import ClusterFailed, PostgresCluster

STARTS = 5
ORDERS = 20
SYMBOLS = ("AAPL", "FB", "GOOG", "IBM", "MSFT")
CPU_SECONDS = 60.0
QUICK_CPU_SECONDS = 10.0
MEMORY_EVERY_SECONDS = 1.0
FRESH_CLONE_TIMEOUT = 600.0
EVENT_TIMEOUT = 15.0
MEGABYTE = 1e6


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.bench_embedded", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="no fresh clone, a short look at CPU")
    quick: bool = parser.parse_args().quick
    session = partial(measure_session, cpu_seconds=QUICK_CPU_SECONDS if quick else CPU_SECONDS)
    return run_benchmark("embedded", [measure_starts, session, *([] if quick else [measure_fresh_clone])])


@dataclass(frozen=True)
class Start:
    """Seconds to ``ready``, from there to the first price, and to stop, and the number of processes left then."""

    ready: float
    first_price: float
    stop: float
    left: int


def measure_starts() -> Sequence[Row]:
    cold: list[Start] = []
    warm: list[Start] = []

    def start_cold_then_warm() -> float:
        with _new_folder() as home:
            cold.append(_start(home))
            warm.append(_start(home))
        return cold[-1].ready

    pairs = interleaved(start_cold_then_warm, _start_bare_postgres, STARTS)
    starts = [*cold, *warm]
    return [
        comparison("cold start, beside the bare PostgreSQL", "s", pairs),
        figure("warm start", "s", [start.ready for start in warm], Goal("max", "<", 6)),
        figure("first price after ready", "s", [s.first_price for s in starts], Goal("max", "<=", 3)),
        figure("stop on SIGTERM", "s", [start.stop for start in starts], Goal("max", "<", 5)),
        figure("left after the stop", "processes", [s.left for s in starts], Goal("max", "<=", 0)),
    ]


def _start(home: Path) -> Start:
    with EmbeddedRun(home) as run, _stream(run) as stream:
        event = stream.first(lambda event: event.first_price_after(run.ready_at) is not None, seconds=EVENT_TIMEOUT)
        first_price = (event.arrived_at - run.ready_at).total_seconds()
        return Start(run.ready_seconds, first_price, run.stop(), len(run.processes()))


def _start_bare_postgres() -> float:
    with _new_folder() as folder:
        cluster = PostgresCluster(folder / "postgres")
        begun = time.monotonic()
        try:
            cluster.start()
            return time.monotonic() - begun
        except ClusterFailed as error:
            raise NotMeasured(f"the bare PostgreSQL did not start: {error}") from None
        finally:
            cluster.stop()


def measure_session(*, cpu_seconds: float) -> Sequence[Row]:
    """One longer run, in this order: nobody looks, a page is open, orders are handed in."""
    with _new_folder() as home, EmbeddedRun(home) as run:
        process = psutil.Process(run.process.pid)
        unwatched = _Use.over(process, cpu_seconds)
        with _stream(run) as stream:
            watched = _Use.over(process, cpu_seconds)
            fills = _fill_orders(run, stream)
            at_the_end = process.memory_info().rss / MEGABYTE
    memory = [*unwatched.memory, *watched.memory, at_the_end]
    return [
        figure("market order answered", "s", [fill.answered for fill in fills]),
        figure("filled after the next price", "s", [fill.filled for fill in fills], Goal("max", "<=", 1)),
        figure("seen filled after the next price", "s", [f.seen for f in fills], Goal("max", "<=", 1)),
        figure("CPU, no page open", "% of a core", [unwatched.cpu], Goal("max", "<", 15)),
        figure("CPU, a page open", "% of a core", [watched.cpu], Goal("max", "<", 15)),
        figure("resident memory", "MB", memory, Goal("max", "<", 400)),
    ]


@dataclass(frozen=True)
class _Use:
    """CPU in percent of one core, user and system, and resident memory in megabytes, once a second."""

    cpu: float
    memory: list[float]

    @classmethod
    def over(cls, process: psutil.Process, seconds: float) -> "_Use":
        memory = []
        begun, used = time.monotonic(), _cpu_seconds(process)
        while (remaining := begun + seconds - time.monotonic()) > 0:
            memory.append(process.memory_info().rss / MEGABYTE)
            time.sleep(min(remaining, MEMORY_EVERY_SECONDS))
        return cls(100 * (_cpu_seconds(process) - used) / (time.monotonic() - begun), memory)


def _cpu_seconds(process: psutil.Process) -> float:
    """CPU time of this process alone. PostgreSQL has processes of its own."""
    times = process.cpu_times()
    return float(times.user + times.system)


def _fill_orders(run: EmbeddedRun, stream: EventStream) -> list[Fill]:
    """Hand in market orders at moments spread over the second between two prices."""
    moments = random.Random(1)
    with httpx2.Client(base_url=run.url, headers=run.key_headers, timeout=EVENT_TIMEOUT) as client:
        fills = []
        for symbol in islice(cycle(SYMBOLS), ORDERS):
            time.sleep(moments.random())
            fills.append(buy_one(client, stream, symbol))
        return fills


def measure_fresh_clone() -> Sequence[Row]:
    """From ``make run`` in a clone of HEAD to ``ready``, with nothing downloaded beforehand, measured once."""
    with _new_folder() as folder:
        clone = folder / "clone"
        clone_head = ("git", "clone", "--quiet", str(ROOT), str(clone))
        cloned = subprocess.run(clone_head, check=False, capture_output=True, text=True)
        if cloned.returncode or not (clone / "Makefile").exists():
            raise NotMeasured(f"git clone left no Makefile: {cloned.stderr.strip() or 'HEAD is empty'}")
        variables = {"UV_CACHE_DIR": str(folder / "uv-cache"), "PIP_NO_CACHE_DIR": "1"}
        command = ("make", "--no-print-directory", "run")
        with EmbeddedRun(clone, command=command, cwd=clone, variables=variables, timeout=FRESH_CLONE_TIMEOUT) as run:
            seconds = run.ready_seconds
    return [figure("fresh clone to ready, empty caches", "s", [seconds], Goal("max", "<", 120))]


def _stream(run: EmbeddedRun) -> EventStream:
    return EventStream(f"{run.url}/api/stream", run.key_headers)


@contextmanager
def _new_folder() -> Iterator[Path]:
    with TemporaryDirectory(prefix="paperprofit-bench-") as folder:
        yield Path(os.path.realpath(folder))  # as a process reports its own folder


if __name__ == "__main__":
    sys.exit(main())
