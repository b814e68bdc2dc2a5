"""How urgent a queue or a message is: the four levels of the specification."""

from enum import IntEnum


class Priority(IntEnum):
    """Larger is more urgent, as RabbitMQ counts. dramatiq counts the other way round."""

    LOW = 0  # strategy signals, maintenance
    MEDIUM = 1  # valuations
    HIGH = 2  # market data, operators
    CRITICAL = 3  # orders
