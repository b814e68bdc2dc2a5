"""FastAPI: background tasks in the one process of an application, which a loop for each job starts."""

from collections.abc import Mapping, Sequence

from bench.jobs_environments import install, python_of
from bench.jobs_tools import Tool
from embedded.free_port import free_port

REQUIREMENTS = ("fastapi>=0.115", "uvicorn>=0.30")


class FastAPI(Tool):
    name = "FastAPI background tasks"
    guarantees = "none: tasks and slots are in the memory of one process; a second process runs all again"

    @classmethod
    def install(cls) -> None:
        install("fastapi", REQUIREMENTS)

    def commands(self) -> Mapping[str, Sequence[str]]:
        uvicorn = [str(python_of("fastapi")), "-m", "uvicorn", "bench.jobs_fastapi_app:app", "--host", "127.0.0.1"]
        return {"app": [*uvicorn, "--port", str(free_port()), "--log-level", "warning"]}

    def variables(self, name: str) -> Mapping[str, str]:  # noqa: ARG002 - there is one only
        return {}

    def scheduler(self, turn: int) -> int:  # noqa: ARG002 - there is one only
        return self.pid("app")
