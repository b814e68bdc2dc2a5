"""What exists in RabbitMQ: exchanges, queues and bindings, derived from ``shared.contracts.routing``.

paperprofit.events    topic   what happened
paperprofit.commands  topic   what one service is asked to do
<service>.internal    topic   the service's own retries, delays and dead letters
<service>.<what>      queue, with <queue>.DQ (waiting for a retry) and <queue>.XQ (dead)
"""

from typing import Any

from shared.contracts.routing import COMMANDS, EVENTS, WORKERS, bindings_of, queues_of, service_of

#: Dead letters that could not be written to the table wait here this long, in milliseconds.
DEAD_LETTER_TTL_MS = 28 * 24 * 3600 * 1000


def internal_exchange(service: str) -> str:
    return f"{service}.internal"


def queue_arguments(queue: str) -> dict[str, Any]:
    return {
        "x-dead-letter-exchange": internal_exchange(service_of(queue)),
        "x-dead-letter-routing-key": f"{queue}.XQ",
    }


def declare_service(channel: Any, service: str) -> None:
    """Make what the service needs; it changes nothing where it already is so."""
    for exchange in (EVENTS, COMMANDS, internal_exchange(service)):
        channel.exchange_declare(exchange, exchange_type="topic", durable=True)
    for queue in queues_of(service):
        _declare_queue(channel, queue)


def declare_topology(channel: Any) -> None:
    """Make what all services need, so that nothing is published before its queue is there."""
    for service in WORKERS:
        declare_service(channel, service)


def _declare_queue(channel: Any, queue: str) -> None:
    internal = internal_exchange(service_of(queue))
    arguments = queue_arguments(queue)
    channel.queue_declare(queue, durable=True, arguments=arguments)
    channel.queue_declare(f"{queue}.DQ", durable=True, arguments=arguments)
    channel.queue_declare(f"{queue}.XQ", durable=True, arguments={"x-message-ttl": DEAD_LETTER_TTL_MS})
    for name in (queue, f"{queue}.DQ", f"{queue}.XQ"):
        channel.queue_bind(name, internal, routing_key=name)
    for binding in bindings_of(queue):
        channel.queue_bind(queue, binding.exchange, routing_key=binding.routing_key)
