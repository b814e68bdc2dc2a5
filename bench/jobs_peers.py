"""The lateness, CPU and memory of jobs that are due each second, ours and the other engines in turn.

Lateness is measured from the slot to the moment that the job itself notes, in the process that runs it. CPU is that of
the engine's own processes in the window, for each run, and memory is theirs at its end, without the servers'. cron's
jobs are due each minute.
"""

from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import NamedTuple

from bench.bus_latency import Latency, percentiles
from bench.bus_servers import CELERY, Servers, running_servers
from bench.jobs_beside import Comparison
from bench.jobs_notes import lateness, named
from bench.jobs_replicas import Replicas
from bench.jobs_tools import Tool, next_window, sleep_until, sleep_until_over
from bench.report import NotMeasured, Row, comparison

JOBS = 20
PATIENCE_SECONDS = 3.0
FEWEST = JOBS


class Measured(NamedTuple):
    """Memory in MB and milliseconds of CPU for each run."""

    late: Latency
    memory: float
    cpu: float


def measure(beside: Comparison, *, runs: int, seconds: int) -> Sequence[Row]:
    """Measure ``runs`` windows of each engine, in turn. Fill in ``beside``, and return rows beside each engine."""
    rounds: dict[type[Tool], list[Measured]] = {tool: [] for tool in beside.installed()}
    with running_servers() as servers, TemporaryDirectory(prefix="paperprofit-bench-") as folder:
        folders = (Path(folder) / f"jobs_{number}" for number in count())
        for _ in range(runs):
            for tool in list(rounds):
                try:
                    rounds[tool].append(_window(tool, servers, folders, seconds))
                except NotMeasured as error:
                    if tool is Replicas:
                        raise
                    beside.why[tool.name] = str(error)
                    del rounds[tool]
    for tool, measured in rounds.items():
        found = beside[tool]
        found.late = Latency(*(median(each.late[place] for each in measured) for place in (0, 1)))
        found.memory, found.cpu = median(each.memory for each in measured), median(each.cpu for each in measured)
    ours = rounds.pop(Replicas)
    return [row for tool, measured in rounds.items() for row in _rows(tool, ours, measured)]


def _window(tool: type[Tool], servers: Servers, folders: Iterator[Path], seconds: int) -> Measured:
    seconds = max(seconds, tool.shortest)
    print(f"peers: {tool.name}, {seconds} s", flush=True)
    servers.purge(CELERY)
    taking = tool(servers, next(folders), named({tool.shortest: JOBS}))
    with taking.running():
        window = next_window(seconds, tool.shortest)
        sleep_until(window.begin - 0.5)
        before = taking.use()
        sleep_until_over(taking, window, PATIENCE_SECONDS)
        after = taking.use()
    late = lateness(taking.notes(), window)
    if len(late) < FEWEST:
        raise NotMeasured(f"{tool.name} began {len(late)} times in {seconds} s, too few for a percentile")
    return Measured(percentiles(late), after.memory / 1e6, 1000 * (after.cpu - before.cpu) / len(late))


def _rows(tool: type[Tool], ours: Sequence[Measured], theirs: Sequence[Measured]) -> Sequence[Row]:
    name = f"from slot to begin, beside {tool.name}; {JOBS} jobs each {'minute' if tool.shortest > 1 else 'second'}"
    pairs = list(zip(ours, theirs, strict=True))
    return [
        comparison(f"p50 {name}", "ms", [(our.late.p50, other.late.p50) for our, other in pairs]),
        comparison(f"p99 {name}", "ms", [(our.late.p99, other.late.p99) for our, other in pairs]),
    ]
