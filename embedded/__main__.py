"""``make run``: PaperProfit in one process, with its own PostgreSQL, for one machine and one person.

``python -m embedded key`` (``make key``) replaces the key of the demo account.

PORT                          port to serve on, loopback only (default 8000)
PAPERPROFIT_HOME              folder of its database (default ./.paperprofit)
PAPERPROFIT_API_KEY_ID        key of the demo account, made and printed once if not given
PAPERPROFIT_API_SECRET_KEY    secret of that key
PROVIDER                      source of the prices: replay (default), simulated, push, yahoo, alphavantage, alpaca
PAPERPROFIT_INSTRUMENTS       sets of config/instruments.toml to begin with, such as demo,sp500-top
PAPERPROFIT_REPLAY_SPEED      recorded bars a second (default 1)
PAPERPROFIT_REPLAY_FILE       file of bars to replay, CSV or Parquet
PAPERPROFIT_REPLAY_FROM, PAPERPROFIT_REPLAY_TO  the first and last day of the replay
PAPERPROFIT_KEEP_BARS_DAYS    days that bars are kept, but for daily and recorded ones (default 730)
PAPERPROFIT_KEEP_DEMO_BARS_DAYS  days that the demo's made-up bars are kept (default 3)
"""

import argparse
import os
import signal
import sys
import threading
from contextlib import ExitStack
from types import FrameType

from embedded import replace_key
from embedded.database import service_urls
from embedded.home import HomeUnusable, home_folder, take_home
from embedded.http import PortUnusable, listen, serving
from embedded.postgres_cluster import ClusterFailed, PostgresCluster
from embedded.system import SERVICES, System
from services.gateway.settings import Settings
from shared.jobs.config import InvalidJobsConfig
from shared.jobs.engine.tick import run_scheduler
from shared.observability.logs import configure_logs
from shared.settings import InvalidSettings, load
from shared.storage.migrate import ROOT, DatabaseTooOld

#: The demo's settings, unless the environment has others. The services read them from there too.
DEFAULTS = {
    "PAPERPROFIT_DEMO": "true",
    "PAPERPROFIT_JOBS_CONFIG": str(ROOT / "config" / "jobs.demo.toml"),
    "PAPERPROFIT_LOG_FORMAT": "human",
    "PAPERPROFIT_LOG_LEVEL": "WARNING",
}
_asked_to_stop = threading.Event()


class Stop(BaseException):
    """SIGTERM or Ctrl-C: unwinds the main thread from wherever it waits."""


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m embedded", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args()
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, ask_to_stop)
    try:
        with ExitStack() as stack:
            _run(stack)
    except Stop:
        _print("stopped")
        return 0
    except (HomeUnusable, PortUnusable, ClusterFailed, InvalidSettings, InvalidJobsConfig, DatabaseTooOld) as error:
        print(f"paperprofit: {error}", file=sys.stderr)  # noqa: T201
        return 1
    return 0


def ask_to_stop(_signum: int, _frame: FrameType | None) -> None:
    """Handle SIGTERM and Ctrl-C. Raises Stop."""
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, signal.SIG_IGN)  # once is enough; the rest is bounded
    _asked_to_stop.set()
    raise Stop


def stop_if_asked() -> None:
    """Raises Stop again where a signal came: Python drops what a handler raises within a destructor."""
    if _asked_to_stop.is_set():
        raise Stop


def _run(stack: ExitStack) -> None:
    """Start everything, print how to reach it, and run the scheduler until a signal stops it."""
    home = home_folder()
    stack.enter_context(take_home(home))
    for name, value in DEFAULTS.items():
        os.environ.setdefault(name, value)
    if provider := os.environ.get("PROVIDER"):
        os.environ["PAPERPROFIT_PROVIDER"] = provider
    for service in SERVICES:
        service.check_settings()  # a mistake is reported now, not on a worker's thread
    settings = load(Settings)
    listening = stack.enter_context(listen(os.environ.get("PORT", "8000")))
    cluster = PostgresCluster(home / "postgres")
    stack.callback(cluster.stop)
    _print("starting the database" if cluster.data.exists() else f"making the first database in {home}")
    urls = service_urls(cluster.start())
    configure_logs(settings)
    system = System(urls, settings)
    _print("bringing its tables up to date")
    system.prepare()
    _print("starting the services")
    stack.enter_context(system.running())
    stack.enter_context(serving(system.app(), listening, trusted_proxies=settings.trusted_proxies))
    _print(f"\n  PaperProfit  http://127.0.0.1:{listening.getsockname()[1]}")
    for key in system.keys:
        source = "   (from PAPERPROFIT_API_KEY_ID)" if key.key_id == settings.api_key_id else ""
        _print(f"  key id       {key.key_id}{source}")
        if key.secret:
            _print(f"  secret key   {key.secret}   (shown this once; keep it)")
        elif not source:
            _print("  secret key   shown when it was made; make key replaces a lost one")
    _print("\nready")
    run_scheduler(system.ticks(each=stop_if_asked))


def _print(line: str) -> None:
    print(line, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(replace_key.main(sys.argv[2:]) if sys.argv[1:2] == ["key"] else main())
