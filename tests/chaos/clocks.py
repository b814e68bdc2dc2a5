"""Clocks of services that a fault run moves. PostgreSQL, RabbitMQ and the traders keep the true time.

libfaketime is preloaded into the processes of the services and adds the offset in a file to the time of day. Monotonic
clocks and the times of files stay true, as they do when NTP or a person sets the time.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil

from tests.deployment import Deployment

LIBRARIES = Path("/usr/lib")
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - where Linux keeps it
#: Each process reads its offset again after so many seconds.
CACHE_SECONDS = 1
#: Python runs this at the start of every process of the fleet. Its own sleep ends at a time of the monotonic clock,
#: which libfaketime 0.9.10 takes for a time of day and refuses.
INJECTED = """
import select
import time

time.sleep = lambda seconds: select.select([], [], [], seconds) and None
"""


@dataclass
class ClockedDeployment(Deployment):
    """A deployment in which each service has a clock of its own."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for service in self.ports:
            self.move_clock(service, 0)

    def move_clock(self, service: str, seconds: float) -> None:
        """Let the clock of all processes of the service differ from the true time by these seconds."""
        file = self._clock(service)
        new = file.with_suffix(".new")
        new.write_text(f"{seconds:+.3f}\n")
        new.replace(file)

    def _clock(self, service: str) -> Path:
        return self.logs / f"{service}.clock"

    def _environment(self, service: str) -> dict[str, str]:
        return {**super()._environment(service), **_preloaded(self._clock(service))}


def _preloaded(offset: Path) -> Mapping[str, str]:
    """Return the variables of libfaketime: https://github.com/wolfcw/libfaketime/blob/master/README."""
    return {
        "LD_PRELOAD": str(_library()),
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_CACHE_DURATION": str(CACHE_SECONDS),
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "NO_FAKE_STAT": "1",
    }


def remove_leftovers() -> None:
    """Remove the shared memory of processes that were killed, which libfaketime leaves behind."""
    for file in SHARED_MEMORY.glob("*faketime_s[eh]m_*"):
        if not psutil.pid_exists(int(file.name.rpartition("_")[2])):
            file.unlink(missing_ok=True)


def _library() -> Path:
    """Find Debian's library for programs with threads."""
    found = sorted(LIBRARIES.glob("*/faketime/libfaketimeMT.so.1"))
    assert found, "libfaketime is missing: run tests/ensure-libfaketime"
    return found[0]
