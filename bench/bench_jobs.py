"""The job engine: lateness and cost of runs, a comparison, and the slots lost when schedulers are killed.

lateness  500 jobs on two replicas as they are deployed
cost      a run that does nothing, beside its bare rows
status    the status of all jobs over HTTP
peers     jobs of every second, beside Celery beat and APScheduler in turn
kills     missed and doubled slots while schedulers are killed, the three side by side

Celery and APScheduler are installed into ``bench/out`` on first use.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from bench import jobs_cost, jobs_kills, jobs_lateness, jobs_peers, jobs_status
from bench.bus_servers import quiet_logs
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
    measures = _measures(sizes)
    only: str | None = arguments.only
    quiet_logs()
    if only is None:
        return run_benchmark("jobs", measures.values())
    return run_benchmark(f"jobs-{only}", [measures[only]])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench.bench_jobs", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="short runs of each; the kills for two minutes")
    parser.add_argument("--only", metavar="ROW", choices=_measures(QUICK), help="one of the rows above")
    return parser


def _measures(sizes: Sizes) -> dict[str, Callable[[], Sequence[Row]]]:
    return {
        "lateness": partial(jobs_lateness.measure, runs=sizes.runs, seconds=sizes.lateness),
        "cost": partial(jobs_cost.measure, runs=sizes.rounds),
        "status": _status,
        "peers": partial(jobs_peers.measure, runs=sizes.runs, seconds=sizes.peers),
        "kills": partial(jobs_kills.measure, minutes=sizes.minutes),
    }


def _status() -> Sequence[Row]:
    print("status: filling its tables", flush=True)
    return jobs_status.measure()


if __name__ == "__main__":
    sys.exit(main())
