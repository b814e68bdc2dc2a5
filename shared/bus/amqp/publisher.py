"""Publishing with confirms to RabbitMQ, on a connection and a thread of its own.

pika's BlockingConnection confirms one message at a time and answers no heartbeats while idle. Here a thread runs the
connection's loop, and any number of messages may be in flight. Each sender is called back once RabbitMQ has the message
on disk, could not route it, or lost the connection.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any

import structlog
from pika.adapters.select_connection import SelectConnection

from shared.bus.amqp.connections import connection_parameters
from shared.bus.amqp.frames import published
from shared.bus.envelope import Outgoing
from shared.bus.metrics import RECONNECTS
from shared.outage import Outage

log = structlog.get_logger(__name__)


class PublishFailed(ConnectionError):
    """RabbitMQ did not confirm the message: it is unavailable, or refused it. Send it again later."""


class Unroutable(PublishFailed):
    """No queue is bound for the routing key: the consumer has not declared its queues yet."""


#: Called once for each message, from any thread, with None where it was confirmed.
Finished = Callable[[Outgoing, PublishFailed | None], None]


@dataclass
class _Channel:
    """An open channel and its unconfirmed messages by delivery tag, which starts at 1."""

    channel: Any
    tag: int = 0
    unconfirmed: dict[int, tuple[Outgoing, Finished]] = field(default_factory=dict)

    def publish(self, messages: Sequence[Outgoing], finished: Finished) -> None:
        """Write all messages in one piece."""
        for message in messages:
            self.tag += 1
            self.unconfirmed[self.tag] = (message, finished)
        connection, now = self.channel.connection, int(time.time())
        number, frame_max = self.channel.channel_number, connection.params.frame_max
        frames = b"".join([published(message, number, frame_max, now) for message in messages])
        connection._output_marshaled_frames([frames])  # noqa: SLF001 - basic_publish ends there too

    def fail_all(self, error: PublishFailed) -> None:
        waiting = list(self.unconfirmed.values())
        self.unconfirmed.clear()
        for message, finished in waiting:
            finished(message, error)


class Publisher:
    """A thread-safe publisher. Callbacks run on the connection's thread.

    ``session`` grows with every connection, and when RabbitMQ begins to block publishers. A sender keeps its messages
    in order by sending them all under the session of the first: once that session is over, the rest fails too.
    """

    def __init__(self, url: str, *, name: str) -> None:
        self._parameters = connection_parameters(url, name=name)
        self._parameters.blocked_connection_timeout = None  # a callback reports it at once, and it ends by itself
        self._name = name
        self._open: _Channel | None = None
        self._connection: Any = None
        self._queued: deque[tuple[Sequence[Outgoing], int, Finished]] = deque()
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._outage = Outage("RabbitMQ", part=name)
        self._pause = 0.0
        self.session = 0
        self.connected = threading.Event()
        self._blocked = False
        self._thread = threading.Thread(target=self._run, name=f"publisher-{name}", daemon=True)
        self._thread.start()

    def send(self, message: Outgoing) -> "Future[None]":
        """Publish. The future resolves once RabbitMQ has confirmed the message, or fails with PublishFailed."""
        future: Future[None] = Future()

        def resolve(_message: Outgoing, error: PublishFailed | None) -> None:
            if error is None:
                future.set_result(None)
            else:
                future.set_exception(error)

        self.send_many([message], self.session, resolve)
        return future

    def send_many(self, messages: Sequence[Outgoing], session: int, finished: Finished) -> None:
        """Publish in this order, within the session. After the first failure, all later messages fail too."""
        if not self.ready:
            why = "RabbitMQ blocks publishers" if self._blocked else "RabbitMQ is not connected"
            _fail(messages, finished, PublishFailed(why))
            return
        with self._lock:
            first = not self._queued
            self._queued.append((messages, session, finished))
        if first:
            try:
                self._connection.ioloop.add_callback_threadsafe(self._publish_queued)
            except (AttributeError, RuntimeError, OSError):
                log.debug("publisher is between connections")  # the next one publishes or fails the queued messages

    @property
    def ready(self) -> bool:
        """True while RabbitMQ is connected and takes messages."""
        return self.connected.is_set() and not self._blocked

    def stop(self) -> None:
        """Close the connection, and wait a moment for the thread to end."""
        self._stopping.set()
        connection = self._connection
        if connection is not None and self.connected.is_set():
            connection.ioloop.add_callback_threadsafe(connection.close)
        self._thread.join(timeout=3)

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._connection = SelectConnection(
                self._parameters,
                on_open_callback=lambda connection: connection.channel(on_open_callback=self._on_channel),
                on_open_error_callback=self._on_closed,
                on_close_callback=self._on_closed,
            )
            self._connection.add_on_connection_blocked_callback(self._on_blocked)
            self._connection.add_on_connection_unblocked_callback(self._on_unblocked)
            self._connection.ioloop.start()
            self._connection.ioloop.close()
            self._stopping.wait(self._pause)

    def _on_channel(self, channel: Any) -> None:
        def on_ready(_frame: Any) -> None:
            if self._outage.passed():
                RECONNECTS.labels(self._name, "RabbitMQ").inc()
            self.connected.set()
            self._publish_queued()

        def on_closed(_channel: Any, reason: Exception) -> None:
            log.debug("publisher channel closed", reason=str(reason))
            if channel.connection.is_open:
                channel.connection.close()

        self._open = _Channel(channel)
        self._blocked = False
        self.session += 1
        channel.add_on_return_callback(self._on_return)
        channel.add_on_close_callback(on_closed)
        channel.confirm_delivery(self._on_confirm, callback=on_ready)

    def _on_blocked(self, _connection: Any, method: Any) -> None:
        """An alarm: RabbitMQ reads nothing from publishers until it has memory or disk again.

        Messages in flight fail at once, though they may lie in the socket and arrive after the alarm. If they are sent
        again on this connection, they arrive after that. On another connection, both copies arrive in order, whichever
        RabbitMQ reads first.
        """
        self._blocked = True
        self._outage.failed(f"it blocks publishers: {method.method.reason}")
        self.session += 1
        self._fail_all(PublishFailed(f"RabbitMQ blocks publishers: {method.method.reason}"))

    def _on_unblocked(self, _connection: Any, _method: Any) -> None:
        self._blocked = False
        self._outage.passed()

    def _on_closed(self, connection: Any, reason: Any) -> None:
        self._pause = 0.0 if self._stopping.is_set() else self._outage.failed(reason)
        self.connected.clear()
        self._fail_all(PublishFailed(f"RabbitMQ closed the connection: {reason}"))
        self._open = None
        connection.ioloop.stop()

    def _fail_all(self, error: PublishFailed) -> None:
        """Fail the unconfirmed messages and those that have not been published yet."""
        if self._open is not None:
            self._open.fail_all(error)
        for messages, _, finished in self._take_queued():
            _fail(messages, finished, error)

    def _take_queued(self) -> list[tuple[Sequence[Outgoing], int, Finished]]:
        with self._lock:
            taken = list(self._queued)
            self._queued.clear()
        return taken

    def _publish_queued(self) -> None:
        for messages, session, finished in self._take_queued():
            if self._open is None or not self._open.channel.is_open or session != self.session:
                _fail(messages, finished, PublishFailed("RabbitMQ is not connected"))
            else:
                self._open.publish(messages, finished)

    def _on_return(self, _channel: Any, method: Any, properties: Any, _body: bytes) -> None:
        """An unroutable message comes back before its confirm, which then finds nothing to do."""
        if self._open is None:
            return
        for tag, (message, finished) in self._open.unconfirmed.items():
            if str(message.message_id) == properties.message_id:
                del self._open.unconfirmed[tag]
                finished(message, Unroutable(f"no queue is bound for {method.routing_key}"))
                return

    def _on_confirm(self, frame: Any) -> None:
        if self._open is None:
            return
        tag, multiple = frame.method.delivery_tag, frame.method.multiple
        tags = list(takewhile(lambda t: t <= tag, self._open.unconfirmed)) if multiple else [tag]
        error = None if frame.method.NAME == "Basic.Ack" else PublishFailed("RabbitMQ refused the message")
        for each in tags:
            sent = self._open.unconfirmed.pop(each, None)
            if sent is not None:
                message, finished = sent
                finished(message, error)


def _fail(messages: Sequence[Outgoing], finished: Finished, error: PublishFailed) -> None:
    for message in messages:
        finished(message, error)
