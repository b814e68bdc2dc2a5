"""The bus inside one process: the same exchanges, bindings, retries and dead letters, without a server.

A publish is confirmed once every queue that received the message has finished it, retries included. Until then its
outbox row stays, so after a kill the next process sends it again.
"""

import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import count
from queue import Empty, PriorityQueue
from typing import Any, cast

import dramatiq
from dramatiq.broker import Consumer, MessageProxy
from dramatiq.brokers.stub import StubBroker
from dramatiq.common import current_millis, dq_name, q_name
from dramatiq.errors import QueueNotFound

from shared.bus.amqp.publisher import Finished, PublishFailed, Unroutable
from shared.bus.amqp.queue_stats import QueueStats
from shared.bus.amqp.topology import internal_exchange
from shared.bus.envelope import Outgoing, stamped
from shared.bus.poison import read
from shared.contracts.routing import QUEUES, bindings_of, service_of

REQUEUE_PAUSE_SECONDS = 1.0
RATE_SECONDS = 10
Callback = Callable[[str, dict[str, Any]], None]


def call_when_done(future: "Future[None]", message: Outgoing, finished: Finished) -> None:
    """Call ``finished`` with the message and its error, if any, once the future is done."""
    future.add_done_callback(lambda done: finished(message, cast("PublishFailed | None", done.exception())))


@dataclass
class _Pending:
    """Unfinished copies of one published message. The publish is confirmed when none is left."""

    futures: "list[Future[None]]" = field(default_factory=list)
    copies: int = 0


@dataclass(frozen=True, order=True)
class _Waiting:
    """A message in its queue. The smallest goes first. ``since`` is in seconds of the monotonic clock."""

    urgency: int
    number: int
    message_id: str = field(compare=False)
    body: bytes = field(compare=False)
    since: float = field(compare=False)


class _Rate:
    """Events per second over the last RATE_SECONDS."""

    def __init__(self) -> None:
        self._seconds: deque[list[int]] = deque(maxlen=RATE_SECONDS)

    def record(self, now: float) -> None:
        if self._seconds and self._seconds[-1][0] == int(now):
            self._seconds[-1][1] += 1
        else:
            self._seconds.append([int(now), 1])

    def per_second(self, now: float) -> float:
        seconds = self._seconds.copy()  # another thread may record one meanwhile
        return sum(count for second, count in seconds if second > now - RATE_SECONDS) / RATE_SECONDS


@dataclass
class _Rates:
    put: _Rate = field(default_factory=_Rate)
    done: _Rate = field(default_factory=_Rate)


@dataclass
class _Bindings:
    queues: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    @classmethod
    def of(cls, queues: Iterable[str]) -> "_Bindings":
        table = cls()
        for queue in queues:
            table.queues[internal_exchange(service_of(queue)), queue] = [queue]
            for binding in bindings_of(queue):
                table.queues.setdefault((binding.exchange, binding.routing_key), []).append(queue)
        return table


class InProcessBroker(StubBroker):
    """One broker for all services of the process. ``queues`` limits it to some of them."""

    def __init__(self, *, middleware: list[dramatiq.Middleware], queues: Iterable[str] = tuple(QUEUES)) -> None:
        super().__init__(middleware=middleware)
        self._bindings = _Bindings.of(queues)
        self._listeners: list[tuple[frozenset[str], Callback]] = []
        self._pending: dict[str, _Pending] = {}
        self._numbers = count(1)
        self._rates: dict[str, _Rates] = defaultdict(_Rates)
        self.session = 0
        self.ready = True
        self.stopping = threading.Event()
        self._lock = threading.Lock()
        self.attached: set[str] = set()

    def send(self, message: Outgoing) -> "Future[None]":
        """Put a copy into every bound queue. The future resolves when all of them are finished.

        It fails with Unroutable where no queue is bound and the message is mandatory.
        """
        callbacks = [callback for keys, callback in self._listeners if message.routing_key in keys]
        if callbacks:
            envelope: dramatiq.Message[None] = dramatiq.Message.decode(message.body)
            for callback in callbacks:
                callback(envelope.actor_name, envelope.kwargs)
        future: Future[None] = Future()
        bound = self._bindings.queues.get((message.exchange, message.routing_key), [])
        queues = [queue for queue in bound if queue in self.queues]
        if not queues:
            if message.mandatory:
                future.set_exception(Unroutable(f"no queue is bound for {message.routing_key}"))
            else:
                future.set_result(None)
            return future
        message_id = str(message.message_id)
        with self._lock:
            pending = self._pending.setdefault(message_id, _Pending())
            pending.futures.append(future)
            pending.copies += len(queues)  # all at once, or a fast consumer would confirm before the last copy is in
        for queue in queues:
            self._put(queue, message_id, message.body, message.priority)
        return future

    def send_many(self, messages: Sequence[Outgoing], session: int, finished: Finished) -> None:  # noqa: ARG002 - one
        """Send the messages in their order, as ``Sender`` says."""
        for message in messages:
            call_when_done(self.send(message), message, finished)

    def _put(self, queue_name: str, message_id: str, body: bytes, priority: int = 0) -> None:
        now = time.monotonic()
        self._rates[queue_name].put.record(now)
        self.queues[queue_name].put(_Waiting(-priority, next(self._numbers), message_id, body, now))

    def declare_queue(self, queue_name: str) -> None:
        """Do as dramatiq's own, but with queues that have priorities."""
        if queue_name in self.queues:
            return
        self.emit_before("declare_queue", queue_name)
        self.queues[queue_name] = PriorityQueue()
        self.emit_after("declare_queue", queue_name)
        delayed = dq_name(queue_name)
        self.queues[delayed] = PriorityQueue()
        self.delay_queues.add(delayed)
        self.emit_after("declare_delay_queue", delayed)

    def enqueue(self, message: Any, *, delay: int | None = None) -> Any:
        """Put the message into its queue, or with a delay in milliseconds into its delay queue."""
        queue = q_name(message.queue_name)
        options = {} if delay is None else {"eta": current_millis() + delay}
        message = stamped(message, queue, delayed=delay is not None).copy(options=options)
        self.emit_before("enqueue", message, delay)
        self.add_copy(message.message_id)
        self._put(message.queue_name, message.message_id, message.encode())
        self.emit_after("enqueue", message, delay)
        return message

    def add_copy(self, message_id: str) -> None:
        """Count one more copy of a message that is not finished."""
        with self._lock:
            if pending := self._pending.get(message_id):
                pending.copies += 1

    def finished(self, message_id: str) -> None:
        """Count one copy as finished. The last one confirms the publish."""
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

    def queue_stats(self) -> list[QueueStats]:
        """Statistics of all queues that have actors, sorted by name."""
        now, stats = time.monotonic(), []
        for name, queue in sorted(self.queues.items()):
            with queue.mutex:
                ready, unfinished = len(queue.queue), queue.unfinished_tasks
                oldest = min((waiting.since for waiting in queue.queue), default=None)
            stats.append(
                QueueStats(
                    queue=name,
                    ready=ready,
                    unacknowledged=unfinished - ready,
                    consumers=int(name in self.attached),
                    rate_in=self._rates[name].put.per_second(now),
                    rate_out=self._rates[name].done.per_second(now),
                    oldest_age=None if oldest is None else now - oldest,
                )
            )
        return stats

    def record_done(self, queue_name: str) -> None:
        """Count a handled message in the queue's outgoing rate."""
        self._rates[queue_name].done.record(time.monotonic())

    def listen(self, routing_keys: Iterable[str], callback: Callback) -> None:
        """Call back for each message that is published from now on under one of the keys."""
        self._listeners.append((frozenset(routing_keys), callback))

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 100) -> Consumer:
        """Attach to the queue. Raises QueueNotFound where no actor has declared it."""
        if queue_name not in self.queues:
            raise QueueNotFound(queue_name)
        self.attached.add(queue_name)
        return _InProcessConsumer(self, queue_name, prefetch, timeout)


class _InProcessConsumer(Consumer):
    """Hands out messages of one queue, at most ``prefetch`` unfinished ones at a time."""

    def __init__(self, broker: InProcessBroker, queue_name: str, prefetch: int, timeout: int) -> None:
        self.broker = broker
        self.name = queue_name
        self.queue = broker.queues[queue_name]
        self.slots = threading.Semaphore(prefetch)
        self.seconds = timeout / 1000

    def __next__(self) -> MessageProxy | None:
        if not self.slots.acquire(timeout=self.seconds):
            return None
        try:
            waiting = self.queue.get(timeout=self.seconds)
        except Empty:
            self.slots.release()
            return None
        canonical = q_name(self.name)
        delayed = canonical != self.name
        message: Any = MessageProxy(
            read(waiting.body, canonical, self.broker.actors, delayed=delayed, message_id=waiting.message_id)
        )
        message.came_as = waiting
        return message  # type: ignore[no-any-return]

    def ack(self, message: Any) -> None:
        self._done()
        self.broker.record_done(self.name)
        self.broker.finished(message.came_as.message_id)

    def nack(self, message: Any) -> None:
        """Requeue the message after a delay: it could be neither handled nor dead-lettered."""
        self.broker.stopping.wait(REQUEUE_PAUSE_SECONDS)
        self.queue.put(message.came_as)
        self._done()

    def _done(self) -> None:
        self.queue.task_done()
        self.slots.release()


def wait_until_idle(broker: InProcessBroker, *, seconds: float) -> None:
    """Wait until every queue of the broker is finished. Raises TimeoutError after ``seconds``. For tests."""
    deadline = time.monotonic() + seconds
    for queue in list(broker.queues.values()):
        with queue.all_tasks_done:
            while queue.unfinished_tasks:
                if not queue.all_tasks_done.wait(max(0.0, deadline - time.monotonic())):
                    raise TimeoutError("the in-process bus did not become idle")
