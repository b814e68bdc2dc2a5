"""A service whose jobs only note that they begin, deployed like any other: ``python -m bench.jobs_service``.

It is named orders and has its actors, since queues, rights and schemas are those of the known services.
"""

import os
import sys
from collections.abc import Callable
from functools import partial

from bench.jobs_notes import MISFIRE, jobs_of_environment, note
from services.orders.actors import actors
from shared import worker as process
from shared.contracts.routing import worker_pools_of
from shared.jobs.declaration import Jobs
from shared.jobs.run_context import Counts, RunContext
from shared.service import Service, configure_jobs, make_context, prepare
from shared.settings import ServiceSettings


def _declared() -> Jobs:
    jobs = Jobs("orders")
    misfire = os.environ[MISFIRE]
    for name, seconds in jobs_of_environment().items():
        jobs.job(name, description="Notes that it began.", schedule=f"{seconds}s", misfire=misfire)(_noting(name))
    return jobs


def _noting(name: str) -> Callable[[RunContext], Counts]:
    def run(run: RunContext) -> Counts:
        note(name, run.slot.timestamp() if run.slot else None)
        return {}

    return run


service = Service("orders", actors, _declared())
worker = partial(process.worker, service)
scheduler = partial(process.scheduler, service)


def main() -> None:
    """Start the service as ``shared.worker.main`` does, whose commands name the modules of the known services."""
    settings = ServiceSettings()
    context = make_context(service.name, settings)
    prepare(service, context, configure_jobs(service, settings))
    context.engine.dispose()
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = os.environ["PAPERPROFIT_RUN_DIR"]
    os.environ["dramatiq_queue_prefetch"] = str(settings.prefetch)  # noqa: SIM112 - dramatiq's own names
    os.environ["dramatiq_restart_delay"] = "500"  # noqa: SIM112
    os.environ["dramatiq_worker_timeout"] = str(process.WORKER_TIMEOUT_MS)  # noqa: SIM112
    os.execv(sys.executable, _command(settings))  # noqa: S606 - our own interpreter


def _command(settings: ServiceSettings) -> list[str]:
    module = "bench.jobs_service"
    return [
        sys.executable, "-m", "dramatiq", f"{module}:worker",
        "--processes", str(settings.processes), "--threads", str(settings.threads),
        "--queues", *worker_pools_of(service.name)[0],
        "--fork-function", f"{module}:scheduler",
        "--worker-shutdown-timeout", str(process.SHUTDOWN_MS),
        "--skip-logging",
    ]  # fmt: skip


if __name__ == "__main__":
    main()
