"""The engines of jobs side by side, as one table: guarantees, lateness, slots under kills, memory and CPU.

The measurements ``peers`` and ``kills`` fill it in. A figure that was not measured is a dash.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from textwrap import wrap

from bench.bus_latency import Latency
from bench.jobs_apscheduler import APScheduler
from bench.jobs_celery import Celery
from bench.jobs_cron import Cron
from bench.jobs_fastapi import FastAPI
from bench.jobs_notes import Tally
from bench.jobs_procrastinate import Procrastinate
from bench.jobs_redbeat import RedBeat
from bench.jobs_replicas import Replicas
from bench.jobs_tools import Tool
from bench.report import OUT, NotMeasured

#: Ours first.
TOOLS: Sequence[type[Tool]] = (Replicas, Celery, RedBeat, APScheduler, Procrastinate, Cron, FastAPI)
HEADINGS = ("", "p50 late", "p99 late", "missed", "doubled", "memory", "CPU a run", "guarantees")
WIDTHS = (26, 11, 11, 14, 10, 10, 12)
GUARANTEES_WIDTH = 60


@dataclass
class Beside:
    """The figures of one engine. ``memory`` is in MB and ``cpu`` in milliseconds of CPU for each run."""

    tool: type[Tool]
    late: Latency | None = None
    memory: float | None = None
    cpu: float | None = None
    kills: Tally | None = None


@dataclass
class Comparison:
    """``why`` tells for an engine that could not be measured what was missing."""

    engines: dict[str, Beside] = field(default_factory=lambda: {tool.name: Beside(tool) for tool in TOOLS})
    why: dict[str, str] = field(default_factory=dict)

    def __getitem__(self, tool: Tool | type[Tool]) -> Beside:
        return self.engines[tool.name]

    def installed(self) -> list[type[Tool]]:
        """Install what is missing, and return the engines that can run. Ours and Celery have to."""
        found = []
        for tool in TOOLS:
            try:
                tool.install()
            except NotMeasured as error:
                self.why[tool.name] = str(error)
            else:
                found.append(tool)
        return found

    def publish(self) -> None:
        """Print the table and write it to ``bench/out/jobs-beside.json``."""
        print()
        for line in table(self.engines.values()):
            print(line)
        for name, reason in self.why.items():
            print(f"not measured: {name}: {reason}")
        path = OUT / "jobs-beside.json"
        path.write_text(json.dumps([_written(each) for each in self.engines.values()], indent=2) + "\n")
        print(f"\nwritten to {path}", flush=True)


def table(engines: Iterable[Beside]) -> list[str]:
    lines = [_line(HEADINGS)]
    for each in engines:
        first, *more = wrap(each.tool.guarantees, GUARANTEES_WIDTH)
        lines.append(_line((*_cells(each), first)))
        lines += [" " * sum(WIDTHS) + line for line in more]
    return lines


def _line(cells: Sequence[str]) -> str:
    return "".join(cell.ljust(width) for cell, width in zip(cells, WIDTHS, strict=False)) + cells[-1]


def _cells(each: Beside) -> tuple[str, ...]:
    late, kills = each.late, each.kills
    return (
        each.tool.name,
        f"{late.p50:,.0f} ms" if late else "-",
        f"{late.p99:,.0f} ms" if late else "-",
        f"{kills.missed:,} of {kills.due:,}" if kills else "-",
        f"{kills.doubled:,}" if kills else "-",
        "-" if each.memory is None else f"{each.memory:,.0f} MB",
        "-" if each.cpu is None else f"{each.cpu:.1f} ms",
    )


def _written(each: Beside) -> dict[str, object]:
    return {**asdict(each), "tool": each.tool.name, "guarantees": each.tool.guarantees}
