"""A Celery application whose beat is RedBeat. Only the environment of RedBeat imports it."""

import os

from celery import Celery  # type: ignore[import-not-found]
from celery.schedules import schedule  # type: ignore[import-not-found]

from bench import jobs_notes

app = Celery("jobs_redbeat_app", broker=os.environ["BENCH_BROKER_URL"])
app.conf.task_ignore_result = True
app.conf.task_default_queue = "redbeat"
app.conf.worker_hijack_root_logger = False
app.conf.redbeat_redis_url = os.environ["BENCH_REDIS_URL"]
# The lock of a beat that was killed is held until its time is over, 25 minutes unless these are set.
app.conf.beat_max_loop_interval = 1
app.conf.redbeat_lock_timeout = 5
app.conf.beat_schedule = {
    job: {"task": "note", "schedule": schedule(seconds, relative=True), "args": [job]}
    for job, seconds in jobs_notes.jobs_of_environment().items()
}


@app.task(name="note")  # type: ignore[untyped-decorator]
def note(job: str) -> None:
    jobs_notes.note(job)
