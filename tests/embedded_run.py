"""``make run`` as a user starts it: a process of its own, on a home and a port of its own."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from threading import Thread

import psutil

from embedded.free_port import free_port
from shared.storage.migrate import ROOT
from tests.support import eventually

KEY_ID, SECRET = "EMBEDDEDKEY", "embedded-secret-key"
HEADERS = {"APCA-API-KEY-ID": KEY_ID, "APCA-API-SECRET-KEY": SECRET}


@dataclass
class EmbeddedRun:
    home: Path
    port: int = field(default_factory=free_port)
    settings: dict[str, str] = field(default_factory=dict)
    output: list[str] = field(default_factory=list)
    process: "subprocess.Popen[str] | None" = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def text(self) -> str:
        return "".join(self.output)

    def start(self, *, wait: bool = True) -> "EmbeddedRun":
        self.output = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "embedded"],
            cwd=ROOT,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        Thread(target=self._read, args=[self.process], daemon=True).start()
        if wait:
            eventually(lambda: self.text.endswith("ready\n") or self.ended, seconds=60, what="ready")
            assert not self.ended, self.text
        return self

    def environment(self) -> dict[str, str]:
        """The run's environment variables, without empty settings."""
        given = {
            "PATH": os.environ["PATH"],
            "HOME": os.environ.get("HOME", "/"),
            "PAPERPROFIT_HOME": str(self.home),
            "PORT": str(self.port),
            "PAPERPROFIT_API_KEY_ID": KEY_ID,
            "PAPERPROFIT_API_SECRET_KEY": SECRET,
            **self.settings,
        }
        return {name: value for name, value in given.items() if value}

    def _read(self, process: "subprocess.Popen[str]") -> None:
        assert process.stdout is not None
        with process.stdout:
            self.output.extend(process.stdout)

    @property
    def ended(self) -> bool:
        return self.process is None or self.process.poll() is not None

    def processes(self) -> list[psutil.Process]:
        """The process and all it started."""
        assert self.process is not None
        own = psutil.Process(self.process.pid)
        return [own, *own.children(recursive=True)]

    def stop(self, signum: int = signal.SIGTERM) -> float:
        """End it by the signal, and return the seconds that took."""
        assert self.process is not None
        began = time.monotonic()
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signum)
        self.process.wait(30)
        return time.monotonic() - began
