"""The bus compared with its parts (raw pika, stock dramatiq, psycopg) and with Celery.

Every row is measured in turn with its reference, on the same servers, with the same persistent messages. The first
tenth of a consuming run is warm-up. Celery is installed into ``bench/out/celery-venv`` on first use.
"""

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from bench.bus_consume import PREFETCH, PROCESSES, Consuming, bodies, celery_rate, install_celery
from bench.bus_latency import PER_SECOND, our_latency, raw_latency
from bench.bus_priorities import PER_SECOND as COMMANDS
from bench.bus_priorities import command_latency
from bench.bus_relay import confirm_each_rate, relay_rate
from bench.bus_servers import Servers, quiet_logs, running_servers
from bench.report import Goal, Row, comparison, interleaved, run_benchmark
from shared.bus.relay import WINDOW


@dataclass(frozen=True)
class Sizes:
    """The sizes of the measurements. Each side has ``runs``. The rate of a short consuming run varies much."""

    runs: int
    messages: int
    celery: int
    inserts: int
    seconds: int
    rows: int
    backlog: int


USUAL = Sizes(runs=4, messages=40_000, celery=15_000, inserts=6_000, seconds=5, rows=20_000, backlog=100_000)
QUICK = Sizes(runs=1, messages=15_000, celery=5_000, inserts=2_000, seconds=2, rows=6_000, backlog=40_000)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.bench_bus", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short run of each")
    sizes = QUICK if parser.parse_args().quick else USUAL
    quiet_logs()
    with running_servers() as servers:
        measures = (measure_noop, measure_celery, measure_inbox, measure_latency, measure_priorities, measure_relay)
        return run_benchmark("bus", [partial(measure, servers, sizes) for measure in measures])


def measure_noop(servers: Servers, sizes: Sizes) -> Sequence[Row]:
    ours = partial(Consuming(servers, "ours").rate, sizes.messages)
    rows = []
    for beside, kind, goal in (("raw pika", "raw", 0.5), ("stock dramatiq", "stock", 0.88)):
        pairs = interleaved(ours, partial(Consuming(servers, kind).rate, sizes.messages), sizes.runs)
        name = f"no-op consume beside {beside}; {_settings(sizes.messages)}"
        rows.append(comparison(name, "messages/s", pairs, Goal("ratio", ">=", goal)))
    return rows


def measure_celery(servers: Servers, sizes: Sizes) -> Sequence[Row]:
    install_celery()
    ours = partial(Consuming(servers, "ours").rate, sizes.celery)
    pairs = interleaved(ours, partial(celery_rate, servers, sizes.celery), sizes.runs)
    name = f"no-op consume beside Celery 5, prefork {PROCESSES}, acks late; ours {_settings(sizes.celery)}"
    return [comparison(name, "messages/s", pairs, Goal("ratio", ">=", 2.5))]


def measure_inbox(servers: Servers, sizes: Sizes) -> Sequence[Row]:
    ours, raw = Consuming(servers, "ours-inbox"), Consuming(servers, "raw-insert")
    pairs = interleaved(partial(ours.rate, sizes.inserts), partial(raw.rate, sizes.inserts), sizes.runs)
    name = f"consume with the inbox beside raw pika, an INSERT and commit each; durable, {_settings(sizes.inserts)}"
    return [comparison(name, "messages/s", pairs, Goal("ratio", ">=", 0.5))]


def measure_latency(servers: Servers, sizes: Sizes) -> Sequence[Row]:
    """Both percentiles come from the same runs, in turn as ``interleaved`` takes them."""
    taken = [(our_latency(servers, sizes.seconds), raw_latency(servers, sizes.seconds)) for _ in range(sizes.runs)]
    name = f"publish to actor start beside raw pika; {PER_SECOND}/s for {sizes.seconds} s, confirmed, 1 process"
    p50 = [(ours.p50, raw.p50) for ours, raw in taken]
    p99 = [(ours.p99, raw.p99) for ours, raw in taken]
    return [
        comparison(f"p50 {name}", "ms", p50, Goal("ratio", "<=", 1.5)),
        comparison(f"p99 {name}", "ms", p99, Goal("ratio", "<=", 2)),
    ]


def measure_priorities(servers: Servers, sizes: Sizes) -> Sequence[Row]:
    rows = []
    for where, elsewhere in (("of another service, a process of its own", True), ("of the same service", False)):
        taken = [
            (
                command_latency(servers, sizes.seconds, backlog=sizes.backlog, elsewhere=elsewhere).p99,
                command_latency(servers, sizes.seconds).p99,
            )
            for _ in range(sizes.runs)
        ]
        name = f"p99 of a command while {sizes.backlog:,} jobs {where} are drained, beside an empty bus; {COMMANDS}/s"
        rows.append(comparison(name, "ms", taken, Goal("ratio", "<=", 4)))
    return rows


def measure_relay(servers: Servers, sizes: Sizes) -> Sequence[Row]:
    pairs = interleaved(
        partial(relay_rate, servers, sizes.rows), partial(confirm_each_rate, servers, sizes.rows), sizes.runs
    )
    name = f"relay beside one that confirms each; {sizes.rows:,} rows, windows of {WINDOW:,}, durable"
    return [comparison(name, "rows/s", pairs, Goal("ratio", ">=", 10))]


def _settings(messages: int) -> str:
    size = len(next(bodies("ours", 1)))
    return f"{PROCESSES} processes x 4 threads, prefetch {PREFETCH}, {messages:,} of {size} B"


if __name__ == "__main__":
    sys.exit(main())
