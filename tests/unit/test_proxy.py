"""The proxy of the tests cuts and refuses connections as it says."""

import errno
import socket
import threading
from collections.abc import Iterator

import pytest

from tests.servers.proxy import Proxy, proxy_to
from tests.support import eventually


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    """A proxy in front of a server that echoes."""
    server = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=echo, args=(client,), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    with proxy_to(f"amqp://127.0.0.1:{server.getsockname()[1]}") as proxy:
        yield proxy
    server.shutdown(socket.SHUT_RDWR)
    server.close()


def echo(client: socket.socket) -> None:
    with client:
        while chunk := client.recv(100):
            client.sendall(chunk)


def connect(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=5)


def answer(client: socket.socket) -> bytes:
    """The answer of the server, or nothing where the connection has ended."""
    try:
        client.sendall(b"hello")
        return client.recv(100)
    except ConnectionError:
        return b""


def test_it_forwards_both_ways(proxy: Proxy) -> None:
    with connect(proxy) as client:
        assert answer(client) == b"hello"
        assert proxy.connections == 1


def test_a_cut_ends_what_is_open_and_lets_new_ones_through(proxy: Proxy) -> None:
    with connect(proxy) as client, connect(proxy) as second:
        assert answer(client) == answer(second) == b"hello"
        proxy.cut()
        assert client.recv(100) == b""
        assert answer(second) == b""
    with connect(proxy) as client:
        assert answer(client) == b"hello"


def test_while_it_refuses_no_connection_lives(proxy: Proxy) -> None:
    with connect(proxy) as client:
        assert answer(client) == b"hello"
        proxy.refuse()
        assert answer(client) == b""
    with connect(proxy) as client:
        assert answer(client) == b""
    proxy.accept()
    with connect(proxy) as client:
        assert answer(client) == b"hello"


def test_a_url_keeps_everything_but_its_address() -> None:
    with proxy_to("amqp://127.0.0.1:5672") as proxy:
        assert proxy.through("amqp://u:p@host:1/v?heartbeat=1") == f"amqp://u:p@127.0.0.1:{proxy.port}/v?heartbeat=1"


def test_a_black_hole_acknowledges_nothing(proxy: Proxy) -> None:
    """The client's kernel gives up what it sent, and a new connection is not refused but times out."""
    with connect(proxy) as client, connect(proxy) as patient:
        assert answer(client) == answer(patient) == b"hello"
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 300)
        proxy.drop()
        with pytest.raises(TimeoutError) as found:
            answer(client)
        assert found.value.errno == errno.ETIMEDOUT
        with pytest.raises(TimeoutError):
            socket.create_connection(("127.0.0.1", proxy.port), timeout=0.3)
        proxy.accept()
        assert answer(patient) == b"hello", "a connection that nobody has given up goes on"
        with connect(proxy) as later:
            assert answer(later) == b"hello"
        eventually(lambda: proxy.connections == 1, what="the connection that the client gave up is closed")
