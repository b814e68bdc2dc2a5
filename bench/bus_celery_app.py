"""A Celery application with one task that does nothing. Only Celery's own environment imports it."""

import os
import time

from celery import Celery  # type: ignore[import-not-found]

app = Celery("bus_celery_app", broker=os.environ["BENCH_BROKER_URL"])
app.conf.task_ignore_result = True
app.conf.task_acks_late = True  # as the others: a message is acknowledged after it was handled
app.conf.worker_prefetch_multiplier = int(os.environ["BENCH_PREFETCH_PER_CHILD"])
app.conf.worker_hijack_root_logger = False


@app.task(name="record")  # type: ignore[untyped-decorator]
def record(**_payload: object) -> None:
    """Write a line for each task, because a child of prefork is ended without notice."""
    with open(os.environ["BENCH_STAMPS"] + f".{os.getpid()}", "ab", buffering=0) as file:  # noqa: PTH123
        file.write(f"{time.monotonic()}\n".encode())
