"""procrastinate with its tables in the schema of orders. Only its own environment imports it."""

import os
from collections.abc import Callable

import procrastinate  # type: ignore[import-not-found]

from bench.jobs_notes import jobs_of_environment, note

THREADS = 8
_THERE = "SELECT to_regclass('procrastinate_jobs') IS NOT NULL AS there"

app = procrastinate.App(
    connector=procrastinate.PsycopgConnector(
        conninfo=os.environ["BENCH_DATABASE_URL"], kwargs={"options": "-csearch_path=orders"}
    )
)


def main() -> None:
    """Make the tables where they are missing, and work until a signal comes."""
    for job, seconds in jobs_of_environment().items():
        task = app.task(name=job, pass_context=False)(_noting(job))
        app.periodic(cron=_cron(seconds), periodic_id=job)(task)
    with app.open():
        there = app.connector.get_sync_connector().execute_query_one(_THERE)
        if not there["there"]:
            app.schema_manager.apply_schema()
    app.run_worker(concurrency=THREADS)


def _noting(job: str) -> Callable[[int], None]:
    def run(timestamp: int) -> None:
        note(job, timestamp)

    return run


def _cron(seconds: int) -> str:
    """Return the interval as cron with seconds in the last column."""
    return f"* * * * * */{seconds}"


if __name__ == "__main__":
    main()
