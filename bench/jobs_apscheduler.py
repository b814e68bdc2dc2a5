"""APScheduler 3: one process with a BackgroundScheduler, its jobs in a table of the same PostgreSQL."""

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.jobs_tools import Tool
from bench.report import OUT, NotMeasured

ENVIRONMENT = OUT / "apscheduler-venv"
REQUIREMENTS = ("apscheduler>=3.11,<4", "sqlalchemy>=2,<3", "psycopg[binary]>=3")


class APScheduler(Tool):
    name = "APScheduler"

    def commands(self) -> Mapping[str, Sequence[str]]:
        return {"scheduler": [str(_python()), "-m", "bench.jobs_apscheduler_app"]}

    def variables(self, name: str) -> Mapping[str, str]:  # noqa: ARG002 - there is one only
        return {"BENCH_DATABASE_URL": self.servers.database["orders"], "BENCH_TABLE": self.folder.name}

    def scheduler(self, turn: int) -> int:  # noqa: ARG002 - there is one only
        return self.pid("scheduler")


def install_apscheduler() -> None:
    """Install APScheduler into its own environment, so the project's libraries do not depend on it."""
    if any(ENVIRONMENT.glob("lib/*/site-packages/apscheduler")):
        return
    print(f"installing APScheduler 3 into {ENVIRONMENT}", flush=True)
    OUT.mkdir(exist_ok=True)
    pip = [str(_python()), "-m", "pip", "install", "--quiet", *REQUIREMENTS]
    for command in ([sys.executable, "-m", "venv", str(ENVIRONMENT)], pip):
        if subprocess.run(command, check=False).returncode:
            raise NotMeasured(f"APScheduler could not be installed: {' '.join(command)}")


def _python() -> Path:
    return ENVIRONMENT / "bin" / "python"
