"""dramatiq on RabbitMQ, hardened. What is changed, and why, is told in ARCHITECTURE.md, "The bus"."""

from typing import Any
from uuid import UUID

import dramatiq
import pika.exceptions
import structlog
from dramatiq.brokers.rabbitmq import RabbitmqBroker, _RabbitmqConsumer
from dramatiq.common import current_millis, q_name
from dramatiq.errors import ConnectionClosed

from shared.bus.envelope import Outgoing, stamped
from shared.bus.publisher import Publisher, PublishFailed, connection_parameters
from shared.bus.topology import declare_service, internal_exchange
from shared.contracts.routing import service_of

log = structlog.get_logger(__name__)

CONFIRM_SECONDS = 20


class ServiceBroker(RabbitmqBroker):
    """The broker of one service: it consumes the service's own queues and publishes to exchanges."""

    def __init__(self, url: str, *, service: str, middleware: list[dramatiq.Middleware]) -> None:
        super().__init__(middleware=middleware)
        self.parameters: Any = connection_parameters(url, name=f"{service}-consumer")
        self.service = service
        self.publisher = Publisher(url, name=f"{service}-publisher")
        self.attached: set[str] = set()

    @property
    def consumer_class(self) -> type["ServiceConsumer"]:
        return ServiceConsumer

    def _ensure_queue(self, canonical_queue_name: str) -> None:
        if canonical_queue_name not in self.queues_pending:
            return
        try:
            declare_service(self.channel, self.service)
        except (pika.exceptions.AMQPConnectionError, pika.exceptions.AMQPChannelError, OSError) as error:
            raise ConnectionClosed(error) from None
        finally:
            del self.connection  # this thread's own: nobody would answer its heartbeats
        self.queues_pending.clear()

    def enqueue(self, message: Any, *, delay: int | None = None) -> Any:
        """Send to a queue of this service, now or after ``delay`` milliseconds, and wait for the confirm.

        Goes through the service's internal exchange: a service can put nothing into a foreign queue.
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
        self.publisher.stop()
        super().close()


class ServiceConsumer(_RabbitmqConsumer):
    """Stamps what it receives with its own queue, and lets a message be acknowledged only through itself."""

    def __init__(self, broker: ServiceBroker, queue_name: str, prefetch: int, timeout: int) -> None:
        try:
            super().__init__(broker, queue_name, prefetch, timeout)
        except OSError as error:  # while RabbitMQ is away, its name may not be known either
            raise ConnectionClosed(error) from None
        broker.attached.add(queue_name)
        log.info("consumer attached", queue=queue_name)

    def __next__(self) -> Any:
        try:
            received = super().__next__()
        except ConnectionClosed as error:
            self.broker.attached.discard(self.queue_name)
            log.warning("consumer lost RabbitMQ", queue=self.queue_name, error=str(error))
            raise
        if received is not None:
            queue = q_name(self.queue_name)
            delayed = queue != self.queue_name
            received._message = stamped(received._message, queue, delayed=delayed)  # noqa: SLF001
            received.consumer = self
        return received

    def ack(self, message: Any) -> None:
        """Delivery tags start again after a reconnect, so an old message's tag names another one now."""
        if message.consumer is self:
            super().ack(message)
        else:
            log.info("left to redelivery", queue=self.queue_name, message_id=message.message_id)

    def nack(self, message: Any) -> None:
        if message.consumer is self:
            super().nack(message)
        else:
            log.info("left to redelivery", queue=self.queue_name, message_id=message.message_id)
