"""The in-process bus under a seed and a clock of its own: one thread, one step at a time, and a network that lies.

    random, clock = Random(7), SimulatedClock(start)
    faults = Faults(drop=0.1, duplicate=0.1)
    simulation = Simulation(make_middleware(contexts, random), clock=clock, random=random, faults=faults)
    simulation.relay(contexts.values())
    simulation.run()

The same seed and the same messages give the same steps. A message is lost before it is confirmed, as on RabbitMQ:
its outbox row stays and it is sent again.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from queue import PriorityQueue
from random import Random
from typing import Any

import dramatiq
from dramatiq.broker import MessageProxy
from dramatiq.common import q_name
from dramatiq.worker import WorkerThread
from sqlalchemy import Connection

from shared.bus.amqp.publisher import Finished, PublishFailed
from shared.bus.envelope import Outgoing, stamped
from shared.bus.inprocess import InProcessBroker, call_when_done
from shared.bus.poison import read
from shared.bus.relay import Relay
from shared.bus.unit_of_work import ServiceContext
from shared.contracts.routing import QUEUES


class SimulatedClock:
    """A clock that stands still until it is moved. The contexts of a simulation share it."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


@dataclass(frozen=True)
class Faults:
    """The probability of each fault, from 0 to 1.

    ``drop`` loses a published message. ``unsure`` delivers it, but loses its confirm. ``duplicate`` delivers a handled
    message again. ``delay`` delivers a message up to ``longest`` later. ``reorder`` handles another message of the
    queue first.
    """

    drop: float = 0
    unsure: float = 0
    duplicate: float = 0
    delay: float = 0
    reorder: float = 0
    longest: timedelta = timedelta(seconds=3)


@dataclass(order=True)
class Copy:
    """A message in its queue."""

    due: datetime
    number: int
    queue: str = field(compare=False)
    message_id: str = field(compare=False)
    body: bytes = field(compare=False)
    priority: int = field(default=0, compare=False)


class Simulation(InProcessBroker):
    """The simulated bus. ``trace`` lists every step, ``counts`` the faults that happened by their names."""

    def __init__(
        self,
        middleware: list[dramatiq.Middleware],
        *,
        clock: SimulatedClock,
        random: Random,
        faults: Faults,
        queues: Iterable[str] = tuple(QUEUES),
    ) -> None:
        super().__init__(middleware=middleware, queues=queues)
        self.clock = clock
        self.random = random
        self.faults = faults
        self.began = clock.now
        self.trace: list[str] = []
        self.counts: Counter[str] = Counter()
        self._copies: list[Copy] = []
        self._aliases: dict[str, int] = {}
        self._put_so_far = 0
        self._redeliver = 0
        self._outcome = ""
        self._thread = WorkerThread(broker=self, consumers=_Settling(self), work_queue=_NoWork(), worker_timeout=0)
        self._relays: list[tuple[Relay, Connection]] = []
        self._open = ExitStack()

    def relay(self, contexts: Iterable[ServiceContext]) -> None:
        """Send the messages of these outboxes too, from now on."""
        for context in contexts:
            connection = self._open.enter_context(context.engine.connect())
            connection.execution_options(isolation_level="AUTOCOMMIT")
            self._open.callback(connection.invalidate)  # with its advisory locks
            self._relays.append((Relay(context, self, poll=0), connection))

    def close(self) -> None:
        self._open.close()
        super().close()

    def redeliver(self, count: int = 1) -> None:
        """Lose the acknowledgements of the next messages, so that they are delivered again."""
        self._redeliver += count

    def send_many(self, messages: Sequence[Outgoing], session: int, finished: Finished) -> None:
        for message in messages:
            self._send(message, session, finished)

    def _send(self, message: Outgoing, session: int, finished: Finished) -> None:
        if session != self.session:
            finished(message, PublishFailed("the connection before was lost"))
        elif self._happens("drop"):
            self.session += 1
            finished(message, PublishFailed("lost"))
        elif self._happens("unsure"):
            self.session += 1
            self.send(message)
            finished(message, PublishFailed("its confirm was lost"))
        else:
            call_when_done(self.send(message), message, finished)

    def _happens(self, fault: str) -> bool:
        happens: bool = self.random.random() < getattr(self.faults, fault)
        self.counts[fault] += happens
        return happens

    def _put(self, queue_name: str, message_id: str, body: bytes, priority: int = 0) -> None:
        late = self.faults.longest * self.random.random() if self._happens("delay") else timedelta()
        self._put_at(self.clock.now + late, queue_name, message_id, body, priority)

    def _put_at(self, due: datetime, queue: str, message_id: str, body: bytes, priority: int = 0) -> None:
        self._put_so_far += 1
        self._copies.append(Copy(due, self._put_so_far, queue, message_id, body, priority))

    def enqueue(self, message: Any, *, delay: int | None = None) -> Any:
        """Put the message into its queue. A delay is in milliseconds of the simulated clock."""
        queue = q_name(message.queue_name)
        message = stamped(message, queue)
        self.add_copy(message.message_id)
        due = self.clock.now + timedelta(milliseconds=delay or 0)
        self._put_at(due, queue, message.message_id, message.encode())
        return message

    def step(self) -> bool:
        """Handle one message, and move the clock to its due time. False where none is left."""
        copy = self.take()
        if copy is None:
            return False
        self.handle(copy)
        return True

    def take(self) -> Copy | None:
        """The next message for ``handle``, or None. Moves the clock to its due time."""
        while sum(relay.pump(connection) for relay, connection in self._relays):
            """Until all that was committed is on its way."""
        if not self._copies:
            return None
        self.clock.now = max(self.clock.now, min(self._copies).due)
        due = sorted(copy for copy in self._copies if copy.due <= self.clock.now)
        queue = self.random.choice(sorted({copy.queue for copy in due}))
        waiting = sorted((copy for copy in due if copy.queue == queue), key=lambda copy: -copy.priority)
        copy = self.random.choice(waiting) if self._happens("reorder") else waiting[0]
        self._copies.remove(copy)
        return copy

    def run(self, until: datetime | None = None) -> None:
        """Step until no message is left, or none is due before ``until``, to which the clock then moves."""
        while until is None or not self._copies or min(self._copies).due <= until:
            if not self.step():
                break
        if until is not None:
            self.clock.now = max(self.clock.now, until)

    def handle(self, copy: Copy) -> None:
        """Handle the message. It is delivered again where that failed."""
        message: Any = MessageProxy(read(copy.body, copy.queue, self.actors, message_id=copy.message_id))
        self._outcome = "done"
        self._thread.process_message(message)
        number = self._aliases.setdefault(copy.message_id, len(self._aliases) + 1)
        elapsed = (self.clock.now - self.began).total_seconds()
        self.trace.append(f"{elapsed:.3f} {message.actor_name} #{number} {self._outcome}")
        if self._outcome == "put back" or self._comes_again():
            self._put_at(self.clock.now, copy.queue, copy.message_id, copy.body)
        else:
            self.finished(copy.message_id)

    def _comes_again(self) -> bool:
        if self._redeliver:
            self._redeliver -= 1
            self.counts["duplicate"] += 1
            return True
        return self._happens("duplicate")

    def set_outcome(self, outcome: str) -> None:
        self._outcome = outcome


class _Settling(dict[str, Any]):
    """The consumers of a worker thread: one that settles the messages of every queue."""

    def __init__(self, simulation: Simulation) -> None:
        super().__init__()
        self._simulation = simulation

    def __missing__(self, _queue: str) -> "_Settling":
        return self

    def post_process_message(self, message: MessageProxy) -> None:
        if message.failed:
            self._simulation.set_outcome("put back")


class _NoWork(PriorityQueue[Any]):
    def task_done(self) -> None:
        """Do nothing: the queue is never used."""
