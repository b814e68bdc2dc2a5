"""A RabbitMQ for tests: virtual hosts on demand, queue depths, cut connections, and a private node."""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit
from uuid import uuid4

import pika
import pika.exceptions

from embedded.free_port import free_ports
from shared.bus.amqp.management import Management, ManagementRefused
from shared.bus.amqp.setup import make_user, prepare, user_of
from shared.bus.amqp.topology import logical_name
from shared.contracts.routing import SERVICES

PROGRAM = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
CONTROL = PROGRAM.with_name("rabbitmqctl")
START_SECONDS = 60.0
#: The beginning and the end of an alarm of memory and of disk, as arguments of ``PrivateNode.control``.
ALARMS = {
    "memory": (("set_vm_memory_high_watermark", "0"), ("set_vm_memory_high_watermark", "0.4")),
    "disk": (("set_disk_free_limit", "1000000GB"), ("set_disk_free_limit", "50MB")),
}
STOP_SECONDS = 20.0
PORT_TRIES = 3
#: For RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS: messages are counted every quarter of a second, and consumers every second.
#: By default both are counted every 5 seconds.
FRESH_STATISTICS = (
    "-rabbit collect_statistics_interval 250 -rabbit quorum_tick_interval 250 -rabbitmq_management_agent"
    " sample_retention_policies [{global,[{60,1}]},{basic,[{60,1}]},{detailed,[{60,1}]}]"
)


class NodeFailed(RuntimeError):
    """The private RabbitMQ node did not start. The message has the end of its log."""


class PortTaken(NodeFailed):
    """Another process took a port of the node before it started."""


@dataclass(frozen=True)
class QueueDepth:
    """The numbers of waiting messages, of unacknowledged messages and of consumers."""

    ready: int
    unacked: int
    consumers: int


@dataclass(frozen=True)
class RabbitServer:
    """A server at ``url``, without a virtual host, and its HTTP API. Both URLs have user and password."""

    url: str
    management_url: str

    def new_vhost(self) -> str:
        """Make an empty virtual host and return its AMQP URL."""
        name = f"test-{uuid4().hex[:12]}"
        user = urlsplit(self.url).username or "guest"
        self.call("PUT", f"vhosts/{name}", {})
        everything = {"configure": ".*", "write": ".*", "read": ".*"}
        self.call("PUT", f"permissions/{name}/{quote(user, safe='')}", everything)
        return f"{self.url.rstrip('/')}/{name}"

    def new_bus(self, *, replicated: bool | None = None) -> str:
        """Make a virtual host with the services' exchanges and queues, and return its AMQP URL."""
        url = self.new_vhost()
        prepare(Management(self.management_url), vhost_of(url), replicated=replicated)
        return url

    def new_users(self, url: str) -> dict[str, str]:
        """Make a user with a password for each service, and return the URLs with which they connect, by service."""
        server = urlsplit(url)
        urls = {}
        for service in SERVICES:
            password = secrets.token_hex(16)
            make_user(Management(self.management_url), vhost_of(url), service, password)
            urls[service] = f"amqp://{user_of(service)}:{password}@{server.hostname}:{server.port}{server.path}"
        return urls

    def delete_vhost(self, url: str) -> None:
        self.call("DELETE", f"vhosts/{vhost_of(url)}")

    def queues(self, url: str) -> dict[str, QueueDepth]:
        """The depths of the virtual host's queues, by logical name.

        On a server that the tests started, messages are counted every quarter of a second, and consumers every second.
        """
        vhost = vhost_of(url)
        totals = self.call("GET", f"queues/{vhost}?disable_stats=true&enable_queue_totals=true")
        consumers = Counter(each["queue"]["name"] for each in self.call("GET", f"consumers/{vhost}"))
        return {
            logical_name(queue["name"]): QueueDepth(
                queue.get("messages_ready", 0), queue.get("messages_unacknowledged", 0), consumers[queue["name"]]
            )
            for queue in totals
        }

    def close_connections(self, url: str) -> int:
        """Cut every connection of the virtual host, as a network would, and return their number."""
        listed = self.call("GET", f"vhosts/{vhost_of(url)}/connections")
        for connection in listed:
            with contextlib.suppress(ManagementRefused):  # it was closed meanwhile
                self.call("DELETE", f"connections/{quote(connection['name'], safe='')}")
        return len(listed)

    def answers(self) -> bool:
        """True where the server takes AMQP connections and calls of the management API."""
        address = urlsplit(self.url)
        try:  # a plain socket first: pika leaves those of refused connections to the garbage collector
            socket.create_connection((address.hostname or "", address.port or 5672), timeout=1).close()
            pika.BlockingConnection(pika.URLParameters(f"{self.url}/%2F")).close()
            self.call("GET", "overview")
        except (pika.exceptions.AMQPError, ManagementRefused, OSError):
            return False
        return True

    def call(self, method: str, path: str, body: object = None) -> Any:
        """Make one call of the management API."""
        return Management(self.management_url).call(method, path, body)


def vhost_of(url: str) -> str:
    return url.rpartition("/")[2]


class PrivateNode:
    """A node of the locally installed rabbitmq-server, on free ports, with its data in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.name = f"pp{secrets.token_hex(4)}@localhost"
        self.port, self.management, self.distribution, self.epmd = free_ports(4)
        self.server = RabbitServer(
            f"amqp://guest:guest@127.0.0.1:{self.port}", f"http://guest:guest@127.0.0.1:{self.management}"
        )
        self._process: subprocess.Popen[bytes] | None = None
        self._epmd: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the node, and return when it takes connections. Raises NodeFailed."""
        if not PROGRAM.exists():
            raise NodeFailed(f"{PROGRAM} is missing: install rabbitmq-server (apt-get install rabbitmq-server)")
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "node.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\n"
            "management.tcp.ip = 127.0.0.1\n"
            f"management.tcp.port = {self.management}\n"
            "disk_free_limit.absolute = 50MB\n"
        )
        (self.folder / "plugins").write_text("[rabbitmq_management].\n")
        # Start Erlang's port mapper first: one that the node starts itself would outlive the node.
        self._epmd = self._launch("epmd", "-port", str(self.epmd), "-address", "127.0.0.1")
        self._process = self._launch(str(PROGRAM))
        self._wait()

    def _launch(self, *command: str) -> "subprocess.Popen[bytes]":
        with (self.folder / "node.log").open("ab") as log:
            return subprocess.Popen(
                [*_dying_with_us(), *command], env=self.environment(), stdout=log, stderr=log, start_new_session=True
            )

    def environment(self) -> dict[str, str]:
        """The environment that gives the node files and ports of its own."""
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
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": FRESH_STATISTICS,
        }

    def control(self, *arguments: str) -> str:
        """Run ``rabbitmqctl`` and return its output. Raises NodeFailed where it fails."""
        done = subprocess.run(
            [CONTROL, "--quiet", *arguments], env=self.environment(), capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise NodeFailed(f"rabbitmqctl {' '.join(arguments)}: {done.stderr or done.stdout}")
        return done.stdout

    def stop(self) -> None:
        """Shut the node and its epmd down. The data stays."""
        if self._process is not None:
            self._process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS)
        self.kill()

    def kill(self) -> None:
        """End the node and its epmd as a power cut would. Does nothing to a node that has ended."""
        for process in (self._process, self._epmd):
            if process is not None and process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)  # the node is a script and the Erlang machine below it
                process.wait()
        self._process = self._epmd = None

    def _wait(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process is not None and self._process.poll() is None:
            if self.server.answers():
                return
            time.sleep(0.1)
        end = " | ".join((self.folder / "node.log").read_text(errors="replace").splitlines()[-8:])
        failure = PortTaken if "eaddrinuse" in end else NodeFailed
        raise failure(f"RabbitMQ did not start: {end}")


@contextmanager
def private_node(folder: Path) -> Iterator[PrivateNode]:
    """Run a new node. Raises NodeFailed if it does not start, or not on free ports in three tries."""
    with contextlib.ExitStack() as stack:
        for tries in range(1, PORT_TRIES + 1):
            node = PrivateNode(folder)
            stack.callback(node.kill)
            try:
                node.start()
                break
            except PortTaken:
                if tries == PORT_TRIES:
                    raise
        yield node


def _dying_with_us() -> list[str]:
    """The prefix of a command that ends with the tests, however they end, where the system supports it."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "TERM"] if setpriv else []
