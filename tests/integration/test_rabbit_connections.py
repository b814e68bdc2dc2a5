"""Every connection to RabbitMQ finds out within seconds that the other side has vanished, and none waits for long."""

import os
import socket
import time
from contextlib import closing

import pika.exceptions
import psutil
import pytest

from shared.bus.amqp.broker import ServiceBroker
from shared.bus.amqp.connections import HEARTBEAT_SECONDS, connect, connection_parameters
from shared.bus.amqp.listener import Listener
from shared.contracts.routing import EVENTS
from shared.storage.migrate import ROOT
from tests.servers.proxy import proxy_to
from tests.servers.rabbitmq import RabbitServer, vhost_of
from tests.support import eventually

WANTED = {"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 2, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 10_000}


def socket_options(port: int) -> list[dict[str, int]]:
    """The options of all sockets of this process that are connected to the port."""
    found = []
    for each in psutil.Process().net_connections("tcp"):
        if each.raddr and each.raddr.port == port:
            with socket.socket(fileno=os.dup(each.fd)) as end:
                options = {name: end.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in WANTED}
                options["SO_KEEPALIVE"] = end.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
                found.append(options)
    return found


def test_publisher_consumer_and_listener_give_up_a_vanished_broker(
    rabbit: RabbitServer, broker: ServiceBroker, vhost: str
) -> None:
    """As their kernel has it, and with the heartbeat that RabbitMQ agreed to."""
    listener = Listener(vhost, name="seen", bindings=[(EVENTS, "#")], callback=lambda *_: None)
    listener.start()
    consumer = broker.consume("orders.commands", timeout=50)
    try:
        eventually(listener.attached.is_set)
        found = socket_options(broker.parameters.port)
        assert len(found) >= 3
        assert [options for options in found if options != {**WANTED, "SO_KEEPALIVE": 1}] == []
        path = f"vhosts/{vhost_of(vhost)}/connections"
        listed = eventually(lambda: [each for each in rabbit.call("GET", path) if "timeout" in each])
        assert {each["timeout"] for each in listed} == {HEARTBEAT_SECONDS}
    finally:
        consumer.close()
        listener.stop()


def test_no_connection_is_opened_without_these_parameters() -> None:
    """One file reads URLs for pika and opens its blocking connections. The publisher opens the other kind."""
    sources = [path for package in ("shared", "services", "embedded") for path in (ROOT / package).rglob("*.py")]
    opening = ("pika.URLParameters(", "pika.BlockingConnection(")
    found = {path.name for path in sources if any(call in path.read_text() for call in opening)}
    assert found == {"connections.py"}


@pytest.mark.parametrize("silent", ["address", "broker"])
def test_a_connect_that_nothing_answers_ends_soon(silent: str) -> None:
    """Either the packets are dropped, or a kernel takes the connection and no broker is behind it."""
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        url = f"amqp://guest:guest@127.0.0.1:{server.getsockname()[1]}/x"
        with proxy_to(url) as proxy:
            if silent == "address":
                proxy.drop()
            parameters = connection_parameters(proxy.through(url), name="test")
            assert (parameters.socket_timeout, parameters.stack_timeout, parameters.connection_attempts) == (5, 10, 1)
            parameters.socket_timeout, parameters.stack_timeout = 0.3, 0.6
            began = time.monotonic()
            with pytest.raises(pika.exceptions.AMQPConnectionError):
                connect(parameters)
            assert time.monotonic() - began < 3
