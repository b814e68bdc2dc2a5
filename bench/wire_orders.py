"""The service orders in processes of its own, on the servers of the bus: started, watched and ended."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.error import URLError
from urllib.request import urlopen
from uuid import UUID

import psutil

from bench.bus_servers import Servers
from bench.orders_database import OrdersDatabase, prepare
from bench.orders_service import NOTES
from bench.report import NotMeasured
from embedded.free_port import free_port
from shared.storage.engine import make_engine
from shared.storage.migrate import ROOT

START_TIMEOUT = 60.0
STOP_TIMEOUT = 30.0
PAUSE = 0.02


@dataclass(frozen=True)
class Orders:
    """``workers`` are the processes that consume. The one with the scheduler is not among them."""

    notes: Path
    workers: Sequence[psutil.Process]

    def handled(self) -> dict[UUID, float]:
        """When each message was handled, so far."""
        lines = self.notes.read_text().splitlines() if self.notes.exists() else []
        return {UUID(id_): float(at) for id_, at in (line.split() for line in lines)}

    def wait_for(self, messages: Sequence[UUID], *, seconds: float) -> dict[UUID, float]:
        """When each of these was handled."""
        wanted = set(messages)
        wait_until(lambda: wanted <= self.handled().keys(), seconds, f"{len(wanted)} messages were not handled")
        handled = self.handled()
        return {id_: handled[id_] for id_ in messages}

    def cpu_seconds(self) -> float:
        return sum(cpu_seconds(worker) for worker in self.workers)

    def resident_mb(self) -> float:
        """The memory of the largest process."""
        return max(worker.memory_info().rss for worker in self.workers) / 2**20


def cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def wait_until(condition: Callable[[], bool], seconds: float, failure: str) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise NotMeasured(failure)
        time.sleep(PAUSE)


@contextmanager
def orders_running(servers: Servers) -> Iterator[Orders]:
    """One replica with its default settings, healthy, and its scheduler too."""
    with TemporaryDirectory(prefix="paperprofit-bench-") as name:
        folder = Path(name)
        notes, port = folder / "notes", free_port()
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "bench.orders_service"],
                cwd=ROOT,
                env=_environment(servers, folder, port) | {NOTES: str(notes)},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            _wait_healthy(process, port, folder / "log")
            yield Orders(notes, _workers(folder))
        finally:
            _end(process)


def _environment(servers: Servers, folder: Path, port: int) -> dict[str, str]:
    """Nothing that the caller may have set for a run of its own."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PAPERPROFIT_")}
    return inherited | {
        "TMPDIR": str(folder),
        "PAPERPROFIT_DATABASE_URL": servers.database["orders"],
        "PAPERPROFIT_RABBITMQ_URL": servers.url,
        "PAPERPROFIT_HEALTH_PORT": str(port),
    }


def _wait_healthy(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while not _answers(port):
        if process.poll() is not None or time.monotonic() > deadline:
            raise NotMeasured(f"orders did not get healthy; it wrote: {log.read_text()[-1000:]}")
        time.sleep(PAUSE)


def _answers(port: int) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{port}/healthz", timeout=3):
            return True
    except (URLError, ConnectionError, TimeoutError):
        return False


def _workers(folder: Path) -> list[psutil.Process]:
    """By the beats that they leave in the run's folder."""
    beats = folder.glob("paperprofit-orders-*/worker-*.json")
    return [psutil.Process(int(beat.stem.partition("-")[2])) for beat in beats]


def _end(process: "subprocess.Popen[bytes]") -> None:
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@contextmanager
def database_on(servers: Servers, symbols: int) -> Iterator[OrdersDatabase]:
    """A database on the database of these servers."""
    names = prepare(servers.database, symbols)
    engine = make_engine(servers.database["orders"], name="bench")
    yield OrdersDatabase(engine, names)
    engine.dispose()
