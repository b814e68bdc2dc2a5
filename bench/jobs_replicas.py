"""Ours: two replicas of a service, each with a worker process and a scheduler that dramatiq forks."""

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from urllib.error import URLError
from urllib.request import urlopen

import psutil

from bench.bus_servers import Servers
from bench.jobs_notes import MISFIRE
from bench.jobs_tools import ROOT, Tool
from bench.report import NotMeasured
from embedded.free_port import free_ports
from shared.observability.health import read_heartbeat

REPLICAS = ("a", "b")


class Replicas(Tool):
    """``misfire`` is the jobs' setting of that name."""

    name = "ours"
    guarantees = (
        "each slot runs once, or a row says why not; slots and runs outlive every process, RabbitMQ and PostgreSQL's "
        "crash; any number of replicas"
    )

    def __init__(self, servers: Servers, folder: Path, jobs: Mapping[str, int], misfire: str = "run_once") -> None:
        super().__init__(servers, folder, jobs)
        self._misfire = misfire
        self._ports = dict(zip(REPLICAS, free_ports(len(REPLICAS)), strict=True))

    @classmethod
    def install(cls) -> None:
        """Do nothing: ours is in the project's own environment."""

    def commands(self) -> Mapping[str, Sequence[str]]:
        return {replica: [sys.executable, "-m", "bench.jobs_service"] for replica in REPLICAS}

    def variables(self, name: str) -> Mapping[str, str]:
        return {
            MISFIRE: self._misfire,
            "PAPERPROFIT_DATABASE_URL": self.servers.database["orders"],
            "PAPERPROFIT_RABBITMQ_URL": self.servers.url,
            "PAPERPROFIT_JOBS_CONFIG": str(ROOT / "config" / "jobs.toml"),
            "PAPERPROFIT_HEALTH_PORT": str(self._ports[name]),
            "PAPERPROFIT_RUN_DIR": str(self.run_folder(name)),
        }

    def ready(self) -> bool:
        return all(map(_healthy, self._ports.values()))

    def scheduler(self, turn: int) -> int:
        """Return one of the replicas' forks in turn. A replica without its fork ends itself and is started again."""
        replica = REPLICAS[turn % len(REPLICAS)]
        pid = read_heartbeat(self.run_folder(replica) / "scheduler.json").get("pid")
        if pid not in {child.pid for child in psutil.Process(self.pid(replica)).children()}:
            raise NotMeasured(f"replica {replica} had no scheduler when it was to be killed")
        return int(pid)


def _healthy(port: int) -> bool:
    try:
        with urlopen(f"http://127.0.0.1:{port}/healthz", timeout=3):
            return True
    except (URLError, ConnectionError, TimeoutError):
        return False
