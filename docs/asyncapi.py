"""The bus as an AsyncAPI 3.0 document, for programs that consume or send messages without our code.

It is derived from the routing table and the models. ``python -m docs.asyncapi`` prints it.
"""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
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
from shared.contracts.written import LARGEST, NUMBER

Json = dict[str, Any]

VERSION = "0.1.0"
LICENSE = "Apache-2.0"
BINDING_VERSION = "0.3.0"
LIVE_CHANNEL = "gateway.live"
LIVE_ADDRESS = "amq.gen-{id}"

DESCRIPTION = """\
The messages of PaperProfit over RabbitMQ (AMQP 0.9.1). Events announce a fact, commands ask one service to act.

**Envelope.** A body is dramatiq's JSON, so that any dramatiq worker can read it: `actor_name` is the message's name \
and version (`PricesUpdated.v1`), `kwargs` its body, `message_id` a UUID, `message_timestamp` milliseconds since 1970 \
UTC. `args` is empty. `options` belongs to dramatiq: send it empty, and ignore unknown options. `queue_name` is \
empty, its receiver fills it in. A body has at most 4 MiB. Decimal numbers and times are strings; a decimal may have \
an exponent (`1E-9`).

**Delivery.** At least once: a message can come again, with the same `message_id`, and every queue's copy of it has \
that id. Store (consumer, message id) in the transaction of the effect. The messages about one account or one job \
arrive in the order of their commits, except for repetitions: a failed message is retried after those behind it.

**To consume.** Declare a durable queue of your own and bind it to the exchange under the routing keys (the channels \
whose binding is `routingKey`). Never consume a service's own queue, since you would take its messages. Acknowledge \
after your commit. Ignore unknown fields.

**To send.** Publish to the exchange under the routing key, persistent, with publisher confirms, and mandatory where \
the operation says so: a message that reaches no queue is then returned. To send again, use the same `message_id`. A \
message that its receiver cannot read becomes a dead letter of that service.

**Versions.** A change that an old consumer cannot read is a new version, with a message name and a routing key of \
its own. New optional fields are not.

In the operations `send` and `receive` are seen from the service in `x-service`."""

#: JSON Schema has no keywords for the bounds of a number in a string, so the description has them.
BOUNDS = {"gt": "more than {}", "ge": "at least {}", "lt": "less than {}", "le": "at most {}"}
BOUNDS["decimal_places"] = "at most {} decimal places"

ENVELOPE: Json = {
    "title": "Envelope",
    "description": "dramatiq's message, as JSON in UTF-8. kwargs is the body that the message's own schema describes.",
    "type": "object",
    "required": ["queue_name", "actor_name", "args", "kwargs", "options", "message_id", "message_timestamp"],
    "properties": {
        "queue_name": {"type": "string", "description": "Send it empty. The receiver ignores it."},
        "actor_name": {"type": "string", "description": "The message's name and version."},
        "args": {"type": "array", "maxItems": 0},
        "kwargs": {"type": "object", "description": "The message's body."},
        "options": {"type": "object", "description": "Send it empty, and ignore unknown options."},
        "message_id": {"type": "string", "format": "uuid", "description": "The same whenever the message is sent."},
        "message_timestamp": {"type": "integer", "description": "Milliseconds since 1970 UTC."},
    },
}


SERVER: Json = {
    "host": "{host}:{port}",
    "protocol": "amqp",
    "protocolVersion": "0.9.1",
    "description": "The RabbitMQ of your deployment. The virtual host is /.",
    "variables": {"host": {"default": "localhost"}, "port": {"default": "5672"}},
    "security": [{"$ref": "#/components/securitySchemes/user"}],
}


class _WireSchema(GenerateJsonSchema):
    """The schema of a decimal on the wire. pydantic's own says no more than string."""

    def decimal_schema(self, schema: DecimalSchema) -> JsonSchemaValue:
        bounds = {name: limit for name, limit in schema.items() if name in BOUNDS and limit not in {-LARGEST, LARGEST}}
        return {"type": "string", "format": "decimal", "pattern": NUMBER, **bounds}


def document() -> Json:
    """The whole document. The same code gives the same document."""
    bodies, schemas = models_json_schema(
        [(message, "serialization") for message in PUBLISHERS],
        ref_template="#/components/schemas/{model}",
        schema_generator=_WireSchema,
    )
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "PaperProfit bus",
            "version": VERSION,
            "license": {"name": LICENSE, "url": f"https://www.apache.org/licenses/LICENSE-{LICENSE[-3:]}"},
            "description": DESCRIPTION,
        },
        "defaultContentType": "application/json",
        "servers": {"rabbitmq": SERVER},
        "channels": _channels(),
        "operations": _operations(),
        "components": {
            "messages": {each.wire_name(): _message(each, bodies[each, "serialization"]) for each in PUBLISHERS},
            "schemas": {"Envelope": ENVELOPE, **_with_bounds_in_words(schemas["$defs"])},
            "securitySchemes": {"user": {"type": "userPassword", "description": "A RabbitMQ user."}},
        },
    }


def text() -> str:
    """The document as JSON, as it is committed."""
    return json.dumps(document(), indent=2, sort_keys=True, ensure_ascii=False) + "\n"


def _with_bounds_in_words(schema: Any) -> Any:
    if isinstance(schema, list):
        return [_with_bounds_in_words(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("format") != "decimal":
        return {name: _with_bounds_in_words(value) for name, value in schema.items()}
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


def _addresses() -> Iterator[tuple[type[Message], str]]:
    """Every message with each of its routing keys."""
    for message in PUBLISHERS:
        for owner in WORKERS if issubclass(message, ToService) else (message.service,):
            yield message, routing_key(message, owner)


def _channels() -> Json:
    """A channel for each routing key, each queue, and the queues of the gateway's processes."""
    channels: Json = {}
    for message, address in _addresses():
        name = exchange_of(message)
        exchange = {"name": name, "type": "topic", "durable": True, "autoDelete": False, "vhost": "/"}
        description = f"{message.wire_name()} on the exchange {name}. Bind your queue under this key."
        channels[address] = _channel(address, description, [message], {"is": "routingKey", "exchange": exchange})
    for name, row in QUEUES.items():
        description = f"A queue of {service_of(name)} alone, bound to the exchanges as x-bindings says."
        description += " In RabbitMQ its name ends in a version, and in .quorum where it is replicated."
        channels[name] = {
            **_channel(name, description, row.messages, _queue(name, durable=True)),
            "x-bindings": _bound(bindings_of(name)),
            "x-priority": row.priority.name.lower(),
        }
    description = "Live events for one gateway process. The queue is bounded and is deleted with its process."
    channels[LIVE_CHANNEL] = {
        **_channel(LIVE_ADDRESS, description, LIVE, _queue(LIVE_ADDRESS, durable=False)),
        "parameters": {
            "id": {"description": "RabbitMQ chooses it when the process declares the queue without a name."},
        },
        "x-bindings": _bound(bind(LIVE_ADDRESS, message) for message in LIVE),
    }
    return channels


def _channel(address: str, description: str, messages: Iterable[type[Message]], amqp: Json) -> Json:
    return {
        "address": address,
        "description": description,
        "messages": {m.wire_name(): {"$ref": f"#/components/messages/{m.wire_name()}"} for m in messages},
        "bindings": {"amqp": {**amqp, "bindingVersion": BINDING_VERSION}},
    }


def _queue(name: str, *, durable: bool) -> Json:
    """A queue that is not durable belongs to one connection and is deleted with it."""
    queue = {"name": name, "durable": durable, "exclusive": not durable, "autoDelete": not durable, "vhost": "/"}
    return {"is": "queue", "queue": queue}


def _bound(bindings: Iterable[Binding]) -> list[Json]:
    return [{"exchange": binding.exchange, "routingKey": binding.routing_key} for binding in bindings]


def _operations() -> Json:
    """An operation for each message that a service sends, and one for each queue that it receives from."""
    sent = {
        f"{service}.send.{address}": _operation(
            service, "send", address, [message], {"deliveryMode": 2, "mandatory": is_awaited(message)}
        )
        for message, address in _addresses()
        for service in PUBLISHERS[message]
        if address in sent_under(message, service)
    }
    queues = [*((name, row.messages, True) for name, row in QUEUES.items()), (LIVE_CHANNEL, LIVE, False)]
    received = {
        f"{service_of(name)}.receive.{name}": _operation(service_of(name), "receive", name, messages, {"ack": ack})
        for name, messages, ack in queues
    }
    return {**sent, **received}


def _operation(service: str, action: str, channel: str, messages: Sequence[type[Message]], amqp: Json) -> Json:
    names = ", ".join(message.wire_name() for message in messages)
    return {
        "action": action,
        "summary": f"{service} {'publishes' if action == 'send' else 'receives'} {names}.",
        "channel": {"$ref": f"#/channels/{channel}"},
        "messages": [{"$ref": f"#/channels/{channel}/messages/{message.wire_name()}"} for message in messages],
        "bindings": {"amqp": {**amqp, "bindingVersion": BINDING_VERSION}},
        "x-service": service,
    }


if __name__ == "__main__":
    sys.stdout.write(text())
