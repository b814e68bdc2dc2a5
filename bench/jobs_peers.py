"""The lateness of jobs that are due each second, beside Celery beat and APScheduler, in turn.

It is measured from the whole second to the moment that the job itself notes, in the process that runs it.
"""

from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.bus_consume import install_celery
from bench.bus_latency import Latency, percentiles
from bench.bus_servers import CELERY, Servers, running_servers
from bench.jobs_apscheduler import APScheduler, install_apscheduler
from bench.jobs_celery import Celery
from bench.jobs_notes import lateness, named
from bench.jobs_replicas import Replicas
from bench.jobs_tools import Tool, next_window, sleep_until_over
from bench.report import NotMeasured, Row, comparison

MIX = {1: 20}
PATIENCE_SECONDS = 3.0
FEWEST = 100
TOOLS: Sequence[type[Tool]] = (Replicas, Celery, APScheduler)


def measure(*, runs: int, seconds: int) -> Sequence[Row]:
    install_celery()
    install_apscheduler()
    with running_servers() as servers, TemporaryDirectory(prefix="paperprofit-bench-") as folder:
        folders = (Path(folder) / f"jobs_{number}" for number in count())
        rounds = [[_late(tool, servers, folders, seconds) for tool in TOOLS] for _ in range(runs)]
    return [row for place, tool in enumerate(TOOLS) if place for row in _rows(tool.name, rounds, place, seconds)]


def _late(tool: type[Tool], servers: Servers, folders: Iterator[Path], seconds: int) -> Latency:
    print(f"peers: {tool.name}, {seconds} s", flush=True)
    servers.purge(CELERY)
    taking = tool(servers, next(folders), named(MIX))
    with taking.running():
        window = next_window(seconds)
        sleep_until_over(taking, window, PATIENCE_SECONDS)
    late = lateness(taking.notes(), window)
    if len(late) < FEWEST:
        raise NotMeasured(f"{tool.name} began {len(late)} times in {seconds} s, too few for a percentile")
    return percentiles(late)


def _rows(beside: str, rounds: Sequence[Sequence[Latency]], place: int, seconds: int) -> Sequence[Row]:
    name = f"from slot to begin, beside {beside}; {sum(MIX.values())} jobs each second for {seconds} s"
    return [
        comparison(f"p50 {name}", "ms", [(each[0].p50, each[place].p50) for each in rounds]),
        comparison(f"p99 {name}", "ms", [(each[0].p99, each[place].p99) for each in rounds]),
    ]
