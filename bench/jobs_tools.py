"""A tool that runs jobs: its processes, each restarted as soon as it has ended, and the jobs' notes."""

import json
import math
import os
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.bus_servers import Servers
from bench.jobs_notes import FOLDER, JOBS, Note, Window, read_notes, tally, wait_for
from bench.report import NotMeasured

ROOT = Path(__file__).parents[1]
START_SECONDS = 90.0
STOP_SECONDS = 30.0
LAST_LINES = 5


class Tool(ABC):
    """``jobs`` are names and intervals in seconds. All files are written below ``folder``."""

    name: str
    #: Its promises about slots and runs, in short.
    guarantees: str
    #: The shortest interval in seconds that it knows.
    shortest = 1

    @classmethod
    @abstractmethod
    def install(cls) -> None:
        """Make its environment where it is missing. Raises NotMeasured if it cannot be had on this machine."""

    def __init__(self, servers: Servers, folder: Path, jobs: Mapping[str, int]) -> None:
        self.servers, self.folder, self.jobs = servers, folder, jobs
        self._starts = 0
        self._run_folders: dict[str, Path] = {}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        folder.mkdir()

    @abstractmethod
    def commands(self) -> Mapping[str, Sequence[str]]:
        """Return the commands of its processes, by their names."""

    @abstractmethod
    def variables(self, name: str) -> Mapping[str, str]:
        """Return the environment variables of a process, besides the jobs."""

    @abstractmethod
    def scheduler(self, turn: int) -> int:
        """Return the process to kill at this turn, counted from 0."""

    def ready(self) -> bool:
        """Tell whether all processes have started. The caller also waits for the jobs' first notes."""
        return True

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run it with all its processes up, once each job has begun."""
        started = time.time()
        try:
            self.revive()
            if not wait_for(lambda: self.ready() and self._all_began_since(started), START_SECONDS):
                raise NotMeasured(f"{self.name} did not run all jobs within {START_SECONDS:g} s; {self._last_lines()}")
            yield
        finally:
            self._stop()

    def _all_began_since(self, moment: float) -> bool:
        return {each.job for each in self.notes() if each.begun >= moment} == set(self.jobs)

    def _last_lines(self) -> str:
        lines = (self.folder / "log").read_text(errors="replace").splitlines()[-LAST_LINES:]
        return "it wrote: " + " | ".join(lines) if lines else "it wrote nothing"

    def notes(self) -> list[Note]:
        return read_notes(self.folder, self.jobs)

    def kill_scheduler(self, turn: int) -> None:
        """Kill the scheduler by SIGKILL. ``revive`` restarts the processes that end by it."""
        os.kill(self.scheduler(turn), signal.SIGKILL)

    def revive(self) -> None:
        """Start the processes that have not started or have ended, as an orchestrator would."""
        for name, command in self.commands().items():
            process = self._processes.get(name)
            if process is None or process.poll() is not None:
                self._processes[name] = self._start(name, command)

    def _start(self, name: str, command: Sequence[str]) -> "subprocess.Popen[bytes]":
        """Start a process in an empty folder of its own, without the files of a killed one."""
        self._starts += 1
        folder = self._run_folders[name] = self.folder / f"{name}-{self._starts}"
        folder.mkdir()
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            FOLDER: str(self.folder),
            JOBS: json.dumps(self.jobs),
            **self.variables(name),
        }
        with (self.folder / "log").open("ab") as log:
            return subprocess.Popen(
                command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True
            )

    def run_folder(self, name: str) -> Path:
        return self._run_folders[name]

    def pid(self, name: str) -> int:
        return self._processes[name].pid

    def use(self) -> "Use":
        """Return the CPU time that its processes have used so far, and the memory that they hold."""
        members = [psutil.Process(process.pid) for process in self._processes.values()]
        return _sum(each for member in members for each in (member, *member.children(recursive=True)))

    def _stop(self) -> None:
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._processes.clear()


@dataclass(frozen=True)
class Use:
    """CPU seconds, of ended children too, and the bytes of memory that no other process shares."""

    cpu: float
    memory: int


def _sum(processes: Iterable[psutil.Process]) -> Use:
    cpu, memory = 0.0, 0
    for process in processes:
        try:
            times = process.cpu_times()
            memory += process.memory_full_info().uss
        except psutil.NoSuchProcess:  # a run of cron that has ended, which its parent counts from then on
            continue
        cpu += times.user + times.system + times.children_user + times.children_system
    return Use(cpu, memory)


def next_window(seconds: int, multiple: int = 1) -> Window:
    """Return the next window of ``seconds`` that begins at a multiple of them, two seconds from now or later."""
    begin = math.ceil((time.time() + 1) / multiple) * multiple
    return Window(begin, begin + seconds)


def sleep_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.time()))


def sleep_until_over(tool: Tool, window: Window, patience: float) -> None:
    """Sleep to the window's end, and then until every slot in it has begun, at most some seconds longer."""
    sleep_until(window.end)
    wait_for(lambda: not tally(tool.notes(), tool.jobs, window).missed, patience)
