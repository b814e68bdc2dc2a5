"""procrastinate: one worker, which also defers the periodic tasks, on the same PostgreSQL."""

from collections.abc import Mapping, Sequence

from sqlalchemy import make_url

from bench.jobs_environments import install, python_of
from bench.jobs_tools import Tool

REQUIREMENTS = ("procrastinate>=3,<4", "psycopg[binary,pool]>=3")


class Procrastinate(Tool):
    name = "procrastinate"
    guarantees = (
        "a slot is deferred once, by a unique key; slots up to 10 minutes old are caught up; "
        "a run whose worker was killed stays 'doing' until the user's own code retries it"
    )

    @classmethod
    def install(cls) -> None:
        install("procrastinate", REQUIREMENTS)

    def commands(self) -> Mapping[str, Sequence[str]]:
        return {"worker": [str(python_of("procrastinate")), "-m", "bench.jobs_procrastinate_app"]}

    def variables(self, name: str) -> Mapping[str, str]:  # noqa: ARG002 - there is one only
        url = make_url(self.servers.database["orders"]).set(drivername="postgresql")
        return {"BENCH_DATABASE_URL": url.render_as_string(hide_password=False)}

    def scheduler(self, turn: int) -> int:  # noqa: ARG002 - there is one only
        return self.pid("worker")
