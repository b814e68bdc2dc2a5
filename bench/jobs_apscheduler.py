"""APScheduler 3: one process with a BackgroundScheduler, its jobs in a table of the same PostgreSQL."""

from collections.abc import Mapping, Sequence

from bench.jobs_environments import install, python_of
from bench.jobs_tools import Tool

REQUIREMENTS = ("apscheduler>=3.11,<4", "sqlalchemy>=2,<3", "psycopg[binary]>=3")


class APScheduler(Tool):
    name = "APScheduler 3"
    guarantees = (
        "missed slots run within a grace time that is set; a run is lost with its process; "
        "two schedulers on one store run twice"
    )

    @classmethod
    def install(cls) -> None:
        install("apscheduler", REQUIREMENTS)

    def commands(self) -> Mapping[str, Sequence[str]]:
        return {"scheduler": [str(python_of("apscheduler")), "-m", "bench.jobs_apscheduler_app"]}

    def variables(self, name: str) -> Mapping[str, str]:  # noqa: ARG002 - there is one only
        return {"BENCH_DATABASE_URL": self.servers.database["orders"], "BENCH_TABLE": self.folder.name}

    def scheduler(self, turn: int) -> int:  # noqa: ARG002 - there is one only
        return self.pid("scheduler")
