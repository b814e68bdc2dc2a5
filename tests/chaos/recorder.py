"""A recorder on the bus: it keeps a copy of every command and of every event of orders."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from random import Random
from typing import Any, NamedTuple

import dramatiq
import pika

from shared.contracts.routing import COMMANDS, EVENTS

QUEUES = {"chaos.commands": (COMMANDS, "orders.#"), "chaos.events": (EVENTS, "orders.#")}
#: So many commands are kept to be sent once more.
REPEATABLE = 40
#: (cancel or replace, order)
Asked = tuple[str, str]


class Answer(NamedTuple):
    """An event's name, and the order that goes on in the place of a replaced one."""

    name: str
    new_order_id: str | None


@dataclass
class Recorder:
    """``url`` is an administrator's, since no service may read other queues. ``commands`` are those about accounts."""

    url: str
    events: dict[str, dict[int, set[str]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(set)))
    answers: dict[Asked, dict[tuple[str, int], Answer]] = field(default_factory=lambda: defaultdict(dict))
    copies: Counter[str] = field(default_factory=Counter)
    commands: set[str] = field(default_factory=set)
    repeatable: list[tuple[Any, Any, bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        with pika.BlockingConnection(pika.URLParameters(self.url)) as connection:
            channel = connection.channel()
            for queue, (exchange, routing_key) in QUEUES.items():
                channel.queue_declare(queue, durable=True)
                channel.queue_bind(queue, exchange, routing_key)

    def listen(self) -> None:
        """Take everything that has come since the last time."""
        with pika.BlockingConnection(pika.URLParameters(self.url)) as connection:
            channel = connection.channel()
            for queue in QUEUES:
                newest = None
                while True:  # one by one: only so the broker says for certain that nothing is left
                    method, properties, body = channel.basic_get(queue)
                    if method is None:
                        break
                    newest = method.delivery_tag
                    self._record(queue, method, properties, body)
                if newest is not None:
                    channel.basic_ack(newest, multiple=True)

    def _record(self, queue: str, method: Any, properties: Any, body: bytes) -> None:
        message: dramatiq.Message[None] = dramatiq.Message.decode(body)
        self.copies[message.message_id] += 1
        if queue == "chaos.commands":
            self.repeatable = [*self.repeatable[1 - REPEATABLE :], (method, properties, body)]
            self.commands |= {message.message_id} if "account_id" in message.kwargs else set()
        elif "sequence" in message.kwargs:
            account, sequence = message.kwargs["account_id"], message.kwargs["sequence"]
            self.events[account][sequence].add(message.message_id)
            what = _answered(message.actor_name, message.kwargs)
            if what is not None:
                answer = Answer(message.actor_name, message.kwargs.get("new_order_id"))
                self.answers[what, message.kwargs["order_id"]][account, sequence] = answer

    def answered(self, what: str, order_id: str) -> list[Answer]:
        """The answers to a ``cancel`` or ``replace`` of the order."""
        return list(self.answers.get((what, order_id), {}).values())

    def repeat(self, random: Random, count: int) -> int:
        """Send earlier commands once more, as a broker or a relay does after a lost confirm; their number."""
        self.listen()
        chosen = random.sample(self.repeatable, min(count, len(self.repeatable)))
        with pika.BlockingConnection(pika.URLParameters(self.url)) as connection:
            channel = connection.channel()
            channel.confirm_delivery()
            for method, properties, body in chosen:
                channel.basic_publish(method.exchange, method.routing_key, body, properties, mandatory=True)
        return len(chosen)

    @property
    def duplicates(self) -> int:
        return sum(count - 1 for count in self.copies.values())

    def gaps(self) -> dict[str, list[int]]:
        """Sequence numbers of accounts under which no event came, or more than one."""
        found = {}
        for account, events in self.events.items():
            wrong = [n for n in range(1, max(events) + 1) if len(events.get(n, ())) != 1]
            if wrong:
                found[account] = wrong
        return found


def _answered(name: str, body: dict[str, Any]) -> str | None:
    """The request that the event answers, if any: most orders are canceled for other reasons."""
    if name == "CancelRejected.v1" or (name == "OrderCanceled.v1" and body["reason"] == "requested"):
        return "cancel"
    return "replace" if name in {"OrderReplaced.v1", "ReplaceRejected.v1"} else None
