"""What exists in RabbitMQ, derived from ``shared.contracts.routing``. ``shared.bus.amqp.setup`` makes it.

paperprofit.events           topic   what happened
paperprofit.commands         topic   what one service is asked to do
<service>.internal           topic   the service's own retries, delays and dead letters
<service>.<what>.v<N>        queue
<service>.<what>.later.v<N>  queue   messages of it that wait for their retry
<service>.dead.v<N>          queue   what RabbitMQ itself gave up, until it is a row of ``dead_letters``

A queue's arguments never change under its name: RabbitMQ would refuse it (406). New arguments are a new VERSION,
and a queue that is replicated over a cluster ends in ``.quorum``. Inside ``<service>.internal`` the routing key is the
name without both, so whoever sends a message there need not know which of them exist.
"""

import re
from enum import StrEnum
from typing import Any

from shared.contracts.priority import Priority
from shared.contracts.routing import COMMANDS, EVENTS, QUEUES, WORKERS, bindings_of, dead_queue, service_of

VERSION = 2
#: So often may a worker die over a message, or hand it back, before RabbitMQ gives it up.
DELIVERY_LIMIT = 200
#: In effect none: what was given up is not given up again. (-1 means none only to RabbitMQ 4.)
NO_DELIVERY_LIMIT = 1_000_000_000


class Kind(StrEnum):
    """How a queue is kept."""

    QUORUM = "quorum"  # a copy on each node of a cluster
    CLASSIC = "classic"  # on one node


def internal_exchange(service: str) -> str:
    return f"{service}.internal"


def physical_name(queue: str, kind: Kind) -> str:
    """The name in RabbitMQ of a queue that dramatiq calls ``orders.prices`` or ``orders.prices.DQ``."""
    name = queue.removesuffix(".DQ") + ".later" * queue.endswith(".DQ")
    return f"{name}.v{VERSION}" + ".quorum" * (kind is Kind.QUORUM)


def logical_name(physical: str) -> str:
    """The other way round, for every release so far; the first had ``.XQ`` for what was dead."""
    name = re.sub(r"\.v\d+(\.quorum)?$", "", physical)
    if name.endswith(".XQ"):
        return dead_queue(service_of(name))
    return f"{name.removesuffix('.later')}.DQ" if name.endswith(".later") else name


def all_queues() -> tuple[str, ...]:
    """Every queue as dramatiq calls it, those for retries too."""
    queues = (*QUEUES, *map(dead_queue, WORKERS))
    return tuple(name for queue in queues for name in (queue, f"{queue}.DQ"))


def kind_of(queue: str, *, replicated: bool) -> Kind:
    """Quorum queues know no priorities among their messages (two since RabbitMQ 4), so ``.jobs`` stays classic."""
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
        arguments["x-overflow"] = "reject-publish"  # and so nothing is lost on the way to the dead letters
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
            for exchange, routing_key in _bindings(queue)
        ],
    }


def _bindings(queue: str) -> list[tuple[str, str]]:
    outside = [(b.exchange, b.routing_key) for b in bindings_of(queue)] if queue in QUEUES else []
    return [(internal_exchange(service_of(queue)), queue), *outside]
