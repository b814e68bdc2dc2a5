"""Paused queues: every worker process follows an operator's change within two seconds.

A paused queue is not consumed. Messages in progress are finished, and prefetched ones are requeued.
"""

from collections.abc import Callable, Iterable

import structlog
from dramatiq import Worker
from sqlalchemy import text

from shared.background import Background
from shared.bus.unit_of_work import ServiceContext
from shared.outage import Outage
from shared.storage.errors import DATABASE_ERRORS

log = structlog.get_logger(__name__)

POLL_SECONDS = 1.0


class QueueControl(Background):
    """Pauses and resumes the consumers of this process's workers, which ``workers`` returns."""

    def __init__(self, context: ServiceContext, workers: Callable[[], Iterable[Worker]]) -> None:
        super().__init__(f"queues of {context.service}")
        self._context = context
        self._workers = workers
        self._outage = Outage("the database", service=context.service, part="queues")
        self.paused: frozenset[str] = frozenset()

    def run(self) -> None:
        """Poll once a second."""
        while not self.stopping.wait(POLL_SECONDS):
            self.poll()

    def poll(self) -> None:
        """Pause and resume consumers as operators asked. While the database is down, nothing changes."""
        try:
            with self._context.engine.connect() as connection:
                wanted = frozenset(connection.execute(_PAUSED).scalars())
        except DATABASE_ERRORS as error:
            self._outage.failed(error)
            return
        self._outage.passed()
        consumers = {name: each for worker in self._workers() for name, each in worker.consumers.items()}
        for queue in sorted(wanted & consumers.keys()):
            if not consumers[queue].paused:
                consumers[queue].pause()
                log.warning("queue paused", queue=queue)
        for queue in sorted(self.paused - wanted):
            consumers[queue].resume()
            log.info("queue resumed", queue=queue)
        self.paused = wanted & consumers.keys()


_PAUSED = text("SELECT queue FROM jobs.queue_controls WHERE paused")
