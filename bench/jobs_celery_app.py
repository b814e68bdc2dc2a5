"""A Celery application whose beat sends a task for each job. Only Celery's own environment imports it."""

import os

from celery import Celery  # type: ignore[import-not-found]
from celery.schedules import schedule  # type: ignore[import-not-found]

from bench import jobs_notes

app = Celery("jobs_celery_app", broker=os.environ["BENCH_BROKER_URL"])
app.conf.task_ignore_result = True
app.conf.worker_hijack_root_logger = False
app.conf.beat_sync_every = 1  # save each send, not those of three minutes at once
app.conf.beat_schedule = {
    job: {"task": "note", "schedule": schedule(seconds, relative=True), "args": [job]}
    for job, seconds in jobs_notes.jobs_of_environment().items()
}


@app.task(name="note")  # type: ignore[untyped-decorator]
def note(job: str) -> None:
    jobs_notes.note(job)
