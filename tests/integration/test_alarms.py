"""RabbitMQ without memory or disk reads nothing from publishers. No sender hangs, and no message is lost."""

import threading
from collections.abc import Iterator
from uuid import UUID, uuid4

import dramatiq
import pika
import pytest

from shared.bus.amqp.publisher import Publisher, PublishFailed
from shared.bus.amqp.topology import Kind, physical_name
from shared.bus.envelope import encode
from shared.bus.relay import Relay
from shared.bus.unit_of_work import ServiceContext
from tests.integration.subjects import BOTH, Ours, Stock, Subject
from tests.servers.rabbitmq import ALARMS, PROGRAM, PrivateNode, private_node
from tests.support import account, eventually, send, value

if PROGRAM.exists():  # an alarm needs a node of its own, which is not installed where the tests use Docker

    @pytest.fixture(scope="module")
    def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrivateNode]:
        with private_node(tmp_path_factory.mktemp("node")) as node:
            yield node

    @pytest.fixture
    def url(node: PrivateNode) -> Iterator[str]:
        url = node.server.new_bus(replicated=False)
        yield url
        node.server.delete_vhost(url)

    @pytest.mark.parametrize("alarm", ALARMS)
    def test_a_message_sent_during_an_alarm_fails_at_once_and_arrives_after_it(
        node: PrivateNode, url: str, gateway: ServiceContext, caplog: pytest.LogCaptureFixture, alarm: str
    ) -> None:
        """A message sent just before the report of the alarm too. Afterwards all arrive, in order for each account."""
        begin, end = ALARMS[alarm]
        publisher = Publisher(url, name="gateway")
        relay = Relay(gateway, publisher, poll=0.05)
        eventually(publisher.connected.is_set)
        node.control(*begin)
        before = publisher.send(encode(account(uuid4())))  # RabbitMQ reports an alarm when a client publishes
        with pytest.raises(PublishFailed, match="blocks publishers"):
            before.result(5)
        with pytest.raises(PublishFailed, match="blocks publishers"):
            publisher.send(encode(account(uuid4()))).result(0)

        relay.start()
        accounts = [UUID(int=n) for n in (1, 2, 3)]
        sent: dict[str, list[str]] = {str(each): [] for each in accounts}
        for n in range(60):
            message_id = uuid4()
            send(gateway, account(accounts[n % 3]), message_id=message_id)
            sent[str(accounts[n % 3])].append(str(message_id))
        assert value(gateway.engine, "SELECT count(*) FROM gateway.outbox") == 60
        node.control(*end)
        eventually(lambda: value(gateway.engine, "SELECT count(*) = 0 FROM gateway.outbox"), seconds=30)
        relay.stop()
        publisher.stop()
        assert {key: ids for key, ids in first_arrivals(url).items() if key in sent} == sent
        logged = [record.message for record in caplog.records if "RabbitMQ is" in record.message]
        assert sum("is away" in line for line in logged) <= 2  # once the publisher, once the relay

    def first_arrivals(url: str) -> dict[str, list[str]]:
        """The message ids of each account, in the order of their first copies in the queue."""
        found: dict[str, list[str]] = {}
        with pika.BlockingConnection(pika.URLParameters(url)) as connection:
            channel = connection.channel()
            while (got := channel.basic_get(physical_name("orders.commands", Kind.CLASSIC), auto_ack=True))[2]:
                message: dramatiq.Message[None] = dramatiq.Message.decode(got[2])
                ids = found.setdefault(message.kwargs["account_id"], [])
                if message.message_id not in ids:
                    ids.append(message.message_id)
        return found

    def test_an_alarm_in_the_middle_of_a_stream_loses_and_reorders_nothing(
        node: PrivateNode, url: str, gateway: ServiceContext, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Three alarms come and go while messages flow, one of them together with lost connections."""
        monkeypatch.setattr("shared.outage.LONGEST_PAUSE_SECONDS", 0.2)
        publisher = Publisher(url, name="gateway")
        relay = Relay(gateway, publisher, poll=0.05)
        eventually(publisher.connected.is_set)
        relay.start()
        only = UUID(int=7)
        sent: list[str] = []

        def stream(count: int) -> None:
            for _ in range(count):
                sent.append(str(uuid4()))
                send(gateway, account(only), message_id=UUID(sent[-1]))

        for cut in (False, True, False):
            stream(200)
            node.control("set_vm_memory_high_watermark", "0")
            stream(50)
            if cut:
                eventually(lambda: node.server.close_connections(url), what="a connection is cut")
            node.control("set_vm_memory_high_watermark", "0.4")
        eventually(lambda: value(gateway.engine, "SELECT count(*) = 0 FROM gateway.outbox"), seconds=60)
        relay.stop()
        publisher.stop()
        assert first_arrivals(url) == {str(only): sent}

    @pytest.mark.parametrize("subject", BOTH)
    def test_an_alarm_holds_no_sender(
        node: PrivateNode, url: str, orders: ServiceContext, monkeypatch: pytest.MonkeyPatch, subject: str
    ) -> None:
        """A sender with confirms goes on within seconds while RabbitMQ reads nothing. Stock dramatiq waits."""
        sender: Subject = Ours(url, orders, monkeypatch) if subject == "ours" else Stock(url, confirm=True)
        sender.handle(lambda _: None)
        sender.send("BEFORE")
        begin, end = ALARMS["memory"]
        node.control(*begin)
        sending = threading.Thread(target=sender.send, args=("DURING",), daemon=True)
        sending.start()
        sending.join(3)
        held = sending.is_alive()
        node.control(*end)
        sending.join(20)
        sender.close()
        assert not held
