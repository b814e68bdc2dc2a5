"""A witness on the bus: it gets a copy of every command and of every event of orders, and forgets none."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from random import Random
from typing import Any

import dramatiq
import pika

from shared.contracts.routing import COMMANDS, EVENTS

QUEUES = {"chaos.commands": (COMMANDS, "orders.#"), "chaos.events": (EVENTS, "orders.#")}
#: So many commands are kept to be sent once more.
REPEATABLE = 40


@dataclass
class Witness:
    """``url`` is that of an administrator: no service may do this."""

    url: str
    events: dict[str, dict[int, set[str]]] = field(default_factory=lambda: defaultdict(lambda: defaultdict(set)))
    answers: dict[str, dict[tuple[str, int], str]] = field(default_factory=lambda: defaultdict(dict))
    copies: Counter[str] = field(default_factory=Counter)
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
                    self._note(queue, method, properties, body)
                if newest is not None:
                    channel.basic_ack(newest, multiple=True)

    def _note(self, queue: str, method: Any, properties: Any, body: bytes) -> None:
        message: dramatiq.Message[None] = dramatiq.Message.decode(body)
        self.copies[message.message_id] += 1
        if queue == "chaos.commands":
            self.repeatable = [*self.repeatable[1 - REPEATABLE :], (method, properties, body)]
        elif "sequence" in message.kwargs:
            account, sequence = message.kwargs["account_id"], message.kwargs["sequence"]
            self.events[account][sequence].add(message.message_id)
            if message.actor_name in {"OrderCanceled.v1", "CancelRejected.v1"}:
                self.answers[message.kwargs["order_id"]][account, sequence] = message.actor_name

    def repeat(self, random: Random, count: int) -> int:
        """Send commands once more that were sent before, as a broker or a relay does that is not sure; how many."""
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
