"""APScheduler 3 with its jobs in PostgreSQL, run by its own environment only.

A job that is in the store already is kept, so a restart knows the slots that came due meanwhile.
"""

import os
import signal
from datetime import UTC, datetime

from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore  # type: ignore[import-not-found]
from apscheduler.schedulers.background import BackgroundScheduler  # type: ignore[import-not-found]
from apscheduler.triggers.interval import IntervalTrigger  # type: ignore[import-not-found]

from bench.jobs_notes import jobs_of_environment, note

#: Run what was missed, each slot by itself, however late it is.
NOTHING_MISSED = {"coalesce": False, "misfire_grace_time": None}


def main() -> None:
    store = SQLAlchemyJobStore(
        url=os.environ["BENCH_DATABASE_URL"], tablename=os.environ["BENCH_TABLE"], tableschema="orders"
    )
    scheduler = BackgroundScheduler(jobstores={"default": store}, timezone=UTC)
    scheduler.start(paused=True)
    for job, seconds in jobs_of_environment().items():
        if scheduler.get_job(job) is None:
            every = IntervalTrigger(seconds=seconds, start_date=datetime.fromtimestamp(0, UTC), timezone=UTC)
            scheduler.add_job(note, every, args=[job], id=job, **NOTHING_MISSED)
    scheduler.resume()
    signal.pause()


if __name__ == "__main__":
    main()
