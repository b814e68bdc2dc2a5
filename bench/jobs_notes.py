"""The jobs of this benchmark, which only note that they begin, and the reading of these notes slot by slot.

A job's slots are the multiples of its interval since 1970, for every engine. Only the standard library is imported
here, since Celery and APScheduler import this module into environments of their own.
"""

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

#: The variables by which a process knows where to note, each job's interval, and of ours the setting ``misfire``.
FOLDER, JOBS, MISFIRE = "BENCH_NOTES", "BENCH_JOBS", "BENCH_MISFIRE"
UNKNOWN = "-"


def note(job: str, slot: float | None = None) -> None:
    """Write a line to this process's file: the job begins now, for this slot if its engine knows it."""
    told = UNKNOWN if slot is None else int(slot)
    with Path(os.environ[FOLDER], f"notes.{os.getpid()}").open("ab", buffering=0) as file:
        file.write(f"{job} {told} {time.time()}\n".encode())


def jobs_of_environment() -> dict[str, int]:
    """Read the interval in seconds of each job that this process runs, by name."""
    jobs: dict[str, int] = json.loads(os.environ[JOBS])
    return jobs


def named(mix: Mapping[int, int]) -> dict[str, int]:
    """Name the jobs, and return their intervals in seconds. ``mix`` is the number of jobs of each interval."""
    return {f"every_{seconds}s_{n}": seconds for seconds, count in mix.items() for n in range(count)}


@dataclass(frozen=True)
class Note:
    """``slot`` comes from the engine, or is the last one before the run began. Both times are in seconds since 1970."""

    job: str
    slot: int
    begun: float


def read_notes(folder: Path, jobs: Mapping[str, int]) -> list[Note]:
    """Read all notes so far."""
    lines = (line.split() for file in folder.glob("notes.*") for line in file.read_text().splitlines())
    return [_note(job, slot, float(begun), jobs[job]) for job, slot, begun in lines]


def _note(job: str, slot: str, begun: float, interval: int) -> Note:
    return Note(job, int(begun) // interval * interval if slot == UNKNOWN else int(slot), begun)


class Window(NamedTuple):
    """Whole seconds since 1970. A slot at the begin belongs to the window, one at the end does not."""

    begin: int
    end: int

    def holds(self, each: Note) -> bool:
        return self.begin <= each.slot < self.end

    def due(self, jobs: Mapping[str, int]) -> list[tuple[str, int]]:
        """List every slot of every job."""
        return [
            (job, slot)
            for job, every in jobs.items()
            for slot in range(-(-self.begin // every) * every, self.end, every)
        ]


class Tally(NamedTuple):
    """The number of due slots, of missed slots, and of doubled slots."""

    due: int
    missed: int
    doubled: int


def tally(notes: Iterable[Note], jobs: Mapping[str, int], window: Window) -> Tally:
    begun = Counter((each.job, each.slot) for each in notes)
    due = window.due(jobs)
    return Tally(len(due), sum(begun[slot] == 0 for slot in due), sum(begun[slot] > 1 for slot in due))


def lateness(notes: Iterable[Note], window: Window) -> list[float]:
    """Return the milliseconds from the slot to the begin."""
    return [1000 * (each.begun - each.slot) for each in notes if window.holds(each)]


def wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    """Tell whether the condition came true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True
