"""Celery beat with RedBeat: its schedule and a lock are in a Redis of its own. Tasks go over the same RabbitMQ."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.bus_servers import Servers
from bench.jobs_environments import install, python_of
from bench.jobs_tools import Tool
from bench.report import NotMeasured
from embedded.free_port import free_port

REQUIREMENTS = ("celery>=5,<6", "celery-redbeat>=2.4,<3")
QUEUE = "redbeat"
APP = "bench.jobs_redbeat_app"


class RedBeat(Tool):
    name = "Celery + RedBeat"
    guarantees = "as Celery beat, with the schedule and a lock in Redis: a second beat stands by"

    def __init__(self, servers: Servers, folder: Path, jobs: Mapping[str, int]) -> None:
        super().__init__(servers, folder, jobs)
        self._port = free_port()

    @classmethod
    def install(cls) -> None:
        if shutil.which("redis-server") is None:
            raise NotMeasured("Celery + RedBeat needs redis-server (sudo apt-get install redis-server)")
        install("redbeat", REQUIREMENTS)

    def commands(self) -> Mapping[str, Sequence[str]]:
        celery = [str(python_of("redbeat")), "-m", "celery", "-A", APP]
        quiet = ("--loglevel=WARNING", "--without-gossip", "--without-mingle")
        return {
            "redis": ["redis-server", "--bind", "127.0.0.1", "--port", str(self._port), "--appendonly", "yes"],
            "worker": [*celery, "worker", *quiet, "-Q", QUEUE, "-n", f"{QUEUE}@%h"],
            "beat": [*celery, "beat", "--loglevel=WARNING", "-S", "redbeat.RedBeatScheduler", "--pidfile="],
        }

    def variables(self, name: str) -> Mapping[str, str]:  # noqa: ARG002 - all need the same
        return {"BENCH_BROKER_URL": self.servers.url, "BENCH_REDIS_URL": f"redis://127.0.0.1:{self._port}/0"}

    def scheduler(self, turn: int) -> int:  # noqa: ARG002 - there is one only
        return self.pid("beat")
