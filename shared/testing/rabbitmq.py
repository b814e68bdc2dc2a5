"""A RabbitMQ for tests: virtual hosts on demand, queue depths, cut connections; and a private node of its own."""

import contextlib
import json
import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import quote, urlsplit
from urllib.request import HTTPPasswordMgrWithDefaultRealm, HTTPBasicAuthHandler, Request, build_opener
from uuid import uuid4

import pika
import pika.exceptions

PROGRAM = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
START_SECONDS = 60.0


class NodeFailed(RuntimeError):
    """The private RabbitMQ node did not start; the message has the end of its log."""


@dataclass(frozen=True)
class QueueDepth:
    """Messages that wait, messages that were delivered but not acknowledged, and consumers."""

    ready: int
    unacked: int
    consumers: int


@dataclass(frozen=True)
class RabbitServer:
    """``url`` without a virtual host; ``management_url`` of its HTTP API; both with user and password."""

    url: str
    management_url: str

    def new_vhost(self) -> str:
        """Make an empty virtual host and return its AMQP URL."""
        name = f"test-{uuid4().hex[:12]}"
        user = urlsplit(self.url).username or "guest"
        self.call("PUT", f"vhosts/{name}", {})
        everything = {"configure": ".*", "write": ".*", "read": ".*"}
        self.call("PUT", f"permissions/{name}/{quote(user)}", everything)
        return f"{self.url.rstrip('/')}/{name}"

    def delete_vhost(self, url: str) -> None:
        self.call("DELETE", f"vhosts/{vhost_of(url)}")

    def queues(self, url: str) -> dict[str, QueueDepth]:
        """The queues of the URL's virtual host, as the server last counted them (at most a second ago)."""
        listed = self.call("GET", f"queues/{vhost_of(url)}")
        return {
            queue["name"]: QueueDepth(
                queue.get("messages_ready", 0), queue.get("messages_unacknowledged", 0), queue.get("consumers", 0)
            )
            for queue in listed
        }

    def close_connections(self, url: str) -> int:
        """Cut every connection of the virtual host, as a network would; the number of them."""
        listed = self.call("GET", f"vhosts/{vhost_of(url)}/connections")
        for connection in listed:
            with contextlib.suppress(URLError):
                self.call("DELETE", f"connections/{quote(connection['name'], safe='')}")
        return len(listed)

    def call(self, method: str, path: str, body: object = None) -> Any:
        """One call of the management API."""
        parts = urlsplit(self.management_url)
        base = f"http://{parts.hostname}:{parts.port}"
        passwords = HTTPPasswordMgrWithDefaultRealm()
        passwords.add_password(None, base, parts.username or "", parts.password or "")
        data = None if body is None else json.dumps(body).encode()
        request = Request(f"{base}/api/{path}", data, {"Content-Type": "application/json"}, method=method)  # noqa: S310
        with build_opener(HTTPBasicAuthHandler(passwords)).open(request, timeout=10) as response:
            answer = response.read()
        return json.loads(answer) if answer else None


def vhost_of(url: str) -> str:
    return url.rpartition("/")[2]


class PrivateNode:
    """A node of the locally installed rabbitmq-server, on free ports, with its data in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = f"pp{secrets.token_hex(4)}@localhost"
        self.port, self.management, self.distribution, self.epmd = _free_ports(4)
        self.server = RabbitServer(
            f"amqp://guest:guest@127.0.0.1:{self.port}", f"http://guest:guest@127.0.0.1:{self.management}"
        )
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the node and return when it takes connections."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "node.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\n"
            "management.tcp.ip = 127.0.0.1\n"
            f"management.tcp.port = {self.management}\n"
            "collect_statistics_interval = 500\n"
            "disk_free_limit.absolute = 50MB\n"
        )
        (self.folder / "plugins").write_text("[rabbitmq_management].\n")
        with (self.folder / "node.log").open("ab") as log:
            self._process = subprocess.Popen(
                [PROGRAM], env=self.environment(), stdout=log, stderr=log, start_new_session=True
            )
        self._wait()

    def environment(self) -> dict[str, str]:
        """What makes every file and port of the node its own."""
        home = str(self.folder)
        return {
            "PATH": os.environ["PATH"],
            "HOME": home,
            "LANG": "C.UTF-8",
            "RABBITMQ_NODENAME": self.name,
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_DIST_PORT": str(self.distribution),
            "ERL_EPMD_PORT": str(self.epmd),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_MNESIA_BASE": f"{home}/mnesia",
            "RABBITMQ_LOG_BASE": f"{home}/log",
            "RABBITMQ_PID_FILE": f"{home}/pid",
            "RABBITMQ_CONFIG_FILE": f"{home}/node",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{home}/plugins",
            "RABBITMQ_CONF_ENV_FILE": f"{home}/none",
        }

    def stop(self) -> None:
        """End the node and its epmd; the data stays."""
        with contextlib.suppress(OSError, ValueError):
            os.kill(int((self.folder / "pid").read_text()), signal.SIGTERM)
        if self._process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(20)
            if self._process.poll() is None:
                self.kill()
        subprocess.run(["epmd", "-port", str(self.epmd), "-kill"], capture_output=True, check=False)

    def kill(self) -> None:
        """End the node as a power cut would."""
        with contextlib.suppress(OSError, ValueError):
            os.kill(int((self.folder / "pid").read_text()), signal.SIGKILL)
        if self._process is not None:
            self._process.wait(10)

    def _wait(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process is not None and self._process.poll() is None:
            with contextlib.suppress(pika.exceptions.AMQPError, OSError):
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                pika.BlockingConnection(pika.URLParameters(f"{self.server.url}/%2F")).close()
                self.server.call("GET", "overview")
                return
            time.sleep(0.1)
        end = " | ".join((self.folder / "node.log").read_text(errors="replace").splitlines()[-8:])
        raise NodeFailed(f"RabbitMQ did not start: {end}")


@contextmanager
def private_node(folder: Path) -> Iterator[PrivateNode]:
    node = PrivateNode(folder)
    try:
        node.start()
        yield node
    finally:
        node.stop()


def _free_ports(count: int) -> list[int]:
    """Distinct free ports, held until all are known."""
    with contextlib.ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
