"""``make run``: PaperProfit in one process, with its own PostgreSQL, for one machine and one person.

``python -m embedded key`` (``make key``) replaces the key of the demo account.

PORT                          where to serve (default 8000, loopback only)
PAPERPROFIT_HOME              where its database lives (default ./.paperprofit)
PAPERPROFIT_API_KEY_ID        the demo account's key; made and printed once if not given,
PAPERPROFIT_API_SECRET_KEY    together with its secret
PAPERPROFIT_REPLAY_SPEED      recorded bars a second (default 1)
PAPERPROFIT_KEEP_BARS_DAYS    days that bars are kept (default 730); daily and replayed ones stay
"""

import argparse
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType

from embedded import replace_key
from embedded.database import service_urls
from embedded.home import HomeUnusable, home_folder, take_home
from embedded.postgres_cluster import ClusterFailed, PostgresCluster
from embedded.system import SERVICES, System
from services.gateway.serving import http_server
from services.gateway.settings import Settings
from shared.jobs.config import InvalidJobsConfig
from shared.jobs.engine.tick import run_scheduler
from shared.observability.logs import configure_logs
from shared.settings import InvalidSettings, load
from shared.storage.migrate import ROOT

START_SECONDS = 10
_asked_to_stop = threading.Event()


class Stop(BaseException):
    """SIGTERM or Ctrl-C: unwinds the main thread from wherever it waits."""


class PortUnusable(Exception):
    """The port cannot be listened on; the message says what to do."""


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m embedded", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args()
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, _stop)
    try:
        with ExitStack() as stack:
            _run(stack)
    except Stop:
        print("stopped", flush=True)  # noqa: T201
        return 0
    except (HomeUnusable, PortUnusable, ClusterFailed, InvalidSettings, InvalidJobsConfig) as error:
        print(f"paperprofit: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def _stop(_signum: int, _frame: FrameType | None) -> None:
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, signal.SIG_IGN)  # once is enough; the rest is bounded
    _asked_to_stop.set()
    raise Stop


def stop_if_asked() -> None:
    """Raise Stop again: a signal that arrives in a destructor raises it there, where Python drops it."""
    if _asked_to_stop.is_set():
        raise Stop


def _run(stack: ExitStack) -> None:
    home = home_folder()
    stack.enter_context(take_home(home))
    settings = _settings()
    listening = stack.enter_context(_listen(os.environ.get("PORT", "8000")))
    cluster = PostgresCluster(home / "postgres")
    stack.callback(cluster.stop)
    _say("starting the database" if cluster.data.exists() else f"making the first database in {home}")
    urls = service_urls(cluster.start())
    configure_logs(settings)
    system = System(urls, settings)
    _say("bringing its tables up to date")
    system.prepare()
    _say("starting the services")
    stack.enter_context(system.running())
    stack.enter_context(_serving(system, listening))
    _announce(system, listening)
    run_scheduler(system.ticks(each=stop_if_asked))


def _settings() -> Settings:
    """The demo's settings, unless the environment says otherwise; the services read them from there too."""
    os.environ.setdefault("PAPERPROFIT_DEMO", "true")
    os.environ.setdefault("PAPERPROFIT_JOBS_CONFIG", str(ROOT / "config" / "jobs.demo.toml"))
    os.environ.setdefault("PAPERPROFIT_LOG_FORMAT", "human")
    os.environ.setdefault("PAPERPROFIT_LOG_LEVEL", "WARNING")
    for service in SERVICES:
        service.check_settings()  # a mistake is told now, not on a worker's thread
    return load(Settings)


def _listen(port: str) -> socket.socket:
    """The socket, bound before anything is started, so that a port in use is told at once."""
    if not port.isdecimal() or int(port) > 65535:
        raise PortUnusable(f"PORT: {port!r} is not a port; choose one from 0 to 65535, 0 for any free one")
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(("127.0.0.1", int(port)))
    except OSError as error:
        listening.close()
        raise PortUnusable(f"port {port}: {error.strerror}; choose another one with PORT=") from None
    return listening


@contextmanager
def _serving(system: System, listening: socket.socket) -> Iterator[None]:
    """Uvicorn on a thread of its own: the main thread belongs to the scheduler and its SIGALRM."""
    server = http_server(system.app(), shutdown_seconds=1)
    thread = threading.Thread(target=server.run, args=([listening],), name="http")
    thread.start()
    try:
        deadline = time.monotonic() + START_SECONDS
        while not server.started and thread.is_alive() and time.monotonic() < deadline:
            time.sleep(0.01)
        yield
    finally:
        server.should_exit = True
        thread.join(timeout=3)


def _say(step: str) -> None:
    print(step, flush=True)  # noqa: T201


def _announce(system: System, listening: socket.socket) -> None:
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    print(f"\n  PaperProfit  {url}")  # noqa: T201
    for key in system.keys:
        source = "   (from PAPERPROFIT_API_KEY_ID)" if key.key_id == system.settings.api_key_id else ""
        print(f"  key id       {key.key_id}{source}")  # noqa: T201
        if key.secret:
            print(f"  secret key   {key.secret}   (shown this once; keep it)")  # noqa: T201
        elif not source:
            print("  secret key   shown when it was made; make key replaces a lost one")  # noqa: T201
    print("\nready", flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(replace_key.main(sys.argv[2:]) if sys.argv[1:2] == ["key"] else main())
