"""The relay keeps each key's order, also where rows are sent again, and publishes a window at a time."""

from collections.abc import Sequence
from random import Random
from uuid import UUID, uuid4

import pytest

from shared.bus.amqp.publisher import Finished, PublishFailed, Unroutable
from shared.bus.envelope import Outgoing
from shared.bus.relay import Relay
from shared.bus.unit_of_work import ServiceContext
from tests.support import account, eventually, send, value

ACCOUNTS = [UUID(int=n) for n in range(1, 6)]


class Unreliable:
    """A broker that loses connections, and sometimes the confirms of messages that it took.

    ``taken`` holds the messages that reached its queues, in order. There is no queue for the keys in ``missing``.
    """

    def __init__(self, seed: int) -> None:
        self.random = Random(seed)
        self.session = 1
        self.ready = True
        self.taken: list[Outgoing] = []
        self.losses = 0
        self.missing: set[str] = set()

    def send_many(self, messages: Sequence[Outgoing], session: int, finished: Finished) -> None:
        for message in messages:
            finished(message, self._send(message, session))

    def _send(self, message: Outgoing, session: int) -> PublishFailed | None:
        if message.key in self.missing:
            return Unroutable("no queue")
        if session != self.session:
            return PublishFailed("another connection")
        if self.losses < 20 and self.random.random() < 0.1:
            self.losses += 1
            self.session += 1
            if self.random.random() < 0.5:
                self.taken.append(message)  # only its confirm is lost
            return PublishFailed("the connection was lost")
        self.taken.append(message)
        return None

    def first_arrivals(self, key: str) -> list[UUID]:
        return list(dict.fromkeys(m.message_id for m in self.taken if m.key == key))


def put(context: ServiceContext, count: int) -> dict[str, list[UUID]]:
    """Commit messages of five accounts, each in a transaction of its own; their ids by key, in order."""
    sent: dict[str, list[UUID]] = {str(each): [] for each in ACCOUNTS}
    for n in range(count):
        message_id, command = uuid4(), account(ACCOUNTS[n % len(ACCOUNTS)])
        send(context, command, message_id=message_id)
        sent[command.key].append(message_id)
    return sent


@pytest.mark.parametrize("seed", range(5))
def test_messages_of_one_key_arrive_in_order_over_lost_connections(
    gateway: ServiceContext, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    """Twenty connections are lost in the middle of windows. The first copies of each key arrive in order."""
    monkeypatch.setattr("shared.outage.pause_seconds", lambda *_, **__: 0.002)
    broker = Unreliable(seed)
    sent = put(gateway, 300)
    relay = Relay(gateway, broker, poll=0.05)
    relay.start()
    eventually(lambda: value(gateway.engine, "SELECT count(*) = 0 FROM gateway.outbox"), seconds=30)
    relay.stop()
    assert broker.losses == 20
    assert {key: broker.first_arrivals(key) for key in sent} == sent


def test_a_key_without_a_queue_holds_back_no_other_key(
    gateway: ServiceContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its messages wait for the queue, and then arrive in order. Those of other keys do not wait."""
    monkeypatch.setattr("shared.bus.relay.HOLD_SECONDS", 0.05)
    broker = Unreliable(0)
    broker.losses, waiting = 20, str(ACCOUNTS[0])
    broker.missing = {waiting}
    sent = put(gateway, 50)
    relay = Relay(gateway, broker, poll=0.02)
    relay.start()
    eventually(lambda: value(gateway.engine, "SELECT count(*) = 10 FROM gateway.outbox"))
    assert broker.first_arrivals(waiting) == []
    broker.missing = set()
    eventually(lambda: value(gateway.engine, "SELECT count(*) = 0 FROM gateway.outbox"))
    relay.stop()
    assert {key: broker.first_arrivals(key) for key in sent} == sent
