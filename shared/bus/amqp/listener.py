"""A live feed of messages from RabbitMQ for one process, on a bounded queue that is deleted with its connection.

A missed message loses nothing: it only announces rows that can be read.
"""

import threading
from collections.abc import Iterable
from typing import Any

import dramatiq
import pika.exceptions
import structlog
from dramatiq.errors import DecodeError

from shared.background import Background
from shared.bus.amqp.connections import connect, connection_parameters
from shared.bus.inprocess import Callback
from shared.outage import Outage

log = structlog.get_logger(__name__)

MAX_WAITING = 10_000


class Listener(Background):
    """Calls ``callback(wire_name, body)`` on its own thread for each message under the (exchange, key) ``bindings``.

    RabbitMQ names the queue, so that the user needs no right to make anything under a name of its own choice. ``name``
    is that of the connection.
    """

    def __init__(self, url: str, *, name: str, bindings: Iterable[tuple[str, str]], callback: Callback) -> None:
        super().__init__(f"listener-{name}")
        self._parameters = connection_parameters(url, name=name)
        self._name = name
        self._bindings = tuple(bindings)
        self._callback = callback
        self._outage = Outage("RabbitMQ", part=name)
        self.attached = threading.Event()

    def run(self) -> None:
        while not self.stopping.is_set():
            try:
                with connect(self._parameters) as connection:
                    self._listen(connection.channel())
            except (pika.exceptions.AMQPError, OSError) as error:
                self.attached.clear()
                self.stopping.wait(self._outage.failed(error))

    def _listen(self, channel: Any) -> None:
        arguments = {"x-max-length": MAX_WAITING, "x-overflow": "drop-head"}
        queue = channel.queue_declare("", exclusive=True, auto_delete=True, arguments=arguments).method.queue
        for exchange, routing_key in self._bindings:
            channel.queue_bind(queue, exchange, routing_key)
        self.attached.set()
        self._outage.passed()
        for method, _, body in channel.consume(queue, auto_ack=True, inactivity_timeout=0.5):
            if self.stopping.is_set():
                return
            if method is None:
                continue
            try:
                message: dramatiq.Message[None] = dramatiq.Message.decode(body)
            except DecodeError:
                log.warning("listener dropped an undecodable message", listener=self._name, size=len(body))
            else:
                self._callback(message.actor_name, message.kwargs)
