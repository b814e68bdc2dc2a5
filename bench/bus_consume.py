"""The rate at which two processes consume a full queue."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any, cast
from uuid import uuid4

import dramatiq

from bench.bus_pika import Settings
from bench.bus_servers import CELERY, LOW_ELSEWHERE, OURS, RAW, STOCK, Servers, cancel
from bench.report import OUT, NotMeasured
from shared.bus.envelope import encode

PROCESSES = 2
PREFETCH = 500
#: The first tenth of the messages is warm-up.
WARM_UP = 0.1
STOP_TIMEOUT = 30.0
QUEUE_OF = {
    "raw": RAW,
    "raw-insert": RAW,
    "raw-fill": RAW,
    "raw-rows": RAW,
    "stock": STOCK,
    "ours": OURS,
    "ours-inbox": OURS,
    "ours-pools": OURS,
    "low": LOW_ELSEWHERE,
}
ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Consuming:
    """The consuming side: one of ``bus_worker.KINDS`` on so many threads of each process."""

    servers: Servers
    kind: str
    threads: int = 4
    prefetch: int = PREFETCH

    @property
    def queue(self) -> str:
        return QUEUE_OF[self.kind]

    def rate(self, messages: int) -> float:
        """Messages per second. All of them wait in the queue beforehand."""
        self.servers.fill(self.queue, bodies(self.kind, messages))
        with self.running(PROCESSES) as workers:
            self.servers.wait_until_empty(self.queue)
            handled = handled_by(workers)
        if len({number for _, number in handled}) != messages:
            raise NotMeasured(f"{self.kind} did not handle each of {messages} messages")
        return rate_of(self.kind, sorted(at for at, _ in handled), messages)

    @contextmanager
    def running(self, processes: int) -> "Iterator[list[subprocess.Popen[str]]]":
        """The processes, all of them ready before the first begins."""
        with tempfile.TemporaryDirectory() as metrics:
            workers = [self._launch(metrics) for _ in range(processes)]
            try:
                for worker in workers:
                    _expect_ready(self.kind, worker)
                for worker in workers:
                    _tell(worker)
                yield workers
            finally:
                for worker in workers:
                    worker.kill()
                    worker.communicate()

    def _launch(self, metrics: str) -> "subprocess.Popen[str]":
        """Start a process that counts for Prometheus into files, as deployed."""
        settings = Settings(self.servers.url, self.servers.database["orders"], self.threads, self.prefetch)
        variables = {"dramatiq_queue_prefetch": str(self.prefetch), "PROMETHEUS_MULTIPROC_DIR": metrics}
        command = [sys.executable, "-m", "bench.bus_worker", self.kind, json.dumps(asdict(settings))]
        pipe = subprocess.PIPE
        return subprocess.Popen(command, cwd=ROOT, env={**os.environ, **variables}, stdin=pipe, stdout=pipe, text=True)


def _expect_ready(kind: str, worker: "subprocess.Popen[str]") -> None:
    if cast("IO[str]", worker.stdout).readline().strip() != "ready":
        raise NotMeasured(f"a process of {kind} did not start")


def _tell(worker: "subprocess.Popen[str]") -> None:
    stdin = cast("IO[str]", worker.stdin)
    stdin.write("\n")
    stdin.flush()


def handled_by(workers: "Sequence[subprocess.Popen[str]]") -> list[tuple[float, int]]:
    """End the processes; for each message the time at which its handler began, and its number."""
    handled: list[tuple[float, int]] = []
    for worker in workers:
        try:
            output, _ = worker.communicate("\n", timeout=STOP_TIMEOUT)
            handled += [(at, number) for at, number in json.loads(output)]
        except (subprocess.TimeoutExpired, ValueError) as error:
            raise NotMeasured(f"a consuming process did not end well: {error}") from None
    return handled


def rate_of(kind: str, stamps: Sequence[float], messages: int) -> float:
    if len(stamps) != messages:
        raise NotMeasured(f"{kind} handled {len(stamps)} of {messages} messages")
    first = int(messages * WARM_UP)
    return (messages - 1 - first) / (stamps[-1] - stamps[first])


def bodies(kind: str, messages: int) -> Iterator[bytes]:
    """The same command in the envelope that its consumer reads."""
    for number in range(messages):
        yield _stock_body(number) if kind == "stock" else encode(cancel(number)).body


def _stock_body(number: int) -> bytes:
    message: dramatiq.Message[None] = dramatiq.Message(STOCK, "note", (), cancel(number).payload(), {}, str(uuid4()))
    return message.encode()


CELERY_ENVIRONMENT = OUT / "celery-venv"


def install_celery() -> None:
    """Install Celery into an environment of its own, so that the project's libraries do not depend on it."""
    if (CELERY_ENVIRONMENT / "bin" / "celery").exists():
        return
    print(f"installing Celery 5 into {CELERY_ENVIRONMENT}", flush=True)
    OUT.mkdir(exist_ok=True)
    pip = [str(CELERY_ENVIRONMENT / "bin" / "python"), "-m", "pip", "install", "--quiet", "celery>=5,<6"]
    for command in ([sys.executable, "-m", "venv", str(CELERY_ENVIRONMENT)], pip):
        if subprocess.run(command, check=False).returncode:
            raise NotMeasured(f"Celery could not be installed: {' '.join(command)}")


def celery_rate(servers: Servers, messages: int) -> float:
    install_celery()
    _fill_celery(servers, messages)
    with tempfile.TemporaryDirectory() as folder:
        with _celery_running(servers, Path(folder)):
            servers.wait_until_empty(CELERY)
        files = Path(folder).glob("stamps.*")
        stamps = sorted(float(line) for file in files for line in file.read_text().split())
    return rate_of(CELERY, stamps, messages)


def _fill_celery(servers: Servers, messages: int) -> None:
    """Fill Celery's queue by its protocol 2. All messages share one id, which nothing reads."""
    task_id = str(uuid4())
    headers: dict[str, Any] = {"lang": "py", "task": "note", "id": task_id, "root_id": task_id, "parent_id": None}
    servers.fill(CELERY, _celery_bodies(messages), headers)


def _celery_bodies(messages: int) -> Iterable[bytes]:
    embed = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}
    return (json.dumps([[], cancel(number).payload(), embed]).encode() for number in range(messages))


@contextmanager
def _celery_running(servers: Servers, folder: Path) -> Iterator[None]:
    variables = {
        "BENCH_BROKER_URL": servers.url,
        "BENCH_STAMPS": str(folder / "stamps"),
        "BENCH_PREFETCH_PER_CHILD": str(PREFETCH // PROCESSES),
    }
    quiet = ["--loglevel=ERROR", "--without-gossip", "--without-mingle", "--without-heartbeat"]
    pool = ["--pool=prefork", f"--concurrency={PROCESSES}", "-O", "fair"]
    command = [str(CELERY_ENVIRONMENT / "bin" / "celery"), "-A", "bus_celery_app", "worker", *pool, *quiet]
    environment = {**os.environ, **variables, "PYTHONPATH": str(Path(__file__).parent)}
    with (folder / "log").open("wb") as log:
        worker = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
    try:
        yield
    finally:
        worker.terminate()
        try:
            worker.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()
