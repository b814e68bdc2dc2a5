"""Celery: one beat, and one worker with a process for each core, on the same RabbitMQ.

With ``relative=True`` beat starts at whole seconds, and longer intervals at any of their seconds. A task is
acknowledged before it runs, which is Celery's default.
"""

from collections.abc import Mapping, Sequence

from bench.bus_consume import CELERY_ENVIRONMENT, install_celery
from bench.bus_servers import CELERY
from bench.jobs_tools import Tool

APP = "bench.jobs_celery_app"


class Celery(Tool):
    name = "Celery beat"
    guarantees = (
        "a due task is sent at most once, acknowledged before it runs and lost with its worker; two beats send twice"
    )

    @classmethod
    def install(cls) -> None:
        install_celery()

    def commands(self) -> Mapping[str, Sequence[str]]:
        celery = [str(CELERY_ENVIRONMENT / "bin" / "celery"), "-A", APP]
        state = str(self.folder / "schedule")
        return {
            "worker": [*celery, "worker", "--loglevel=WARNING", "--without-gossip", "--without-mingle", "-Q", CELERY],
            "beat": [*celery, "beat", "--loglevel=WARNING", "--schedule", state, "--pidfile="],
        }

    def variables(self, name: str) -> Mapping[str, str]:  # noqa: ARG002 - both need the same
        return {"BENCH_BROKER_URL": self.servers.url}

    def scheduler(self, turn: int) -> int:  # noqa: ARG002 - there is one only
        return self.pid("beat")
