"""dramatiq's broker on RabbitMQ, hardened. ARCHITECTURE.md, "The bus", lists the changes and their reasons."""

import itertools
import threading
import time
from collections import deque
from heapq import heappop, heappush
from typing import Any
from uuid import UUID

import dramatiq
import pika.exceptions
import structlog
from dramatiq.brokers.rabbitmq import RabbitmqBroker, _RabbitmqMessage
from dramatiq.common import current_millis, q_name
from dramatiq.errors import ConnectionClosed

from shared.bus.amqp.connections import connect, connection_parameters
from shared.bus.amqp.publisher import Publisher, PublishFailed
from shared.bus.amqp.topology import Kind, internal_exchange, physical_name
from shared.bus.envelope import Outgoing, stamped
from shared.bus.metrics import RECONNECTS, REDELIVERED
from shared.bus.poison import given_up, read
from shared.contracts.routing import dead_queue, service_of
from shared.outage import Outage, pause_seconds

log = structlog.get_logger(__name__)

CONFIRM_SECONDS = 20
NOT_FOUND = 404
#: A message that can be neither retried nor dead-lettered is requeued after this delay.
REQUEUE_PAUSE_SECONDS = 1.0
#: Handled messages are acknowledged together: at the latest after ACK_SECONDS, or once they are one ACK_PART-th of the
#: prefetch. RabbitMQ then sends the next messages together too, and the consumer wakes up once for all of them.
ACK_SECONDS = 0.1
ACK_PART = 8
_CONNECTION_ERRORS = (pika.exceptions.AMQPConnectionError, pika.exceptions.AMQPChannelError, OSError, AssertionError)


class ServiceBroker(RabbitmqBroker):
    """The broker of one service: it consumes the service's own queues and publishes to exchanges."""

    def __init__(self, url: str, *, service: str, middleware: list[dramatiq.Middleware]) -> None:
        self.stopping = threading.Event()
        super().__init__(middleware=[*middleware, _StopWaiting(self.stopping)])
        self.parameters: Any = connection_parameters(url, name=f"{service}-consumer")
        self.service = service
        self.publisher = Publisher(url, name=f"{service}-publisher")
        self.outage = Outage("RabbitMQ", part=f"{service}-consumers")
        self.attached: set[str] = set()
        self.kind = Kind.CLASSIC

    def consume(self, queue_name: str, prefetch: int = 1, timeout: int = 5000) -> "ServiceConsumer":
        """Attach to the queue. While RabbitMQ is unavailable, retry with growing pauses.

        All consumers of the service share one outage, but each has pauses of its own: the tries of the others do not
        make them longer. Raises ConnectionClosed where the broker is stopping.
        """
        for failures in itertools.count():
            try:
                return ServiceConsumer(self, queue_name, prefetch, timeout)
            except ConnectionClosed as error:
                self.outage.failed(error)
                if self.stopping.wait(pause_seconds(failures)):
                    raise
        raise AssertionError("unreachable")

    def _ensure_queue(self, canonical_queue_name: str) -> None:
        """Do nothing: ``shared.broker_setup`` makes the queues, and a service may not."""

    def enqueue(self, message: Any, *, delay: int | None = None) -> Any:
        """Send to a queue of this service, now or after ``delay`` milliseconds, and wait for the confirm.

        It goes through the service's internal exchange, because a service may not write to a foreign queue. Raises
        ConnectionClosed where RabbitMQ does not confirm the message.
        """
        queue = q_name(message.queue_name)
        options = {} if delay is None else {"eta": current_millis() + delay}
        message = stamped(message, queue, delayed=delay is not None).copy(options=options)
        sent = Outgoing(
            UUID(message.message_id),
            internal_exchange(service_of(queue)),
            message.queue_name,
            "",
            message.encode(),
        )
        self.emit_before("enqueue", message, delay)
        try:
            self.publisher.send(sent).result(CONFIRM_SECONDS)
        except (PublishFailed, TimeoutError) as error:
            raise ConnectionClosed(error) from None
        self.emit_after("enqueue", message, delay)
        return message

    def close(self) -> None:
        self.stopping.set()
        self.publisher.stop()
        super().close()


class _StopWaiting(dramatiq.Middleware):
    """Sets ``stopping`` while the worker shuts down, so that nothing waits for RabbitMQ any more."""

    def __init__(self, stopping: threading.Event) -> None:
        self.stopping = stopping

    def before_worker_boot(self, _broker: dramatiq.Broker, _worker: dramatiq.Worker) -> None:
        self.stopping.clear()

    def before_worker_shutdown(self, _broker: dramatiq.Broker, _worker: dramatiq.Worker) -> None:
        self.stopping.set()


class ServiceConsumer(dramatiq.Consumer):
    """Hands out the messages of one queue, stamped with that queue, and settles only its own messages.

    Acknowledgements of several threads go out together. The consumer of a delay queue wakes up when the next message is
    due. Only ``ack`` and ``nack`` may be called from other threads.
    """

    def __init__(self, broker: ServiceBroker, queue_name: str, prefetch: int, timeout: int) -> None:
        self.broker = broker
        self.queue_name = queue_name
        self.queue = q_name(queue_name)
        self.seconds = min(timeout / 1000, ACK_SECONDS)
        self._enough = max(1, prefetch // ACK_PART)
        self._received: deque[tuple[Any, Any, bytes]] = deque()
        self._unacked: deque[int] = deque()
        self._etas: list[int] = []
        self._done: list[int] = []
        self._acknowledged = 0.0
        self._lock = threading.Lock()
        self.connection: Any = None
        try:
            self.connection = connect(broker.parameters)
            self.channel = self._attach(prefetch)
        except _CONNECTION_ERRORS as error:
            if self.connection is not None and self.connection.is_open:
                self.connection.close()
            raise ConnectionClosed(error) from None
        broker.attached.add(queue_name)
        if broker.outage.passed():
            RECONNECTS.labels(broker.service, "RabbitMQ").inc()
        log.info("consumer attached", queue=queue_name)

    def _attach(self, prefetch: int) -> Any:
        """Consume the queue under the name that exists: replicated or not. The kind found last is tried first.

        Raises pika's AMQPChannelError where the queue does not exist.
        """
        for kind in sorted(Kind, key=lambda kind: kind is not self.broker.kind):
            channel = self.connection.channel()
            channel.basic_qos(prefetch_count=prefetch)
            channel.add_on_cancel_callback(lambda _, of=channel: of.close())  # its queue was deleted
            try:
                channel.basic_consume(
                    physical_name(self.queue_name, kind), lambda _, *received: self._received.append(received)
                )
            except pika.exceptions.ChannelClosedByBroker as error:
                if error.reply_code != NOT_FOUND:
                    raise
            else:
                self.broker.kind = kind
                return channel
        raise pika.exceptions.AMQPChannelError(f"no queue {self.queue_name}: run python -m shared.broker_setup")

    def __next__(self) -> Any:
        if not self._received:
            try:
                if not self.channel.is_open:
                    raise pika.exceptions.ChannelWrongStateError("the channel is closed")
                now = current_millis()
                while self._etas and self._etas[0] <= now:
                    heappop(self._etas)
                due_in = (self._etas[0] - now) / 1000 if self._etas else self.seconds
                self.connection.process_data_events(min(self.seconds, due_in))
                if self._done and time.monotonic() >= self._acknowledged + ACK_SECONDS:
                    self._acknowledge()
            except _CONNECTION_ERRORS as error:
                self.broker.attached.discard(self.queue_name)
                self.broker.outage.failed(error)
                raise ConnectionClosed(error) from None
        return self._decode(*self._received.popleft()) if self._received else None

    def _decode(self, method: Any, properties: Any, body: bytes) -> Any:
        if self.queue == dead_queue(self.broker.service):
            message = given_up(body, self.queue, properties)
        else:
            own = method.exchange == internal_exchange(self.broker.service)
            message = read(
                body,
                self.queue,
                self.broker.actors,
                delayed=self.queue != self.queue_name,
                message_id=properties.message_id,
                sent_under=None if own else method.routing_key,
            )
        received: Any = _RabbitmqMessage(method.redelivered, method.delivery_tag, message)
        received.consumer = self
        self._unacked.append(method.delivery_tag)
        if isinstance(eta := message.options.get("eta"), (int, float)):
            heappush(self._etas, int(eta))
        if method.redelivered:
            REDELIVERED.labels(self.queue).inc()
        return received

    def ack(self, message: Any) -> None:
        """Acknowledge the message, unless it came on an earlier connection: its tag names another message now."""
        if not self._is_own(message):
            return
        with self._lock:
            self._done.append(message._tag)  # noqa: SLF001 - dramatiq's own
            enough = len(self._done) == self._enough
        if enough:
            self._call_soon(self._acknowledge)

    def nack(self, message: Any) -> None:
        """Requeue the message after a delay: it could be neither handled, nor retried, nor dead-lettered."""

        def requeue() -> None:
            self._unacked.remove(tag)
            self.channel.basic_nack(tag, requeue=True)

        if not self._is_own(message):
            return
        tag = message._tag  # noqa: SLF001
        self.broker.stopping.wait(REQUEUE_PAUSE_SECONDS)
        log.warning("message requeued", queue=self.queue_name, message_id=message.message_id)
        self._call_soon(requeue)

    def requeue(self, messages: Any) -> None:
        """Do nothing: RabbitMQ requeues unacknowledged messages when the connection ends."""

    def _is_own(self, message: Any) -> bool:
        if message.consumer is not self:
            log.info("left to redelivery", queue=self.queue_name, message_id=message.message_id)
        return message.consumer is self

    def _call_soon(self, callback: Any) -> None:
        try:
            self.connection.add_callback_threadsafe(callback)
        except _CONNECTION_ERRORS as error:
            raise ConnectionClosed(error) from None

    def _acknowledge(self) -> None:
        with self._lock:
            done, self._done = set(self._done), []
        self._acknowledged = time.monotonic()
        through = 0
        while self._unacked and self._unacked[0] in done:
            through = self._unacked.popleft()
            done.remove(through)
        if through:
            self.channel.basic_ack(through, multiple=True)
        for tag in done:
            self._unacked.remove(tag)
            self.channel.basic_ack(tag)

    def close(self) -> None:
        self.broker.attached.discard(self.queue_name)
        try:
            if self._done and self.channel.is_open:
                self._acknowledge()
            if self.connection.is_open:
                self.connection.close()
        except _CONNECTION_ERRORS as error:
            raise ConnectionClosed(error) from None
