"""Makes what the services need in RabbitMQ: exchanges, queues, bindings, and a user for each with the fewest rights.

    python -m shared.bus.amqp.setup

Run it before the services start, and again after every upgrade: it changes nothing where all is as it should be. The
queues of an earlier release are unbound, what waits in them is moved, and those that nobody uses any more are deleted.
"""

import re
import sys
import time
from typing import Any

import pika
import structlog
from pydantic import Field, Json, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

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
from shared.observability.logs import configure_logs
from shared.settings import InvalidSettings, ServiceSettings, load

log = structlog.get_logger(__name__)

WAIT_SECONDS = 60.0


class SetupSettings(BaseSettings):
    """``rabbitmq_url`` and ``rabbitmq_management_url`` with an administrator's name and password."""

    model_config = SettingsConfigDict(env_prefix="PAPERPROFIT_", extra="ignore")

    rabbitmq_url: SecretStr = SecretStr("amqp://guest:guest@127.0.0.1:5672/%2F")
    rabbitmq_management_url: SecretStr = SecretStr("http://guest:guest@127.0.0.1:15672")
    rabbitmq_vhost: str = "/"
    rabbitmq_passwords: Json[dict[str, SecretStr]] = Field(
        default="{}", validate_default=True, description="of each service's user; without it none are made"
    )


def user_of(service: str) -> str:
    return f"paperprofit_{service}"


def main() -> int:
    configure_logs(ServiceSettings())
    try:
        settings = load(SetupSettings)
        management = Management(settings.rabbitmq_management_url.get_secret_value())
        _wait_for(management)
        prepare(management, settings.rabbitmq_vhost)
        for service, password in settings.rabbitmq_passwords.items():
            make_user(management, settings.rabbitmq_vhost, service, password.get_secret_value())
        retire(management, settings.rabbitmq_vhost, settings.rabbitmq_url.get_secret_value())
    except (InvalidSettings, ManagementRefused, OSError, pika.exceptions.AMQPError) as error:
        log.critical("RabbitMQ could not be set up", error=str(error) or type(error).__name__)
        return 1
    log.info("RabbitMQ is set up")
    return 0


def prepare(management: Management, vhost: str, *, replicated: bool | None = None) -> None:
    """Make exchanges, queues and bindings. Unless told otherwise, queues are replicated if there are several nodes.

    RabbitMQ passes over a queue that is there with other arguments; that is refused here, by name.
    """
    wanted = definitions(replicated=is_cluster(management) if replicated is None else replicated)
    management.call("POST", f"definitions/{quoted(vhost)}", wanted)
    there = {queue["name"]: queue["arguments"] for queue in _queues(management, vhost)}
    for queue in wanted["queues"]:
        if there[queue["name"]] != queue["arguments"]:
            raise ManagementRefused(f"{queue['name']} is there with other arguments: move its messages, and delete it")


def _queues(management: Management, vhost: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = management.call("GET", f"queues/{quoted(vhost)}?disable_stats=true")
    return found


def is_cluster(management: Management) -> bool:
    return len(management.call("GET", "nodes")) > 1


def make_user(management: Management, vhost: str, service: str, password: str) -> None:
    """Make the service's user, or set its password and rights anew."""
    if service not in SERVICES:
        raise InvalidSettings(f"PAPERPROFIT_RABBITMQ_PASSWORDS: there is no service {service}")
    user = user_of(service)
    tags = "" if service in WORKERS else "management"  # the gateway shows the queues' figures
    management.call("PUT", f"users/{user}", {"password": password, "tags": tags})
    management.call("PUT", f"permissions/{quoted(vhost)}/{user}", permissions(service))
    for exchange in (EVENTS, COMMANDS):
        rights = {"exchange": exchange, **topic_permissions(service, exchange)}
        management.call("PUT", f"topic-permissions/{quoted(vhost)}/{user}", rights)


def permissions(service: str) -> dict[str, str]:
    """What a service may touch: its own queues and exchange, and the two exchanges that all publish to."""
    own = rf"{service}\..*"
    if service in WORKERS:
        write = _any(EVENTS, COMMANDS, internal_exchange(service))
        return {"configure": "^$", "write": f"^({write})$", "read": f"^{own}$"}
    # the gateway makes queues of its own that die with it, and binds them to the events
    return {
        "configure": f"^{own}$",
        "write": f"^({own}|{_any(EVENTS, COMMANDS)})$",
        "read": f"^({own}|{_any(EVENTS)})$",
    }


def topic_permissions(service: str, exchange: str) -> dict[str, str]:
    """The routing keys that the service may publish, and those that it may bind a queue to."""
    published = [
        key
        for message, services in PUBLISHERS.items()
        if service in services and exchange_of(message) == exchange
        for key in sent_under(message, service)
    ]
    heard = [] if service in WORKERS else [key for message in LIVE for key in sent_under(message, service)]
    return {"write": f"^({_any(*published)})$", "read": f"^({_any(*heard)})$"}


def _any(*names: str) -> str:
    return "|".join(re.escape(name) for name in names)


def retire(management: Management, vhost: str, amqp_url: str) -> None:
    """Unbind the queues of earlier releases, move what waits in them, and delete those that nobody consumes."""
    replicated = is_cluster(management)
    wanted = {queue: physical_name(queue, kind_of(queue, replicated=replicated)) for queue in all_queues()}
    there = {queue["name"] for queue in _queues(management, vhost)}
    old = {name: logical_name(name) for name in there - set(wanted.values()) if logical_name(name) in wanted}
    for name in old:
        for binding in management.call("GET", f"queues/{quoted(vhost)}/{quoted(name)}/bindings"):
            if binding["source"]:
                source, key = quoted(binding["source"]), quoted(binding["properties_key"])
                management.call("DELETE", f"bindings/{quoted(vhost)}/e/{source}/q/{quoted(name)}/{key}")
    if old:
        with pika.BlockingConnection(pika.URLParameters(amqp_url)) as connection:
            for name, queue in old.items():
                _empty(connection, name, queue)


def _empty(connection: pika.BlockingConnection, old: str, queue: str) -> None:
    """Each message is confirmed in its new queue before it is gone from the old; the inbox knows what comes twice."""
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
        log.warning("replicas of an earlier release still use a queue; run this again when they have ended", queue=old)
    else:
        channel.close()
        log.info("queue of an earlier release deleted", queue=old, moved=moved, to=queue)


def _wait_for(management: Management) -> None:
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


if __name__ == "__main__":
    sys.exit(main())
