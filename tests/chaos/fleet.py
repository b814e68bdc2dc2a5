"""The deployed shape with two replicas of orders, on servers that can be taken away from it."""

import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import psutil
from prometheus_client import CollectorRegistry
from prometheus_client.multiprocess import MultiProcessCollector

from embedded.database import service_urls
from embedded.postgres_cluster import PostgresCluster
from shared.contracts.routing import SERVICES
from shared.storage.engine import make_engine
from shared.storage.migrate import ROOT, migrate_service
from tests.chaos import clocks, deaths
from tests.chaos.clocks import ClockedDeployment
from tests.chaos.recorder import Recorder
from tests.chaos.ways import WayToPostgres
from tests.servers.proxy import Proxy, proxy_to
from tests.servers.rabbitmq import PrivateNode, private_node
from tests.support import eventually

#: On SIGUSR1 each process of the fleet writes the stacks of its threads into its log.
STACKS = """
import faulthandler
import signal

faulthandler.register(signal.SIGUSR1)
"""
#: What SIGTERM may take, from the issue of the order to the end of the process.
DRAIN_SECONDS = 25


@dataclass(frozen=True)
class Replica:
    deployment: ClockedDeployment
    service: str

    def __str__(self) -> str:
        return f"{self.service} on {self.deployment.ports[self.service]}"

    @property
    def has_ended(self) -> bool:
        return self.deployment.processes[self.service].poll() is not None

    def start(self) -> None:
        self.deployment.start(self.service)

    def kill(self) -> None:
        self.deployment.kill(self.service)

    def signal(self, signum: int) -> None:
        self.deployment.signal(self.service, signum)

    def maim(self, random: Random) -> str:
        """Kill one process of the replica; which one."""
        children = [child for child in self.deployment.members(self.service) if child.is_running()]
        if not children:  # the gateway is one process
            self.kill()
            return "its only process"
        victim = random.choice(sorted(children, key=lambda child: child.pid))
        victim.kill()
        return f"process {children.index(victim) + 1} of {len(children)} below it"

    def stop_one(self, random: Random) -> psutil.Process:
        """Stop one process of the replica, which does not end, and return it."""
        main = psutil.Process(self.deployment.processes[self.service].pid)
        victim = random.choice([main, *sorted(main.children(), key=lambda child: child.pid)])
        victim.suspend()
        return victim

    def move_clock(self, seconds: float) -> None:
        self.deployment.move_clock(self.service, seconds)

    def terminate(self) -> None:
        """As an orchestrator ends it; it has to be gone in time, and in good order once it has begun to work."""
        working = self.deployment.health(self.service) is not None
        process = self.deployment.processes[self.service]
        process.send_signal(signal.SIGTERM)
        code = process.wait(DRAIN_SECONDS)
        assert code == 0 or (not working and code == -signal.SIGTERM), f"{self} ended with {code}"


@dataclass
class Fleet:
    """``folder`` keeps the logs of all processes, and what they counted. ``urls`` are direct, for those who look on."""

    node: PrivateNode
    postgres: PostgresCluster
    vhost: str
    folder: Path
    urls: dict[str, str]
    recorder: Recorder
    way_to_postgres: WayToPostgres
    way_to_rabbitmq: Proxy
    replicas: list[Replica] = field(default_factory=list)

    @property
    def deaths(self) -> Path:
        """The folder in which deaths are asked for."""
        return self.folder / "deaths"

    @property
    def gateway(self) -> str:
        return self.replicas[0].deployment.gateway

    def tend(self) -> list[str]:
        """Start what has ended, as docker-compose and Kubernetes do; what that was."""
        ended = [replica for replica in self.replicas if replica.has_ended]
        for replica in ended:
            replica.start()
        return [str(replica) for replica in ended]

    def wait_healthy(self) -> None:
        def unhealthy() -> list[Replica]:
            self.tend()
            return [each for each in self.replicas if not each.deployment.health(each.service)]

        try:
            eventually(lambda: not unhealthy(), seconds=120)
        except AssertionError:
            ill = unhealthy()
            for replica in ill:
                replica.signal(signal.SIGUSR1)
            raise AssertionError(f"not healthy after 120 s, see the logs: {', '.join(map(str, ill))}") from None

    def counted(self) -> Counter[str]:
        """Every counter of every worker process that ever ran, summed by its name."""
        totals: Counter[str] = Counter()
        for folder in self.folder.glob("run/paperprofit-*"):
            registry = CollectorRegistry()
            MultiProcessCollector(registry, path=str(folder))
            for metric in registry.collect():
                totals[metric.name] += int(sum(sample.value for sample in metric.samples))
        return totals

    def log_lines(self) -> int:
        return sum(len(log.read_bytes().splitlines()) for log in self.folder.glob("logs*/*.log"))


@contextmanager
def running_fleet(folder: Path, injected: str = "") -> Iterator[Fleet]:
    """A fleet on a RabbitMQ and a PostgreSQL of its own; ``injected`` is run at the start of every process."""
    postgres = PostgresCluster(folder / "postgres", max_connections=300)
    with ExitStack() as stack, postgres as url, private_node(folder / "node") as node:
        urls = service_urls(url)
        for service in SERVICES:
            engine = make_engine(urls[service], name=service)
            migrate_service(engine, service)
            engine.dispose()
        vhost = node.server.new_bus(replicated=False)
        users = node.server.new_users(vhost)
        way = stack.enter_context(closing(WayToPostgres(folder / "pg_service.conf", url)))
        bus_way = stack.enter_context(proxy_to(vhost))
        fleet = Fleet(node, postgres, vhost, folder, urls, Recorder(vhost), way, bus_way)  # before the first event
        (folder / "run").mkdir()
        fleet.deaths.mkdir()
        (folder / "sitecustomize.py").write_text(STACKS + clocks.INJECTED + deaths.INJECTED + injected)
        settings = {
            "TMPDIR": str(folder / "run"),
            "PYTHONPATH": f"{folder}:{ROOT}",
            "PAPERPROFIT_REPLAY_SPEED": "5",
            deaths.FOLDER: str(fleet.deaths),
            "PGSERVICEFILE": str(way.file),
        }
        named = {service: way.url(url) for service, url in urls.items()}
        users = {service: bus_way.through(url) for service, url in users.items()}
        for number, services in enumerate((SERVICES, ("orders",))):
            logs = folder / f"logs{number}"
            logs.mkdir()
            deployment = ClockedDeployment(named, vhost, logs, users, settings)
            fleet.replicas += [Replica(deployment, service) for service in services]
        fleet.replicas.sort(key=lambda replica: replica.service != "gateway")
        try:
            for replica in fleet.replicas:
                replica.start()
            fleet.wait_healthy()
            yield fleet
        finally:
            for deployment in {id(replica.deployment): replica.deployment for replica in fleet.replicas}.values():
                deployment.stop()
            clocks.remove_leftovers()
