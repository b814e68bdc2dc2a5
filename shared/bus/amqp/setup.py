"""Make the services' exchanges, queues, bindings and users in RabbitMQ, and retire the queues of earlier releases.

``python -m shared.broker_setup`` calls these functions.
"""

import re
import time
from typing import Any

import pika
import structlog

from shared.bus.amqp.connections import connect, connection_parameters
from shared.bus.amqp.management import Management, ManagementRefused, quoted
from shared.bus.amqp.topology import all_queues, definitions, internal_exchange, kind_of, logical_name, physical_name
from shared.contracts.routing import (
    COMMANDS,
    EVENTS,
    LIVE,
    PUBLISHERS,
    SERVICES,
    WORKERS,
    exchange_of,
    sent_under,
    service_of,
)
from shared.settings import InvalidSettings

log = structlog.get_logger(__name__)

WAIT_SECONDS = 60.0
#: The limits of each service's user. Twenty replicas stay below.
MOST_CONNECTIONS = 400
MOST_CHANNELS = 4000
#: The names that RabbitMQ gives to queues that are declared without one, which the gateway's processes do.
SERVER_NAMED = r"amq\.gen-.*"
#: A gateway process needs one. They are bounded together, and each of them by a policy that no user may override.
MOST_SERVER_NAMED = 50
POLICY = "paperprofit-server-named"
LONGEST_BYTES = 32 * 1024 * 1024
UNUSED_MS = 10 * 60 * 1000


def user_of(service: str) -> str:
    return f"paperprofit_{service}"


def wait_until_reachable(management: Management) -> None:
    """Wait until the management API answers. Raises OSError where it does not within WAIT_SECONDS."""
    deadline = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            management.call("GET", "overview")
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.5)
        else:
            return


def prepare(management: Management, vhost: str, *, replicated: bool | None = None) -> None:
    """Make exchanges, queues and bindings. By default, queues are replicated if there are several nodes.

    Raises ManagementRefused where a queue exists with other arguments: RabbitMQ would silently keep it as it is.
    """
    wanted = definitions(replicated=is_cluster(management) if replicated is None else replicated)
    try:
        management.call("POST", f"definitions/{quoted(vhost)}", wanted)
    except ManagementRefused:  # RabbitMQ 3.10 crashes a quorum queue that ticks while it is declared: repeating is safe
        management.call("POST", f"definitions/{quoted(vhost)}", wanted)
    existing = {queue["name"]: queue["arguments"] for queue in _queues(management, vhost)}
    for queue in wanted["queues"]:
        if existing[queue["name"]] != queue["arguments"]:
            raise ManagementRefused(f"{queue['name']} exists with other arguments: move its messages, then delete it")


def _queues(management: Management, vhost: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = management.call("GET", f"queues/{quoted(vhost)}?disable_stats=true")
    return found


def limit(management: Management, vhost: str) -> None:
    """Bound the queues of the gateway's processes in number, length and life. The virtual host is ours alone.

    They are made to be deleted with their connection, but RabbitMQ has no right that excludes durable ones.
    """
    policy = {
        "pattern": f"^{SERVER_NAMED}$",
        "definition": {"expires": UNUSED_MS, "max-length-bytes": LONGEST_BYTES},
        "priority": 0,
        "apply-to": "queues",
    }
    management.call("PUT", f"operator-policies/{quoted(vhost)}/{POLICY}", policy)
    named = [queue for queue in _queues(management, vhost) if not re.fullmatch(SERVER_NAMED, queue["name"])]
    most = {"value": len(named) + MOST_SERVER_NAMED}
    management.call("PUT", f"vhost-limits/{quoted(vhost)}/max-queues", most)


def is_cluster(management: Management) -> bool:
    return len(management.call("GET", "nodes")) > 1


def make_user(management: Management, vhost: str, service: str, password: str) -> None:
    """Make the service's user, or reset its password and rights. Raises InvalidSettings where no service has that name.

    Only the gateway's user may read the management API, from which the gateway shows queue statistics.
    """
    if service not in SERVICES:
        raise InvalidSettings(f"PAPERPROFIT_RABBITMQ_PASSWORDS names {service}, which is no service")
    user = user_of(service)
    tags = "" if service in WORKERS else "management"
    management.call("PUT", f"users/{user}", {"password": password, "tags": tags})
    management.call("PUT", f"permissions/{quoted(vhost)}/{user}", permissions(service))
    for limit, most in (("max-connections", MOST_CONNECTIONS), ("max-channels", MOST_CHANNELS)):
        management.call("PUT", f"user-limits/{user}/{limit}", {"value": most})
    for exchange in (EVENTS, COMMANDS):
        rights = {"exchange": exchange, **topic_permissions(service, exchange)}
        management.call("PUT", f"topic-permissions/{quoted(vhost)}/{user}", rights)


def permissions(service: str) -> dict[str, str]:
    """Patterns of the names that a service may use: its own queues and exchange, and the two shared exchanges."""
    if service in WORKERS:
        write = _any(EVENTS, COMMANDS, internal_exchange(service))
        return {"configure": "^$", "write": f"^({write})$", "read": rf"^{service}\..*$"}
    # the gateway declares queues that RabbitMQ names, and binds them to the events: no client may choose such a name
    return {
        "configure": f"^{SERVER_NAMED}$",
        "write": f"^({SERVER_NAMED}|{_any(EVENTS, COMMANDS)})$",
        "read": f"^({SERVER_NAMED}|{_any(EVENTS)})$",
    }


def topic_permissions(service: str, exchange: str) -> dict[str, str]:
    """Patterns of the routing keys that the service may publish under, and of those that it may bind a queue to."""
    published = [
        key
        for message, services in PUBLISHERS.items()
        if service in services and exchange_of(message) == exchange
        for key in sent_under(message, service)
    ]
    bound = [] if service in WORKERS else [key for message in LIVE for key in sent_under(message, service)]
    return {"write": f"^({_any(*published)})$", "read": f"^({_any(*bound)})$"}


def _any(*names: str) -> str:
    return "|".join(re.escape(name) for name in names)


def retire(management: Management, vhost: str, amqp_url: str) -> None:
    """Unbind the queues of earlier releases, move their messages, and delete those without a consumer.

    Raises pika's AMQPError where RabbitMQ closes the connection or does not answer.
    """
    replicated = is_cluster(management)
    wanted = {queue: physical_name(queue, kind_of(queue, replicated=replicated)) for queue in all_queues()}
    existing = {queue["name"] for queue in _queues(management, vhost)}
    old = {name: logical_name(name) for name in existing - set(wanted.values()) if logical_name(name) in wanted}
    for name in old:
        for binding in management.call("GET", f"queues/{quoted(vhost)}/{quoted(name)}/bindings"):
            if binding["source"]:
                source, key = quoted(binding["source"]), quoted(binding["properties_key"])
                management.call("DELETE", f"bindings/{quoted(vhost)}/e/{source}/q/{quoted(name)}/{key}")
    if old:
        with connect(connection_parameters(amqp_url, name="broker-setup")) as connection:
            for name, queue in old.items():
                _move_messages_and_delete(connection, name, queue)


def _move_messages_and_delete(connection: pika.BlockingConnection, old: str, queue: str) -> None:
    """Each message is confirmed in the new queue before it is acknowledged in the old one.

    A crash in between duplicates the message, and the consumer's inbox recognises the duplicate.
    """
    channel = connection.channel()
    channel.confirm_delivery()
    moved = 0
    while True:
        method, properties, body = channel.basic_get(old)
        if method is None or properties is None or body is None:
            break
        channel.basic_publish(internal_exchange(service_of(queue)), queue, body, properties, mandatory=True)
        channel.basic_ack(method.delivery_tag or 0)
        moved += 1
    try:
        channel.queue_delete(old, if_unused=True, if_empty=True)
    except pika.exceptions.ChannelClosedByBroker:
        log.warning("a replica of an earlier release still consumes a queue: run this again once it ended", queue=old)
    else:
        channel.close()
        log.info("queue of an earlier release deleted", queue=old, moved=moved, to=queue)
