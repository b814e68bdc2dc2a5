"""The AsyncAPI document agrees with the routing table and the models, and every sent message agrees with it."""

import json
import re
import tomllib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest

from docs.asyncapi import DESCRIPTION, LICENSE, LIVE_CHANNEL, VERSION, document, text
from shared.bus.envelope import MAX_BODY_BYTES, encode
from shared.contracts.base import Message
from shared.contracts.operations import ToService
from shared.contracts.orders import OrderAccepted, SubmitOrder
from shared.contracts.routing import LIVE, PUBLISHERS, QUEUES, WORKERS, bindings_of, exchange_of, service_of
from shared.storage.migrate import ROOT
from tests.unit.message_examples import EXAMPLES

Json = dict[str, Any]

DOCUMENT = document()
TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "boolean": (bool,),
    "null": (type(None),),
}
UNCHECKED = {"title", "description", "default", "format", "propertyNames", "minimum", "maximum"}

every_message = pytest.mark.parametrize("message", EXAMPLES.values(), ids=lambda m: type(m).__name__)


def resolved(reference: str) -> Any:
    """The target of a ``#/…`` reference in the document. Raises KeyError where there is none."""
    found: Any = DOCUMENT
    for name in reference.removeprefix("#/").split("/"):
        found = found[name]
    return found


def references(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        if "$ref" in node:
            yield node["$ref"]
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            yield from references(child)


def faults(value: Any, schema: Json, at: str = "$") -> list[str]:
    """The places where the value breaks the schema. An unknown keyword is a fault too."""
    return [
        fault
        for keyword, wanted in schema.items()
        if keyword not in UNCHECKED
        for fault in faults_of(keyword, wanted, value, at)
    ]


def faults_of(keyword: str, wanted: Any, value: Any, at: str) -> list[str]:
    match keyword:
        case "$ref":
            return faults(value, resolved(wanted), at)
        case "allOf":
            return [fault for schema in wanted for fault in faults(value, schema, at)]
        case "properties" if isinstance(value, dict):
            return [f for k, schema in wanted.items() if k in value for f in faults(value[k], schema, f"{at}.{k}")]
        case "additionalProperties":  # a schema of values under any name, or whether other names are allowed
            return (
                [f for k, v in value.items() for f in faults(v, wanted, f"{at}.{k}")]
                if isinstance(wanted, dict)
                else []
            )
        case "items":
            return [fault for i, item in enumerate(value) for fault in faults(item, wanted, f"{at}[{i}]")]
    obeyed = {
        "anyOf": lambda: any(not faults(value, schema, at) for schema in wanted),
        "type": lambda: isinstance(value, TYPES[wanted]) and (wanted != "integer" or not isinstance(value, bool)),
        "const": lambda: value == wanted,
        "enum": lambda: value in wanted,
        "required": lambda: isinstance(value, dict) and set(wanted) <= set(value),
        "pattern": lambda: isinstance(value, str) and re.search(wanted, value),
        "minLength": lambda: not isinstance(value, str) or len(value) >= wanted,
        "maxLength": lambda: not isinstance(value, str) or len(value) <= wanted,
        "minItems": lambda: len(value) >= wanted,
        "maxItems": lambda: len(value) <= wanted,
        "patternProperties": lambda: (
            not any(
                faults(each, schema, at)
                for name, each in value.items()
                for pattern, schema in wanted.items()
                if re.search(pattern, name)
            )
        ),
        "propertyNames": lambda: not any(faults(name, wanted, at) for name in value),
        "minProperties": lambda: len(value) >= wanted,
        "maxProperties": lambda: len(value) <= wanted,
    }
    return [] if obeyed.get(keyword, lambda: False)() else [f"{at}: {keyword} {wanted}"]


def payload_of(message: type[Message]) -> Json:
    schema: Json = DOCUMENT["components"]["messages"][message.wire_name()]["payload"]
    return schema


def sent(message: Message) -> Json:
    envelope: Json = json.loads(encode(message).body)
    return envelope


def operations(action: str) -> list[Json]:
    return [operation for operation in DOCUMENT["operations"].values() if operation["action"] == action]


def channel_name(operation: Json) -> str:
    name: str = operation["channel"]["$ref"].removeprefix("#/channels/")
    return name


def names_in(operation: Json) -> set[str]:
    return {reference["$ref"].rpartition("/")[2] for reference in operation["messages"]}


def test_the_committed_document_is_current() -> None:
    """A change of a message or the table must change the document too."""
    committed = ROOT / "docs" / "asyncapi.json"
    assert committed.read_text(encoding="utf-8") == text(), "docs/asyncapi.json is out of date: run make docs"


def test_its_version_and_licence_are_the_projects() -> None:
    """They stand in pyproject.toml, which an image does not contain."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert (project["version"], project["license"]) == (VERSION, LICENSE)


def test_it_names_the_size_limit_of_the_bus() -> None:
    """The limit is the envelope's, which the contracts do not import."""
    assert f"at most {MAX_BODY_BYTES // 1024**2} MiB" in DESCRIPTION


def test_every_message_stands_in_it_once_with_its_version() -> None:
    """It stands under the name that the envelope carries."""
    described = Counter(
        (message["title"], message["x-version"]) for message in DOCUMENT["components"]["messages"].values()
    )
    assert described == Counter({(message.__name__, message.version): 1 for message in PUBLISHERS})
    assert set(DOCUMENT["components"]["messages"]) == {message.wire_name() for message in PUBLISHERS}


def test_every_reference_resolves() -> None:
    """A reader could not find the schema of a dangling reference."""
    found = set(references(DOCUMENT))
    assert len(found) > len(PUBLISHERS)
    for reference in found:
        assert resolved(reference)


def test_an_operation_names_messages_of_its_own_channel() -> None:
    """AsyncAPI requires it: a message of another channel would be unreachable."""
    for operation in DOCUMENT["operations"].values():
        assert names_in(operation) <= set(resolved(operation["channel"]["$ref"])["messages"])


def test_publishers_are_those_of_the_table() -> None:
    """Each may send its message on all its channels, and no other service may."""
    stated = {(op["x-service"], name) for op in operations("send") for name in names_in(op)}
    assert stated == {(service, message.wire_name()) for message, all_ in PUBLISHERS.items() for service in all_}
    addressed = {(channel_name(op), op["x-service"]) for op in operations("send") if "RunJob.v1" in names_in(op)}
    assert {channel for channel, _ in addressed} == {f"{service}.run_job.v1" for service in WORKERS}


def test_consumers_are_those_of_the_table() -> None:
    """Each durable queue is received by its service, and the gateway's own by the gateway."""
    stated = {channel_name(op): (op["x-service"], names_in(op)) for op in operations("receive")}
    table = {queue: (service_of(queue), {m.wire_name() for m in row.messages}) for queue, row in QUEUES.items()}
    assert stated == {**table, LIVE_CHANNEL: ("gateway", {message.wire_name() for message in LIVE})}


@pytest.mark.parametrize("queue", QUEUES)
def test_a_queue_is_described_as_it_is_bound(queue: str) -> None:
    """Each of its bindings names a channel of that exchange which carries one of its messages."""
    channel = DOCUMENT["channels"][queue]
    assert channel["x-bindings"] == [{"exchange": b.exchange, "routingKey": b.routing_key} for b in bindings_of(queue)]
    assert channel["x-priority"] == QUEUES[queue].priority.name.lower()
    for bound in channel["x-bindings"]:
        source = DOCUMENT["channels"][bound["routingKey"]]
        assert source["bindings"]["amqp"]["exchange"]["name"] == bound["exchange"]
        assert set(source["messages"]) <= set(channel["messages"])


@every_message
def test_a_message_is_sent_where_its_channel_says(message: Message) -> None:
    """The channel is the routing key, on the exchange of the envelope, with the same mandatory flag."""
    outgoing = encode(message)
    channel = DOCUMENT["channels"][outgoing.routing_key]
    assert (channel["address"], channel["bindings"]["amqp"]["is"]) == (outgoing.routing_key, "routingKey")
    assert channel["bindings"]["amqp"]["exchange"]["name"] == outgoing.exchange == exchange_of(type(message))
    sends = [op for op in operations("send") if channel_name(op) == outgoing.routing_key]
    assert [op["bindings"]["amqp"]["mandatory"] for op in sends] == [outgoing.mandatory] * len(sends)
    assert sends


def test_a_command_to_any_service_has_a_channel_for_each() -> None:
    """Its routing key begins with the receiving service."""
    for message in (message for message in PUBLISHERS if issubclass(message, ToService)):
        carrying = {
            name
            for name, channel in DOCUMENT["channels"].items()
            if set(channel["messages"]) == {message.wire_name()} and channel["bindings"]["amqp"]["is"] == "routingKey"
        }
        assert {name.partition(".")[0] for name in carrying} == set(WORKERS)


@every_message
def test_a_sent_message_obeys_its_schema(message: Message) -> None:
    """Envelope and body do, with every number and time in wire format."""
    assert faults(sent(message), payload_of(type(message))) == []


@every_message
def test_a_body_without_a_required_field_breaks_the_schema(message: Message) -> None:
    """The schema requires exactly the fields that the model requires."""
    model = type(message)
    required = {name for name, field in model.model_fields.items() if field.is_required()}
    assert required
    for name in model.model_fields:
        envelope = sent(message)
        del envelope["kwargs"][name]
        assert bool(faults(envelope, payload_of(model))) == (name in required), name


@pytest.mark.parametrize(
    ("field", "value"), [("qty", 1.5), ("qty", "many"), ("side", "hold"), ("symbol", "aapl"), ("order_id", None)]
)
def test_a_wrong_field_breaks_the_schema(field: str, value: object) -> None:
    """The sender of another program finds it before it becomes a dead letter."""
    envelope = sent(EXAMPLES[SubmitOrder])
    envelope["kwargs"][field] = value
    assert faults(envelope, payload_of(SubmitOrder))


def test_an_envelope_of_another_message_breaks_the_schema() -> None:
    """``actor_name`` is fixed for each message, and no field of the envelope may be missing."""
    envelope = sent(EXAMPLES[OrderAccepted])
    assert faults({**envelope, "actor_name": "OrderAccepted.v2"}, payload_of(OrderAccepted))
    for name in envelope:
        assert faults({k: v for k, v in envelope.items() if k != name}, payload_of(OrderAccepted)), name


def test_bounds_of_decimals_are_described_in_words() -> None:
    """JSON Schema has no bounds for a number in a string, and pydantic's own keywords are unknown to others."""
    order = DOCUMENT["components"]["schemas"]["SubmitOrder"]["properties"]
    cash = DOCUMENT["components"]["schemas"]["OpenAccount"]["properties"]["cash"]
    assert cash["description"] == "A decimal number, at least 0."
    assert order["qty"]["anyOf"][0]["description"] == (
        "A decimal number, more than 0, at most 1000000000, at most 9 decimal places."
    )
