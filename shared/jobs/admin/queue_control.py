"""Pausing queues: what operators set is obeyed by every worker process within two seconds.

A paused queue is not consumed. What was in a worker's hands is handled; what it had fetched ahead goes back.
"""

from collections.abc import Callable, Iterable

import structlog
from dramatiq import Worker
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from shared.background import Background
from shared.bus.unit_of_work import ServiceContext
from shared.outage import Outage

log = structlog.get_logger(__name__)

LOOK_SECONDS = 1.0


class QueueControl(Background):
    """``workers`` answers with those of this process, which consume the queues."""

    def __init__(self, context: ServiceContext, workers: Callable[[], Iterable[Worker]]) -> None:
        super().__init__(f"queues of {context.service}")
        self._context = context
        self._workers = workers
        self._outage = Outage("the database", service=context.service, part="queues")
        self.paused: frozenset[str] = frozenset()

    def run(self) -> None:
        while not self.stopping.wait(LOOK_SECONDS):
            self.look()

    def look(self) -> None:
        """Obey what is set now; while the database is away, what was set last stays."""
        try:
            with self._context.engine.connect() as connection:
                wanted = frozenset(connection.execute(_PAUSED).scalars())
        except SQLAlchemyError as error:
            self._outage.failed(error)
            return
        self._outage.passed()
        self._obey(wanted)

    def _obey(self, wanted: frozenset[str]) -> None:
        consumers = {name: each for worker in self._workers() for name, each in worker.consumers.items()}
        for queue in sorted(wanted & consumers.keys()):
            if not consumers[queue].paused:
                consumers[queue].pause()
                log.warning("queue paused", queue=queue)
        for queue in sorted(self.paused - wanted):
            consumers[queue].resume()
            log.info("queue goes on", queue=queue)
        self.paused = wanted & consumers.keys()


_PAUSED = text("SELECT queue FROM jobs.queue_controls WHERE paused")
