"""An embedded run as a user starts it: a process of its own, watched from outside."""

import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from queue import Empty, Queue
from types import TracebackType
from typing import IO, Self

import psutil

from bench.report import NotMeasured
from embedded.free_port import free_port

ROOT = Path(__file__).parents[1]
EMBEDDED = (sys.executable, "-m", "embedded")
#: What a caller may have set for a run of its own; each run here starts from the defaults.
OWN_VARIABLES = ("PAPERPROFIT_", "MAKEFLAGS", "MAKELEVEL", "MFLAGS")
START_TIMEOUT = 60.0
STOP_TIMEOUT = 30.0
LAST_LINES = 5


class EmbeddedRun:
    """Starts the command on a free port and waits for its ``ready``. Leaving the context ends it.

    ``folder`` is where its database lives, or lies below. Raises NotMeasured when it does not get ready.
    """

    def __init__(
        self,
        folder: Path,
        *,
        command: Sequence[str] = EMBEDDED,
        cwd: Path = ROOT,
        variables: dict[str, str] | None = None,
        timeout: float = START_TIMEOUT,
    ) -> None:
        self.folder = folder
        self.key_id, self.secret = "PK" + secrets.token_hex(9).upper(), secrets.token_urlsafe(30)
        self.port = free_port()
        self._lines: Queue[tuple[float, str] | None] = Queue()
        begun = time.monotonic()
        self.process = subprocess.Popen(
            command,
            cwd=cwd,
            env=self._environment() | (variables or {"PAPERPROFIT_HOME": str(folder)}),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        assert self.process.stdout is not None
        threading.Thread(target=self._read, args=(self.process.stdout,), daemon=True).start()
        with ExitStack() as unless_ready:
            unless_ready.callback(self._end)
            self.ready_seconds = self._wait_for_ready(begun + timeout) - begun
            unless_ready.pop_all()
        self.ready_at = datetime.now(UTC)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self._end()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def key_headers(self) -> dict[str, str]:
        return {"APCA-API-KEY-ID": self.key_id, "APCA-API-SECRET-KEY": self.secret}

    def stop(self) -> float:
        """Stop it by SIGTERM, as a supervisor does, and return the seconds until it was gone."""
        begun = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            raise NotMeasured(f"it did not stop within {STOP_TIMEOUT:g} s of SIGTERM") from None
        return time.monotonic() - begun

    def processes(self) -> list[psutil.Process]:
        """Processes that still run in the folder or name it, PostgreSQL's own included."""
        return [process for process in psutil.process_iter() if _belongs_to(process, self.folder)]

    def _environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(OWN_VARIABLES)}
        return inherited | {
            "PORT": str(self.port),
            "PAPERPROFIT_API_KEY_ID": self.key_id,
            "PAPERPROFIT_API_SECRET_KEY": self.secret,
            "PYTHONUNBUFFERED": "1",
        }

    def _read(self, output: IO[str]) -> None:
        """Stamp each line as it comes, and keep the pipe empty for as long as the process writes."""
        for line in output:
            self._lines.put((time.monotonic(), line.strip()))
        self._lines.put(None)

    def _wait_for_ready(self, deadline: float) -> float:
        seen: list[str] = []
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except Empty:
                raise NotMeasured(f"not ready in time; {_last(seen)}") from None
            if line is None:
                raise NotMeasured(f"ended with {self.process.wait()} before it was ready; {_last(seen)}")
            if line[1] == "ready":
                return line[0]
            seen.append(line[1])

    def _end(self) -> None:
        """End what is left: the command's process group first, then a PostgreSQL that it did not stop."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            try:
                self.process.wait(STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                os.killpg(self.process.pid, signal.SIGKILL)
                self.process.wait()
        left = self.processes()
        for process in left:
            process.kill()
        psutil.wait_procs(left, STOP_TIMEOUT)


def _belongs_to(process: psutil.Process, folder: Path) -> bool:
    try:
        return Path(process.cwd()).is_relative_to(folder) or any(
            str(folder) in argument for argument in process.cmdline()
        )
    except psutil.Error:  # it ended, is a zombie, or is another user's
        return False


def _last(lines: Sequence[str]) -> str:
    told = [line for line in lines if line][-LAST_LINES:]
    return "it wrote: " + " | ".join(told) if told else "it wrote nothing"
