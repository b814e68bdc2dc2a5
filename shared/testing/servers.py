"""The real servers that tests use, taken in this order: named by the environment, from Docker, or private.

    PAPERPROFIT_TEST_POSTGRES_URL              a superuser's postgresql:// URL
    PAPERPROFIT_TEST_RABBITMQ_URL              amqp://user:password@host:port
    PAPERPROFIT_TEST_RABBITMQ_MANAGEMENT_URL   http://user:password@host:port of the same server

A missing server is a failure that says what to install, never a skipped test.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.storage.cluster import PostgresCluster
from shared.testing.rabbitmq import PROGRAM, RabbitServer, private_node

POSTGRES_IMAGE = "postgres:17"
RABBITMQ_IMAGE = "rabbitmq:4-management"


class ServerMissing(RuntimeError):
    """No way to a server that the tests need."""


@contextmanager
def postgres_server() -> Iterator[str]:
    """A superuser's URL."""
    named = os.environ.get("PAPERPROFIT_TEST_POSTGRES_URL")
    if named:
        yield named
    elif docker_answers():
        with _postgres_container() as url:
            yield url
    else:
        with tempfile.TemporaryDirectory(prefix="paperprofit-postgres-") as folder:
            with PostgresCluster(Path(folder) / "postgres", durable=False, max_connections=300) as url:
                yield url


@contextmanager
def rabbit_server() -> Iterator[RabbitServer]:
    named = os.environ.get("PAPERPROFIT_TEST_RABBITMQ_URL")
    if named:
        yield RabbitServer(named, os.environ["PAPERPROFIT_TEST_RABBITMQ_MANAGEMENT_URL"])
    elif docker_answers():
        with _rabbitmq_container() as server:
            yield server
    elif PROGRAM.exists():
        with tempfile.TemporaryDirectory(prefix="paperprofit-rabbitmq-") as folder:
            with private_node(Path(folder)) as node:
                yield node.server
    else:
        raise ServerMissing("the tests need RabbitMQ: start Docker, or install rabbitmq-server (Debian, Ubuntu)")


def docker_answers() -> bool:
    """Whether a Docker engine answers at once."""
    if shutil.which("docker") is None:
        return False
    try:
        asked = subprocess.run(["docker", "info"], capture_output=True, timeout=5, check=False)
    except subprocess.TimeoutExpired:
        return False
    return asked.returncode == 0


@contextmanager
def _postgres_container() -> Iterator[str]:
    from testcontainers.postgres import PostgresContainer

    container = PostgresContainer(POSTGRES_IMAGE, "paperprofit", "paperprofit", "paperprofit", driver="psycopg")
    with container.with_command("postgres -c max_connections=300 -c fsync=off") as running:
        yield running.get_connection_url()


@contextmanager
def _rabbitmq_container() -> Iterator[RabbitServer]:
    from testcontainers.rabbitmq import RabbitMqContainer

    with RabbitMqContainer(RABBITMQ_IMAGE).with_exposed_ports(5672, 15672) as running:
        host, port = running.get_container_host_ip(), running.get_exposed_port(5672)
        management = running.get_exposed_port(15672)
        yield RabbitServer(f"amqp://guest:guest@{host}:{port}", f"http://guest:guest@{host}:{management}")
