"""The bus as an AsyncAPI 3.0 document, for those who consume or send without our code.

All of it follows from the routing table and the models. ``python -m docs.asyncapi`` prints it.
"""

import json
import sys
from collections.abc import Iterable, Iterator
from inspect import cleandoc
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, models_json_schema
from pydantic_core.core_schema import DecimalSchema

from shared.contracts.base import Message, routing_key
from shared.contracts.operations import ToService
from shared.contracts.routing import (
    LIVE,
    PUBLISHERS,
    QUEUES,
    WORKERS,
    Binding,
    bind,
    bindings_of,
    exchange_of,
    is_awaited,
    sent_under,
    service_of,
)

Json = dict[str, Any]

VERSION = "0.1.0"
LICENSE = "Apache-2.0"
BINDING_VERSION = "0.3.0"
LIVE_CHANNEL = "gateway.live"

DESCRIPTION = """\
The messages of PaperProfit over RabbitMQ (AMQP 0.9.1). Events say what happened, commands ask one service to act.

**Envelope.** A body is dramatiq's JSON, so that any dramatiq worker can read it: `actor_name` is the message's name \
and version (`PricesUpdated.v1`), `kwargs` its body, `message_id` a UUID, `message_timestamp` milliseconds since 1970 \
UTC. `args` is empty. `options` belongs to dramatiq: send it empty, ignore what you do not know. `queue_name` is \
empty, its receiver fills it in. A body has at most 4 MiB. Decimal numbers and times are strings; a decimal may have \
an exponent (`1E-9`).

**Delivery.** At least once: a message can come again, with the same `message_id`, and every queue's copy of it has \
that id. Remember (consumer, message id) in the transaction of the effect. What is sent about one account or one job \
arrives in the order of its commits, unless it comes again; a failed message is tried again after those behind it.

**To consume.** Declare a durable queue of your own and bind it to the exchange under the routing keys (the channels \
whose binding is `routingKey`). Never consume a service's own queue: you would take its messages. Acknowledge after \
your commit. Ignore unknown fields.

**To send.** Publish to the exchange under the routing key, persistent, with publisher confirms, and mandatory where \
the operation says so: a message that reaches no queue then comes back. To send again, use the same `message_id`. A \
message that its queue cannot read becomes a dead letter of the receiving service.

**Versions.** A change that an old consumer cannot read is a new version, with a message name and a routing key of \
its own. New optional fields are not.

In the operations `send` and `receive` are seen from the service in `x-service`."""

#: Any decimal number that Python writes, with or without an exponent.
DECIMAL = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?$"
#: JSON Schema has no words for the bounds of a number in a string: they are told in prose.
BOUNDS = {"gt": "more than {}", "ge": "at least {}", "lt": "less than {}", "le": "at most {}"}
BOUNDS["decimal_places"] = "at most {} decimal places"

ENVELOPE: Json = {
    "title": "Envelope",
    "description": "dramatiq's message, as JSON in UTF-8. kwargs is the body that the message's own schema describes.",
    "type": "object",
    "required": ["queue_name", "actor_name", "args", "kwargs", "options", "message_id", "message_timestamp"],
    "properties": {
        "queue_name": {"type": "string", "description": "Send it empty; its receiver ignores it."},
        "actor_name": {"type": "string", "description": "The message's name and version."},
        "args": {"type": "array", "maxItems": 0},
        "kwargs": {"type": "object", "description": "The message's body."},
        "options": {"type": "object", "description": "Send it empty; ignore what you do not know."},
        "message_id": {"type": "string", "format": "uuid", "description": "The same whenever the message is sent."},
        "message_timestamp": {"type": "integer", "description": "Milliseconds since 1970 UTC."},
    },
}


class _WireSchema(GenerateJsonSchema):
    """A decimal as it is on the wire: pydantic's own schema says no more than string."""

    def decimal_schema(self, schema: DecimalSchema) -> JsonSchemaValue:
        bounds = {name: limit for name, limit in schema.items() if name in BOUNDS}
        return {"type": "string", "format": "decimal", "pattern": DECIMAL, **bounds}


def document() -> Json:
    """The whole document; the same for the same code."""
    bodies, schemas = _schemas()
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "PaperProfit bus",
            "version": VERSION,
            "license": {"name": LICENSE, "url": f"https://www.apache.org/licenses/LICENSE-{LICENSE[-3:]}"},
            "description": DESCRIPTION,
        },
        "defaultContentType": "application/json",
        "servers": {"rabbitmq": _server()},
        "channels": _channels(),
        "operations": _operations(),
        "components": {
            "messages": {message.wire_name(): _message(message, bodies[message]) for message in PUBLISHERS},
            "schemas": {"Envelope": ENVELOPE, **schemas},
            "securitySchemes": {"user": {"type": "userPassword", "description": "A RabbitMQ user."}},
        },
    }


def text() -> str:
    return json.dumps(document(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _server() -> Json:
    return {
        "host": "{host}:{port}",
        "protocol": "amqp",
        "protocolVersion": "0.9.1",
        "description": "The RabbitMQ of your deployment; the virtual host is /.",
        "variables": {"host": {"default": "localhost"}, "port": {"default": "5672"}},
        "security": [{"$ref": "#/components/securitySchemes/user"}],
    }


def _schemas() -> tuple[dict[type[Message], Json], Json]:
    """For each message the reference to its body's schema, and all the schemas."""
    references, schemas = models_json_schema(
        [(message, "serialization") for message in PUBLISHERS],
        ref_template="#/components/schemas/{model}",
        schema_generator=_WireSchema,
    )
    bodies: dict[type[Message], Json] = {message: references[message, "serialization"] for message in PUBLISHERS}
    return bodies, _worded(schemas["$defs"])


def _worded(schema: Any) -> Any:
    """The schema with the bounds of its decimals in words."""
    if isinstance(schema, list):
        return [_worded(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("format") != "decimal":
        return {name: _worded(value) for name, value in schema.items()}
    words = ["A decimal number", *(BOUNDS[name].format(schema[name]) for name in BOUNDS if name in schema)]
    return {**{k: v for k, v in schema.items() if k not in BOUNDS}, "description": ", ".join(words) + "."}


def _message(message: type[Message], body: Json) -> Json:
    described = {"description": cleandoc(message.__doc__)} if message.__doc__ else {}
    own = {"properties": {"actor_name": {"const": message.wire_name()}, "kwargs": body}}
    return {
        "name": message.wire_name(),
        "title": message.__name__,
        **described,
        "contentType": "application/json",
        "correlationId": {"location": "$message.payload#/message_id"},
        "payload": {"allOf": [{"$ref": "#/components/schemas/Envelope"}, own]},
        "x-version": message.version,
    }


def _owners(message: type[Message]) -> tuple[str, ...]:
    """The services that stand in the message's routing keys."""
    return WORKERS if issubclass(message, ToService) else (message.service,)


def _addresses() -> Iterator[tuple[type[Message], str]]:
    """Every message with each of its routing keys."""
    return ((message, routing_key(message, owner)) for message in PUBLISHERS for owner in _owners(message))


def _channels() -> Json:
    return {
        **{address: _address_channel(message, address) for message, address in _addresses()},
        **{queue: _queue_channel(queue) for queue in QUEUES},
        LIVE_CHANNEL: _live_channel(),
    }


def _address_channel(message: type[Message], address: str) -> Json:
    exchange = {"name": exchange_of(message), "type": "topic", "durable": True, "autoDelete": False, "vhost": "/"}
    return {
        "address": address,
        "description": f"{message.wire_name()} on the exchange {exchange_of(message)}. Bind your queue under this key.",
        "messages": _messages([message]),
        "bindings": {"amqp": {"is": "routingKey", "exchange": exchange, "bindingVersion": BINDING_VERSION}},
    }


def _queue_channel(queue: str) -> Json:
    return {
        "address": queue,
        "description": f"A queue of {service_of(queue)} alone, bound to the exchanges as x-bindings says. In RabbitMQ "
        "its name ends in a version, and in .quorum where it is replicated.",
        "messages": _messages(QUEUES[queue].messages),
        "bindings": _queue_binding(queue, durable=True),
        "x-bindings": _bound(bindings_of(queue)),
        "x-priority": QUEUES[queue].priority.name.lower(),
    }


def _live_channel() -> Json:
    address = "gateway.{host}.{process}"
    return {
        "address": address,
        "description": "Live news for one gateway process. It is bounded and dies with it; nothing waits in it.",
        "parameters": {
            "host": {"description": "The host name of the gateway's replica."},
            "process": {"description": "The number of its process."},
        },
        "messages": _messages(LIVE),
        "bindings": _queue_binding(address, durable=False),
        "x-bindings": _bound(bind(address, message) for message in LIVE),
    }


def _queue_binding(name: str, *, durable: bool) -> Json:
    """What is not durable here belongs to one connection and ends with it."""
    queue = {"name": name, "durable": durable, "exclusive": not durable, "autoDelete": not durable, "vhost": "/"}
    return {"amqp": {"is": "queue", "queue": queue, "bindingVersion": BINDING_VERSION}}


def _bound(bindings: Iterable[Binding]) -> list[Json]:
    return [{"exchange": binding.exchange, "routingKey": binding.routing_key} for binding in bindings]


def _messages(messages: Iterable[type[Message]]) -> Json:
    return {m.wire_name(): {"$ref": f"#/components/messages/{m.wire_name()}"} for m in messages}


def _operations() -> Json:
    sent = {
        f"{service}.send.{address}": _send(service, message, address)
        for message, address in _addresses()
        for service in PUBLISHERS[message]
        if address in sent_under(message, service)
    }
    received = {
        f"{service_of(queue)}.receive.{queue}": _receive(queue, row.messages, acknowledged=True)
        for queue, row in QUEUES.items()
    }
    live = _receive(LIVE_CHANNEL, LIVE, acknowledged=False)
    return {**sent, **received, f"{service_of(LIVE_CHANNEL)}.receive.{LIVE_CHANNEL}": live}


def _send(service: str, message: type[Message], address: str) -> Json:
    amqp = {"deliveryMode": 2, "mandatory": is_awaited(message), "bindingVersion": BINDING_VERSION}
    return {
        "action": "send",
        "summary": f"{service} publishes {message.wire_name()}.",
        **_on_channel(address, [message]),
        "bindings": {"amqp": amqp},
        "x-service": service,
    }


def _receive(channel: str, messages: tuple[type[Message], ...], *, acknowledged: bool) -> Json:
    names = ", ".join(message.wire_name() for message in messages)
    return {
        "action": "receive",
        "summary": f"{service_of(channel)} receives {names}.",
        **_on_channel(channel, messages),
        "bindings": {"amqp": {"ack": acknowledged, "bindingVersion": BINDING_VERSION}},
        "x-service": service_of(channel),
    }


def _on_channel(channel: str, messages: Iterable[type[Message]]) -> Json:
    return {
        "channel": {"$ref": f"#/channels/{channel}"},
        "messages": [{"$ref": f"#/channels/{channel}/messages/{message.wire_name()}"} for message in messages],
    }


if __name__ == "__main__":
    sys.stdout.write(text())
