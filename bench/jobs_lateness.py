"""The lateness of many jobs' runs with mixed intervals, on two replicas as they are deployed."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy import text

from bench.bus_latency import Latency, percentiles
from bench.bus_servers import Servers, running_servers
from bench.jobs_notes import Tally, Window, named, tally
from bench.jobs_replicas import Replicas
from bench.jobs_tools import next_window, sleep_until_over
from bench.report import Goal, NotMeasured, Row, figure

#: Ten jobs of each interval.
MIX = dict.fromkeys(range(9, 59), 10)
#: How long after its window a run may begin and is still waited for.
PATIENCE_SECONDS = 20.0


def measure(*, runs: int, seconds: int) -> Sequence[Row]:
    """Measure ``runs`` windows of some seconds, one after the other on the same replicas."""
    jobs = named(MIX)
    with running_servers() as servers, TemporaryDirectory(prefix="paperprofit-bench-") as folder:
        tool = Replicas(servers, Path(folder) / "ours", jobs)
        with tool.running():
            windows = [_window(tool, seconds, run + 1, runs) for run in range(runs)]
        late = [_begun_late(servers, window) for window in windows]
        tallies = [tally(tool.notes(), jobs, window) for window in windows]
    name = f"{len(jobs)} jobs of {min(MIX)} s to {max(MIX)} s, 2 replicas, {seconds} s"
    return [*_lateness_rows(name, late, tallies), *_due_rows(name, jobs, windows)]


def _window(tool: Replicas, seconds: int, run: int, runs: int) -> Window:
    print(f"lateness: {run} of {runs}, {seconds} s", flush=True)
    window = next_window(seconds)
    sleep_until_over(tool, window, PATIENCE_SECONDS)
    return window


def _begun_late(servers: Servers, window: Window) -> Latency:
    """Return the milliseconds from ``scheduled_for`` to ``started_at``, as the engine saved them."""
    between = {"begin": datetime.fromtimestamp(window.begin, UTC), "end": datetime.fromtimestamp(window.end, UTC)}
    with servers.engine("orders") as engine, engine.connect() as connection:
        late = [float(row.late) for row in connection.execute(_LATE, between)]
    if not late:
        raise NotMeasured("no run began")
    return percentiles(late)


_LATE = text("""
SELECT extract(epoch FROM started_at - scheduled_for) * 1000 AS late FROM jobs.job_runs
WHERE trigger = 'schedule' AND started_at IS NOT NULL AND scheduled_for >= :begin AND scheduled_for < :end
""")


def _lateness_rows(name: str, late: Sequence[Latency], tallies: Sequence[Tally]) -> Sequence[Row]:
    due = sum(each.due for each in tallies)
    return [
        figure(f"p50 from slot to begin; {name}", "ms", [each.p50 for each in late]),
        figure(f"p99 from slot to begin; {name}", "ms", [each.p99 for each in late], Goal("ours", "<=", 250)),
        figure(f"slots missed, of {due:,} in all; {name}", "slots", [t.missed for t in tallies], Goal("max", "<=", 0)),
        figure(f"slots doubled; {name}", "slots", [t.doubled for t in tallies], Goal("max", "<=", 0)),
    ]


def _due_rows(name: str, jobs: dict[str, int], windows: Sequence[Window]) -> Sequence[Row]:
    seconds = [Counter(slot for _, slot in window.due(jobs)) for window in windows]
    on_average = [each.total() / (window.end - window.begin) for each, window in zip(seconds, windows, strict=True)]
    return [
        figure(f"due in a second, on average; {name}", "slots", on_average),
        figure(f"due in a second, at most; {name}", "slots", [max(each.values()) for each in seconds]),
    ]
