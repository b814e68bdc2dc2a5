"""The exchanges and queues in RabbitMQ, derived from ``shared.contracts.routing``. ``shared.broker_setup`` makes them.

paperprofit.events            topic   events
paperprofit.commands          topic   commands to one service
<service>.internal            topic   the service's own retries, delays and dead letters
<service>.<topic>.v<N>        queue
<service>.<topic>.later.v<N>  queue   its messages that wait for their retry
<service>.dead.v<N>           queue   messages that RabbitMQ dead-lettered, until they are rows of ``dead_letters``

A queue's arguments never change under its name, because RabbitMQ would refuse them (406). New arguments need a new
VERSION, and the name of a queue that is replicated over a cluster ends in ``.quorum``. In ``<service>.internal`` the
routing key is the name without both, so a sender need not know which queues exist.
"""

import re
from enum import StrEnum
from typing import Any

from shared.contracts.priority import Priority
from shared.contracts.routing import COMMANDS, EVENTS, QUEUES, WORKERS, bindings_of, dead_queue, service_of

VERSION = 2
#: After this many deliveries without an acknowledgement, RabbitMQ dead-letters a message.
DELIVERY_LIMIT = 200
#: In effect no limit, for the queue of dead messages. (-1 means no limit only in RabbitMQ 4.)
NO_DELIVERY_LIMIT = 1_000_000_000


class Kind(StrEnum):
    """RabbitMQ's type of a queue."""

    QUORUM = "quorum"  # replicated over the nodes of a cluster
    CLASSIC = "classic"  # on one node


def internal_exchange(service: str) -> str:
    return f"{service}.internal"


def physical_name(queue: str, kind: Kind) -> str:
    """The name in RabbitMQ of a queue that dramatiq calls ``orders.prices`` or ``orders.prices.DQ``."""
    name = queue.removesuffix(".DQ") + ".later" * queue.endswith(".DQ")
    return f"{name}.v{VERSION}" + ".quorum" * (kind is Kind.QUORUM)


def logical_name(physical: str) -> str:
    """The name in dramatiq of a queue of any release. The first release named its queues of dead messages ``.XQ``."""
    name = re.sub(r"\.v\d+(\.quorum)?$", "", physical)
    if name.endswith(".XQ"):
        return dead_queue(service_of(name))
    return f"{name.removesuffix('.later')}.DQ" if name.endswith(".later") else name


def all_queues() -> tuple[str, ...]:
    """Every queue by the name that dramatiq uses, with those for retries."""
    queues = (*QUEUES, *map(dead_queue, WORKERS))
    return tuple(name for queue in queues for name in (queue, f"{queue}.DQ"))


def kind_of(queue: str, *, replicated: bool) -> Kind:
    """The type of a queue. ``.jobs`` needs priorities and stays classic: quorum queues have at most two of them."""
    return Kind.QUORUM if replicated and not queue.removesuffix(".DQ").endswith(".jobs") else Kind.CLASSIC


def queue_arguments(queue: str, kind: Kind) -> dict[str, Any]:
    service = service_of(queue)
    last = queue.removesuffix(".DQ") == dead_queue(service)
    arguments: dict[str, Any] = {"x-queue-type": kind.value}
    if not last:
        arguments["x-dead-letter-exchange"] = internal_exchange(service)
        arguments["x-dead-letter-routing-key"] = dead_queue(service)
    if kind is Kind.QUORUM:
        arguments["x-delivery-limit"] = NO_DELIVERY_LIMIT if last else DELIVERY_LIMIT
        arguments["x-overflow"] = "reject-publish"  # required by at-least-once dead-lettering
        if not last:
            arguments["x-dead-letter-strategy"] = "at-least-once"
    elif queue.endswith(".jobs"):
        arguments["x-max-priority"] = int(max(Priority))
    return arguments


def definitions(*, replicated: bool) -> dict[str, Any]:
    """Exchanges, queues and bindings of one virtual host, as RabbitMQ imports them."""
    names = {queue: physical_name(queue, kind_of(queue, replicated=replicated)) for queue in all_queues()}
    return {
        "exchanges": [
            {"name": name, "type": "topic", "durable": True, "auto_delete": False, "internal": False, "arguments": {}}
            for name in (EVENTS, COMMANDS, *map(internal_exchange, WORKERS))
        ],
        "queues": [
            {
                "name": names[queue],
                "durable": True,
                "auto_delete": False,
                "arguments": queue_arguments(queue, kind_of(queue, replicated=replicated)),
            }
            for queue in all_queues()
        ],
        "bindings": [
            {
                "source": exchange,
                "destination": names[queue],
                "destination_type": "queue",
                "routing_key": routing_key,
                "arguments": {},
            }
            for queue in all_queues()
            for exchange, routing_key in (
                (internal_exchange(service_of(queue)), queue),
                *((bound.exchange, bound.routing_key) for bound in (bindings_of(queue) if queue in QUEUES else ())),
            )
        ],
    }
