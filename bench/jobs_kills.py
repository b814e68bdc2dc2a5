"""Missed and doubled slots while the scheduler is killed once a minute, ours and the other engines side by side.

All run at once on the same servers and are killed at the same moments, once a minute by a seed. A killed process is
started again at once. Ours loses the scheduler fork of one replica, in turn. The replica ends itself when its worker
has missed the fork for 10 s, and is started again as a whole. Celery loses beat, and each other engine its only
process. Each is configured to miss nothing, as far as it can be: ours by ``misfire = "run_all"``, APScheduler by
running missed slots without coalescing, beat by saving each send, RedBeat by a lock that ends after 5 seconds.

A slot is missed if no run began for it, and doubled if more than one did. Our engine says which slot a run is for, even
if it begins late, so the lateness is reported too, and so does procrastinate. For the others the slot is the interval
in which the run began.
"""

import random
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from bench.bus_servers import running_servers
from bench.jobs_beside import Comparison
from bench.jobs_notes import Window, lateness, named, tally
from bench.jobs_replicas import Replicas
from bench.jobs_tools import Tool, next_window, sleep_until_over
from bench.report import Goal, Row, figure

INTERVAL, COUNT = 5, 10
SEED = 1
MINUTE = 60
LOOK_SECONDS = 0.1
#: A replica that lost its scheduler late in the last minute is back by then.
PATIENCE_SECONDS = 60.0


def measure(beside: Comparison, *, minutes: int) -> Sequence[Row]:
    """Fill in ``beside``, and return rows for each engine."""
    installed = beside.installed()
    with running_servers() as servers, TemporaryDirectory(prefix="paperprofit-bench-") as name, ExitStack() as stack:
        folder = Path(name)
        ours = Replicas(servers, folder / "ours", named({INTERVAL: COUNT}), misfire="run_all")
        others = [
            tool(servers, folder / f"tool_{number}", named({max(INTERVAL, tool.shortest): COUNT}))
            for number, tool in enumerate(installed)
            if tool is not Replicas
        ]
        tools = [ours, *others]
        for tool in tools:
            stack.enter_context(tool.running())
        window = next_window(minutes * MINUTE, MINUTE)
        _kill_once_a_minute(tools, window)
        sleep_until_over(ours, window, PATIENCE_SECONDS)
        for tool in tools:
            beside[tool].kills = tally(tool.notes(), tool.jobs, window)
        late = figure("latest begin after its slot meanwhile; ours", "ms", [max(lateness(ours.notes(), window))])
        return [*(row for tool in tools for row in _rows(tool, window)), late]


def _kill_once_a_minute(tools: Sequence[Tool], window: Window) -> None:
    moments = random.Random(SEED)
    for turn, minute in enumerate(range(window.begin, window.end, MINUTE)):
        moment = minute + moments.uniform(0, MINUTE)
        _look_after(tools, moment)
        print(f"kills: {turn + 1} of {(window.end - window.begin) // MINUTE}", flush=True)
        for tool in tools:
            tool.kill_scheduler(turn)
    _look_after(tools, window.end)


def _look_after(tools: Sequence[Tool], until: float) -> None:
    """Restart processes that have ended, until then."""
    while (left := until - time.time()) > 0:
        time.sleep(min(left, LOOK_SECONDS))
        for tool in tools:
            tool.revive()


def _rows(tool: Tool, window: Window) -> Sequence[Row]:
    notes = tool.notes()
    found = tally(notes, tool.jobs, window)
    goal = Goal("max", "<=", 0) if isinstance(tool, Replicas) else None
    name = f"{tool.name}, scheduler killed once a minute for {(window.end - window.begin) // MINUTE} minutes"
    return [
        figure(f"slots missed, of {found.due:,}; {name}", "slots", [found.missed], goal),
        figure(f"slots doubled, of {found.due:,}; {name}", "slots", [found.doubled], goal),
    ]
