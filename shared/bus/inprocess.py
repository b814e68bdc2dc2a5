"""The bus inside one process: the same exchanges, bindings, retries and dead letters, without a server.

A publish is confirmed when every queue that received the message has finished it, retries included. Until
then its outbox row stays, so a killed process sends it again at its next start.
"""

import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field
from queue import Empty
from typing import Any

import dramatiq
from dramatiq.broker import Consumer, MessageProxy
from dramatiq.brokers.stub import StubBroker
from dramatiq.common import q_name
from dramatiq.errors import QueueNotFound

from shared.bus.envelope import Outgoing, stamped
from shared.bus.publisher import Unroutable
from shared.contracts.routing import QUEUES, bindings_of

Callback = Callable[[str, dict[str, Any]], None]


@dataclass
class _Pending:
    """Copies of one published message that are not finished; at none left the publish is confirmed."""

    futures: "list[Future[None]]" = field(default_factory=list)
    copies: int = 0


@dataclass
class _Bindings:
    queues: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, queues: Iterable[str]) -> "_Bindings":
        table = cls()
        for queue in queues:
            for binding in bindings_of(queue):
                table.queues.setdefault((binding.exchange, binding.routing_key), []).append(queue)
        return table


class InProcessBroker(StubBroker):
    """One broker for all services of the process; ``queues`` limits it to some of them."""

    def __init__(self, *, middleware: list[dramatiq.Middleware], queues: Iterable[str] = tuple(QUEUES)) -> None:
        super().__init__(middleware=middleware)
        self._bindings = _Bindings.of(queues)
        self._listeners: list[tuple[frozenset[str], Callback]] = []
        self._pending: dict[str, _Pending] = {}
        self._lock = threading.Lock()
        self.attached: set[str] = set()

    def send(self, message: Outgoing) -> "Future[None]":
        """Put a copy into every bound queue; the future resolves when all of them are finished."""
        future: Future[None] = Future()
        queues = self._bindings.queues.get((message.exchange, message.routing_key), [])
        queues = [queue for queue in queues if queue in self.queues]
        envelope: dramatiq.Message[None] = dramatiq.Message.decode(message.body)
        for keys, callback in self._listeners:
            if message.routing_key in keys:
                callback(envelope.actor_name, envelope.kwargs)
        if not queues and message.mandatory:
            future.set_exception(Unroutable(f"no queue is bound for {message.routing_key}"))
        elif not queues:
            future.set_result(None)
        else:
            self._put_copies(envelope, queues, future)
        return future

    def _put_copies(self, envelope: "dramatiq.Message[None]", queues: list[str], future: "Future[None]") -> None:
        with self._lock:
            pending = self._pending.setdefault(envelope.message_id, _Pending())
            pending.futures.append(future)
            pending.copies += 1  # our own, so that a quick consumer cannot confirm before the last copy is in
        for queue in queues:
            self.enqueue(stamped(envelope, queue))
        self.finished(envelope.message_id)

    def enqueue(self, message: Any, *, delay: int | None = None) -> Any:
        with self._lock:
            if pending := self._pending.get(message.message_id):
                pending.copies += 1
        return super().enqueue(stamped(message, q_name(message.queue_name)), delay=delay)

    def finished(self, message_id: str) -> None:
        """One copy is finished for good or has been replaced by another."""
        with self._lock:
            pending = self._pending.get(message_id)
            if pending is None:
                return
            pending.copies -= 1
            if pending.copies:
                return
            del self._pending[message_id]
        for future in pending.futures:
            future.set_result(None)

    def listen(self, routing_keys: Iterable[str], callback: Callback) -> None:
        """Call back for each message published under one of the keys; nothing is kept for a listener."""
        self._listeners.append((frozenset(routing_keys), callback))

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 100) -> Consumer:
        if queue_name not in self.queues:
            raise QueueNotFound(queue_name)
        self.attached.add(queue_name)
        return _InProcessConsumer(self, queue_name, prefetch, timeout)


class _InProcessConsumer(Consumer):
    """Hands out messages of one queue, at most ``prefetch`` unfinished ones at a time."""

    def __init__(self, broker: InProcessBroker, queue_name: str, prefetch: int, timeout: int) -> None:
        self.broker = broker
        self.queue = broker.queues[queue_name]
        self.dead_letters = broker.dead_letters_by_queue[q_name(queue_name)]
        self.slots = threading.Semaphore(prefetch)
        self.seconds = timeout / 1000

    def __next__(self) -> MessageProxy | None:
        if not self.slots.acquire(timeout=self.seconds):
            return None
        try:
            return MessageProxy(dramatiq.Message.decode(self.queue.get(timeout=self.seconds)))
        except Empty:
            self.slots.release()
            return None

    def ack(self, message: MessageProxy) -> None:
        self._done(message)
        self.broker.finished(message.message_id)

    def nack(self, message: MessageProxy) -> None:
        """A dead message stays unconfirmed: its outbox row outlives the process."""
        self.dead_letters.append(message)
        self._done(message)

    def _done(self, _message: MessageProxy) -> None:
        self.queue.task_done()
        self.slots.release()


def wait_until_idle(broker: InProcessBroker, *, seconds: float) -> None:
    """Wait until every queue of the broker is finished; for tests and simulations."""
    deadline = time.monotonic() + seconds
    for queue in list(broker.queues.values()):
        with queue.all_tasks_done:
            while queue.unfinished_tasks:
                if not queue.all_tasks_done.wait(max(0.0, deadline - time.monotonic())):
                    raise TimeoutError("the in-process bus did not become idle")
