"""The bus inside one process: the same exchanges, bindings, retries and dead letters, without a server.

A publish is confirmed when every queue that received the message has finished it, retries included. Until
then its outbox row stays, so a killed process sends it again at its next start.
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
from shared.bus.amqp.queue_stats import QueueFigures
from shared.bus.amqp.topology import internal_exchange
from shared.bus.envelope import Outgoing, stamped
from shared.bus.poison import read
from shared.contracts.routing import QUEUES, bindings_of, service_of

REQUEUE_PAUSE_SECONDS = 1.0
RATE_SECONDS = 10
Callback = Callable[[str, dict[str, Any]], None]


def tell(future: "Future[None]", message: Outgoing, finished: Finished) -> None:
    """Have the sender told when the message is finished."""
    future.add_done_callback(lambda done: finished(message, cast("PublishFailed | None", done.exception())))


@dataclass
class _Pending:
    """Copies of one published message that are not finished; at none left the publish is confirmed."""

    futures: "list[Future[None]]" = field(default_factory=list)
    copies: int = 0


@dataclass(frozen=True, order=True)
class _Waiting:
    """A message in its queue; what is smaller goes first. ``since`` on the monotonic clock, in seconds."""

    urgency: int
    number: int
    message_id: str = field(compare=False)
    body: bytes = field(compare=False)
    since: float = field(compare=False)


class _Rate:
    """Events per second, over the last ten seconds or so."""

    def __init__(self) -> None:
        self._seconds: deque[list[int]] = deque(maxlen=RATE_SECONDS)

    def note(self, now: float) -> None:
        if self._seconds and self._seconds[-1][0] == int(now):
            self._seconds[-1][1] += 1
        else:
            self._seconds.append([int(now), 1])

    def per_second(self, now: float) -> float:
        return sum(count for second, count in self._seconds if second > now - RATE_SECONDS) / RATE_SECONDS


@dataclass
class _Moves:
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
    """One broker for all services of the process; ``queues`` limits it to some of them."""

    def __init__(self, *, middleware: list[dramatiq.Middleware], queues: Iterable[str] = tuple(QUEUES)) -> None:
        super().__init__(middleware=middleware)
        self._bindings = _Bindings.of(queues)
        self._listeners: list[tuple[frozenset[str], Callback]] = []
        self._pending: dict[str, _Pending] = {}
        self._numbers = count(1)
        self._moves: dict[str, _Moves] = defaultdict(_Moves)
        self.session = 0
        self.ready = True
        self.stopping = threading.Event()
        self._lock = threading.Lock()
        self.attached: set[str] = set()

    def send(self, message: Outgoing) -> "Future[None]":
        """Put a copy into every bound queue; the future resolves when all of them are finished."""
        future: Future[None] = Future()
        queues = self._bindings.queues.get((message.exchange, message.routing_key), [])
        queues = [queue for queue in queues if queue in self.queues]
        self._tell_listeners(message)
        if not queues and message.mandatory:
            future.set_exception(Unroutable(f"no queue is bound for {message.routing_key}"))
        elif not queues:
            future.set_result(None)
        else:
            self._put_copies(message, queues, future)
        return future

    def send_many(self, messages: Sequence[Outgoing], session: int, finished: Finished) -> None:  # noqa: ARG002 - one
        for message in messages:
            tell(self.send(message), message, finished)

    def _tell_listeners(self, message: Outgoing) -> None:
        callbacks = [callback for keys, callback in self._listeners if message.routing_key in keys]
        if callbacks:
            envelope: dramatiq.Message[None] = dramatiq.Message.decode(message.body)
            for callback in callbacks:
                callback(envelope.actor_name, envelope.kwargs)

    def _put_copies(self, message: Outgoing, queues: list[str], future: "Future[None]") -> None:
        message_id = str(message.message_id)
        with self._lock:
            pending = self._pending.setdefault(message_id, _Pending())
            pending.futures.append(future)
            pending.copies += len(queues)  # all, so that a quick consumer cannot confirm before the last copy is in
        for queue in queues:
            self._put(queue, message_id, message.body, message.priority)

    def _put(self, queue_name: str, message_id: str, body: bytes, priority: int = 0) -> None:
        now = time.monotonic()
        self._moves[queue_name].put.note(now)
        self.queues[queue_name].put(_Waiting(-priority, next(self._numbers), message_id, body, now))

    def declare_queue(self, queue_name: str) -> None:
        """As dramatiq's own, but with queues in which the more urgent goes first."""
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
        """Put the message into its queue, or its delay queue, of this process."""
        queue = q_name(message.queue_name)
        options = {} if delay is None else {"eta": current_millis() + delay}
        message = stamped(message, queue, delayed=delay is not None).copy(options=options)
        self.emit_before("enqueue", message, delay)
        self._replace(message.message_id)
        self._put(message.queue_name, message.message_id, message.encode())
        self.emit_after("enqueue", message, delay)
        return message

    def _replace(self, message_id: str) -> None:
        """One more copy of a message that is not finished."""
        with self._lock:
            if pending := self._pending.get(message_id):
                pending.copies += 1

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

    def queue_figures(self) -> list[QueueFigures]:
        """All queues that have actors, sorted; the figures are those of ``shared.bus.amqp.queue_stats``."""
        now = time.monotonic()
        return [self._figures(name, now) for name in sorted(self.queues)]

    def _figures(self, name: str, now: float) -> QueueFigures:
        queue, moves = self.queues[name], self._moves[name]
        with queue.mutex:
            ready, unfinished = len(queue.queue), queue.unfinished_tasks
            oldest = min((waiting.since for waiting in queue.queue), default=None)
        return QueueFigures(
            queue=name,
            ready=ready,
            unacknowledged=unfinished - ready,
            consumers=int(name in self.attached),
            rate_in=moves.put.per_second(now),
            rate_out=moves.done.per_second(now),
            oldest_age=None if oldest is None else now - oldest,
        )

    def note_done(self, queue_name: str) -> None:
        self._moves[queue_name].done.note(time.monotonic())

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
        self.broker.note_done(self.name)
        self.broker.finished(message.came_as.message_id)

    def nack(self, message: Any) -> None:
        """Put it back: it could neither be handled, nor written down as dead."""
        self.broker.stopping.wait(REQUEUE_PAUSE_SECONDS)
        self.queue.put(message.came_as)
        self._done()

    def _done(self) -> None:
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
