"""The job engine: lateness and cost of runs, a comparison, and the slots lost when schedulers are killed.

lateness  500 jobs on two replicas as they are deployed
cost      a run that does nothing, beside its bare rows
status    the status of all jobs over HTTP
peers     jobs of every second: Celery beat, RedBeat, APScheduler, procrastinate, cron and FastAPI in turn with ours
kills     missed and doubled slots while schedulers are killed, all side by side

The last two also print one table of all engines, with their guarantees. The other engines are installed from PyPI into
``bench/out`` on first use.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from bench import jobs_cost, jobs_kills, jobs_lateness, jobs_peers, jobs_status
from bench.bus_servers import quiet_logs
from bench.jobs_beside import Comparison
from bench.report import Row, run_benchmark


@dataclass(frozen=True)
class Sizes:
    """The size of a measurement: ``runs`` windows of ``lateness`` and ``peers`` seconds, and ``rounds`` of the cost."""

    runs: int
    lateness: int
    peers: int
    rounds: int
    minutes: int


USUAL = Sizes(runs=3, lateness=60, peers=20, rounds=20, minutes=10)
QUICK = Sizes(runs=1, lateness=20, peers=10, rounds=3, minutes=2)


def main() -> int:
    arguments = _parser().parse_args()
    sizes: Sizes = QUICK if arguments.quick else USUAL
    beside = Comparison()
    measures = _measures(sizes, beside)
    only: str | None = arguments.only
    quiet_logs()
    code = run_benchmark("jobs", measures.values()) if only is None else run_benchmark(f"jobs-{only}", [measures[only]])
    if only in {None, "peers", "kills"}:
        beside.publish()
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.bench_jobs", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="short runs of each; the kills for two minutes")
    parser.add_argument("--only", metavar="ROW", choices=_measures(QUICK, Comparison()), help="one of the rows above")
    return parser


def _measures(sizes: Sizes, beside: Comparison) -> dict[str, Callable[[], Sequence[Row]]]:
    return {
        "lateness": partial(jobs_lateness.measure, runs=sizes.runs, seconds=sizes.lateness),
        "cost": partial(jobs_cost.measure, runs=sizes.rounds),
        "status": _status,
        "peers": partial(jobs_peers.measure, beside, runs=sizes.runs, seconds=sizes.peers),
        "kills": partial(jobs_kills.measure, beside, minutes=sizes.minutes),
    }


def _status() -> Sequence[Row]:
    print("status: filling its tables", flush=True)
    return jobs_status.measure()


if __name__ == "__main__":
    sys.exit(main())
