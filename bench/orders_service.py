"""Orders as deployed, which also notes when each message was handled: ``python -m bench.orders_service``.

A line of the file that ``BENCH_NOTES`` names has a message's id and the time at which its transaction was committed
(CLOCK_MONOTONIC, which all processes share).
"""

import os
import time
from functools import partial
from typing import Any

import dramatiq
from dramatiq.broker import MessageProxy

from services.orders.service import service
from shared import worker as process

NOTES = "BENCH_NOTES"


class Notes(dramatiq.Middleware):
    """One write a line, so that the lines of several threads and processes do not mix."""

    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def after_process_message(
        self,
        broker: dramatiq.Broker,  # noqa: ARG002
        message: MessageProxy,
        *,
        result: Any = None,  # noqa: ARG002
        exception: BaseException | None = None,
    ) -> None:
        if exception is None:
            os.write(self._file, f"{message.message_id} {time.monotonic()}\n".encode())


def worker() -> None:
    process.worker(service)
    dramatiq.get_broker().add_middleware(Notes(os.environ[NOTES]))


scheduler = partial(process.scheduler, service)

if __name__ == "__main__":
    process.main(service, module="bench.orders_service")
