"""The RabbitMQ of the tests: its virtual hosts, its queue depths, and a private node that stops and starts."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pika
import pika.exceptions
import psutil
import pytest
from pika.adapters.blocking_connection import BlockingChannel, BlockingConnection

from embedded.free_port import free_ports
from shared.bus.amqp.management import ManagementRefused
from shared.storage.migrate import ROOT
from tests.servers import choice, rabbitmq
from tests.servers.choice import ServerMissing, rabbit_server
from tests.servers.rabbitmq import PROGRAM, NodeFailed, QueueDepth, RabbitServer, private_node
from tests.support import eventually

OWNER = """
import sys, time
from pathlib import Path
from tests.servers.rabbitmq import private_node

with private_node(Path(sys.argv[1])):
    print("ready", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def vhost(rabbit: RabbitServer) -> Iterator[str]:
    url = rabbit.new_vhost()
    yield url
    rabbit.delete_vhost(url)


def connect(url: str) -> BlockingConnection:
    return BlockingConnection(pika.URLParameters(url))


@contextmanager
def channel_on(url: str) -> Iterator[BlockingChannel]:
    with closing(connect(url)) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        yield channel


def declare(channel: BlockingChannel, name: str, kind: str) -> None:
    channel.queue_declare(name, durable=True, arguments={"x-queue-type": kind})


def publish(channel: BlockingChannel, queue: str, count: int) -> None:
    for _ in range(count):
        channel.basic_publish("", queue, b"x", pika.BasicProperties(delivery_mode=2))


def test_virtual_hosts_do_not_share_queues(rabbit: RabbitServer, vhost: str) -> None:
    """A queue of one virtual host does not exist in another."""
    other = rabbit.new_vhost()
    with channel_on(vhost) as channel:
        declare(channel, "mine", "classic")
    assert set(rabbit.queues(vhost)) == {"mine"}
    assert rabbit.queues(other) == {}
    rabbit.delete_vhost(other)


def test_a_deleted_virtual_host_is_gone(rabbit: RabbitServer) -> None:
    """It takes no connections, and the API does not know it."""
    url = rabbit.new_vhost()
    rabbit.delete_vhost(url)
    with pytest.raises(pika.exceptions.AMQPError):
        connect(url)
    with pytest.raises(ManagementRefused, match="404"):
        rabbit.queues(url)


@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_queues_are_counted_within_two_seconds(rabbit: RabbitServer, vhost: str, kind: str) -> None:
    """Waiting messages, unacknowledged messages and consumers, on both kinds of queue."""
    with channel_on(vhost) as channel:
        declare(channel, "q", kind)
        publish(channel, "q", 3)
        channel.basic_qos(prefetch_count=1)
        channel.basic_consume("q", lambda *_: None)
        expected = {"q": QueueDepth(ready=2, unacked=1, consumers=1)}
        eventually(lambda: rabbit.queues(vhost) == expected, seconds=2, what="the counts")
    expected = {"q": QueueDepth(ready=3, unacked=0, consumers=0)}
    eventually(lambda: rabbit.queues(vhost) == expected, seconds=2, what="the counts")


def test_a_cut_connection_fails_for_its_client(rabbit: RabbitServer, vhost: str) -> None:
    """The client's next use fails, and connections of other virtual hosts stay."""
    other = rabbit.new_vhost()
    with closing(connect(other)) as untouched:
        cut = connect(vhost)
        assert eventually(lambda: rabbit.close_connections(vhost)) == 1
        with pytest.raises(pika.exceptions.ConnectionClosedByBroker):
            cut.process_data_events(5)
        untouched.process_data_events(0)
        assert untouched.is_open
    rabbit.delete_vhost(other)


def test_without_a_server_the_tests_say_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without a URL, Docker and an installed server, the tests fail with one line and are not skipped."""
    monkeypatch.delenv("PAPERPROFIT_TEST_RABBITMQ_URL", raising=False)
    monkeypatch.setattr(choice, "docker_answers", lambda: False)
    monkeypatch.setattr(choice, "PROGRAM", tmp_path / "none")
    with pytest.raises(ServerMissing, match="install rabbitmq-server") as raised, rabbit_server():
        pass
    assert "\n" not in str(raised.value)


def test_a_url_without_its_management_url_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests count queues by the management API, so they need both."""
    monkeypatch.setenv("PAPERPROFIT_TEST_RABBITMQ_URL", "amqp://guest:guest@localhost")
    monkeypatch.delenv("PAPERPROFIT_TEST_RABBITMQ_MANAGEMENT_URL", raising=False)
    with pytest.raises(ServerMissing, match="PAPERPROFIT_TEST_RABBITMQ_MANAGEMENT_URL"), rabbit_server():
        pass


def test_a_node_that_is_not_installed_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The error names the command."""
    monkeypatch.setattr(rabbitmq, "PROGRAM", tmp_path / "none")
    with pytest.raises(NodeFailed, match="apt-get install rabbitmq-server"), private_node(tmp_path / "node"):
        pass


if PROGRAM.exists():  # there is no private node where the tests use Docker

    def test_a_private_node_keeps_its_messages_over_a_stop_and_a_kill(tmp_path: Path) -> None:
        """Ports, virtual hosts and durable queues stay the same. In between the node does not answer."""
        with private_node(tmp_path) as node:
            url = node.server.new_vhost()
            with channel_on(url) as channel:
                declare(channel, "q", "quorum")
                publish(channel, "q", 2)
            for end in (node.stop, node.kill):
                end()
                assert not node.server.answers()
                node.start()
                eventually(lambda: node.server.queues(url)["q"].ready == 2)

    def test_a_private_node_leaves_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Neither the Erlang machine nor its epmd, which outlives a stopped node. Another process had a port of it."""
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            ports = iter([[taken.getsockname()[1], *free_ports(3)], free_ports(4)])
            monkeypatch.setattr(rabbitmq, "free_ports", lambda _: next(ports))
            with private_node(tmp_path):
                node = _processes_of(tmp_path)
                assert {"beam.smp", "epmd"} <= {p.name() for p in node}
        eventually(lambda: all(_ended(p) for p in node), seconds=5)

    def test_a_private_node_ends_with_a_killed_owner(tmp_path: Path) -> None:
        """SIGKILL of the tests leaves neither the Erlang machine nor its epmd behind."""
        command = [sys.executable, "-c", OWNER, str(tmp_path)]
        owner = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert owner.stdout is not None
        assert owner.stdout.readline() == "ready\n"
        node = _processes_of(tmp_path)
        owner.kill()
        owner.communicate()
        eventually(lambda: all(_ended(p) for p in node), seconds=20)


def _processes_of(folder: Path) -> list[psutil.Process]:
    return [p for p in psutil.process_iter() if _environment(p).get("HOME") == str(folder)]


def _environment(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except psutil.Error:
        return {}


def _ended(process: psutil.Process) -> bool:
    """True for a zombie, too. A process may end between two looks at it."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
