"""Two worker pools in one process: urgent queues have threads of their own, which no backlog of other queues can fill.

dramatiq's priorities order only the messages that a process has fetched. With one pool, an urgent message still waits
for a thread to finish other work.
"""

from collections.abc import Iterable, Sequence
from threading import Thread

import dramatiq
from dramatiq import Worker


class BackgroundPool(dramatiq.Middleware):
    """Runs a second worker for the queues that are not urgent. It starts and stops with the process's main worker."""

    def __init__(self, queues: Iterable[str], *, threads: int, timeout_ms: int, shutdown_ms: int) -> None:
        self._queues = set(queues)
        self._threads = threads
        self._timeout_ms = timeout_ms
        self._shutdown_ms = shutdown_ms
        self._worker: Worker | None = None
        self._stopping: Thread | None = None

    @property
    def workers(self) -> Sequence[Thread]:
        return self._worker.workers if self._worker is not None else ()

    def runs(self, worker: Worker) -> bool:
        """True for the worker of this pool, False for the main one."""
        return worker is self._worker

    def after_worker_boot(self, broker: dramatiq.Broker, worker: Worker) -> None:
        if self.runs(worker) or not self._queues:
            return
        self._worker = Worker(
            broker, queues=self._queues, worker_threads=self._threads, worker_timeout=self._timeout_ms
        )
        self._worker.start()

    def before_worker_shutdown(self, _broker: dramatiq.Broker, worker: Worker) -> None:
        """Stop the pool while the main worker stops, since both have the same deadline."""
        if self._worker is None or self.runs(worker):
            return
        self._stopping = Thread(target=self._worker.stop, args=(self._shutdown_ms,), name="background-pool-stop")
        self._stopping.start()

    def after_worker_shutdown(self, _broker: dramatiq.Broker, worker: Worker) -> None:
        if self._stopping is not None and not self.runs(worker):
            self._stopping.join()
            self._worker = self._stopping = None
