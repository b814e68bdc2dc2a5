"""Connections to RabbitMQ: their parameters, with bounds for every wait."""

import pika
import pika.exceptions
from pika.adapters.utils.connection_workflow import AMQPConnectorException

from shared import tcp

#: RabbitMQ and its clients give each other up after 15 to 30 s without a sign of life. This finds a peer whose kernel
#: still answers, while TCP finds a vanished one sooner. RabbitMQ then delivers unacknowledged messages to another.
HEARTBEAT_SECONDS = 10
#: To establish a connection, with all its handshakes. Every user of a connection tries again by itself.
HANDSHAKE_SECONDS = 10
#: Names of pika's ``tcp_options``.
TCP_OPTIONS = {
    "TCP_KEEPIDLE": tcp.IDLE_SECONDS,
    "TCP_KEEPINTVL": tcp.INTERVAL_SECONDS,
    "TCP_KEEPCNT": tcp.COUNT,
    "TCP_USER_TIMEOUT": tcp.UNANSWERED_MS,
}


def connection_parameters(url: str, *, name: str) -> pika.URLParameters:
    """Connection parameters: a name for RabbitMQ's console, and bounds for a broker that vanishes or blocks.

    The URL may set another heartbeat (``?heartbeat=30``, seconds).
    """
    parameters = pika.URLParameters(url)
    parameters.client_properties = {"connection_name": name}
    parameters.blocked_connection_timeout = 30
    if parameters.heartbeat is None:
        parameters.heartbeat = HEARTBEAT_SECONDS
    parameters.tcp_options = TCP_OPTIONS
    parameters.socket_timeout = tcp.CONNECT_SECONDS
    parameters.stack_timeout = HANDSHAKE_SECONDS
    parameters.connection_attempts = 1
    return parameters


def connect(parameters: pika.URLParameters) -> pika.BlockingConnection:
    """Connect. Raises pika's AMQPConnectionError, also where pika has another error for a handshake without answer."""
    try:
        return pika.BlockingConnection(parameters)
    except AMQPConnectorException as error:
        raise pika.exceptions.AMQPConnectionError(error) from None
