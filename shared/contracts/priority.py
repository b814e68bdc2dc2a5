"""The priority of a queue or a message, in the four levels of the specification."""

from enum import IntEnum


class Priority(IntEnum):
    """A larger number is more urgent, as in RabbitMQ. In dramatiq a smaller one is."""

    LOW = 0  # strategy signals, maintenance
    MEDIUM = 1  # valuations
    HIGH = 2  # market data, operators
    CRITICAL = 3  # orders
