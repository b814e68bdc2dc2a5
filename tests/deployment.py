"""The deployed shape on this machine: the four services and the gateway, each a process group of its own."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

import psutil

from embedded.free_port import free_ports
from shared.contracts.routing import SERVICES
from shared.storage.migrate import ROOT
from tests.support import eventually

KEY = {"APCA-API-KEY-ID": "E2EKEY", "APCA-API-SECRET-KEY": "e2e-secret-key"}


@dataclass
class Deployment:
    """``urls`` are the services' database URLs, ``rabbitmq`` a virtual host for this deployment alone, ``users`` the
    URLs with which each service connects to it.
    """

    urls: dict[str, str]
    rabbitmq: str
    logs: Path
    users: dict[str, str]
    settings: dict[str, str] = field(default_factory=dict)
    processes: dict[str, "subprocess.Popen[bytes]"] = field(default_factory=dict)
    ports: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.ports = dict(zip(SERVICES, free_ports(len(SERVICES)), strict=True))

    @property
    def gateway(self) -> str:
        return f"http://127.0.0.1:{self.ports['gateway']}"

    def start(self, *services: str) -> None:
        for service in services or SERVICES:
            with (self.logs / f"{service}.log").open("ab") as log:
                self.processes[service] = subprocess.Popen(
                    [sys.executable, "-m", f"services.{service}"],
                    cwd=ROOT,
                    env=self._environment(service),
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )

    def _environment(self, service: str) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "PAPERPROFIT_DATABASE_URL": self.urls[service],
            "PAPERPROFIT_RABBITMQ_URL": self.users[service],
            "PAPERPROFIT_DEMO": "true",
            "PAPERPROFIT_JOBS_CONFIG": str(ROOT / "config" / "jobs.toml"),
            "PAPERPROFIT_HEALTH_PORT": str(self.ports[service]),
            "PAPERPROFIT_PORT": str(self.ports[service]),
            "PAPERPROFIT_API_KEY_ID": KEY["APCA-API-KEY-ID"],
            "PAPERPROFIT_API_SECRET_KEY": KEY["APCA-API-SECRET-KEY"],
            **self.settings,
        }

    def health(self, service: str, path: str = "/healthz") -> dict[str, Any] | None:
        """The service's own word on its health; None while nothing answers or it is unhealthy."""
        url = f"http://127.0.0.1:{self.ports[service]}{path}"
        try:
            with urlopen(url, timeout=3) as answer:
                health: dict[str, Any] = json.load(answer)
        except (URLError, ConnectionError, TimeoutError):
            return None
        return health

    def wait_healthy(self, *services: str, seconds: float = 60) -> None:
        for service in services or SERVICES:
            eventually(lambda s=service: self.health(s), seconds=seconds, what=f"{service} healthy")  # type: ignore[misc]

    def signal(self, service: str, signum: int) -> None:
        """To every process of the service, as a container's end would be."""
        os.killpg(self.processes[service].pid, signum)

    def kill(self, service: str) -> None:
        self.signal(service, signal.SIGKILL)
        self.processes[service].wait(10)

    def members(self, service: str) -> list[psutil.Process]:
        return psutil.Process(self.processes[service].pid).children(recursive=True)

    def stop(self) -> None:
        for process in self.processes.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGTERM)
        deadline = time.monotonic() + 30
        for process in self.processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.1, deadline - time.monotonic()))
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
