"""The health of a replica. Its processes write heartbeat files into a folder, and one of them answers for all.

worker-<pid>.json   of a worker process: consumers attached, no thread dead, database and broker reachable
scheduler.json      of the scheduler: whether its loop goes on, and when it last reached the database

``/livez`` tells of the processes alone: a replica that is not live has to be restarted. ``/readyz`` tells of what they
depend on, which no restart brings back. ``/healthz`` is both.
"""

import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from shared.observability.metrics import CONTENT_TYPE

FRESH_SECONDS = 10.0


def write_heartbeat(folder: Path, name: str, **facts: object) -> None:
    """Replace the heartbeat file in one step, so that a reader never sees half of it."""
    with tempfile.NamedTemporaryFile("w", dir=folder, delete=False) as file:
        json.dump({"at": time.time(), **facts}, file)
    Path(file.name).replace(folder / f"{name}.json")


def read_heartbeat(path: Path) -> dict[str, Any]:
    """The heartbeat with the time ``at`` which it was written, in seconds since 1970, or one from 1970."""
    try:
        heartbeat: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return {"at": 0.0}
    return heartbeat


def is_fresh(at: float) -> bool:
    """True for a heartbeat of the last FRESH_SECONDS."""
    return time.time() - at < FRESH_SECONDS


#: By its name, whether a part works, or a figure of it.
Checks = dict[str, bool | float]


def replica_liveness(folder: Path, processes: int) -> Checks:
    """The processes live, no thread of theirs is dead, and the scheduler's loop goes on or waits for the database."""
    workers = _fresh_workers(folder)
    scheduler = read_heartbeat(folder / "scheduler.json")
    return {
        "workers": len(workers) >= processes,
        "threads": bool(workers) and all(worker["threads"] for worker in workers),
        "scheduler": is_fresh(scheduler["at"]) and bool(scheduler["loop"]),
    }


def replica_readiness(folder: Path) -> Checks:
    """The servers answer each process, all queues are consumed, and the scheduler ticks."""
    workers = _fresh_workers(folder)
    return {
        "consumers": bool(workers) and all(all(worker["consumers"].values()) for worker in workers),
        "database": bool(workers) and all(worker["database"] for worker in workers),
        "broker": bool(workers) and all(worker["broker"] for worker in workers),
        "ticks": is_fresh(read_heartbeat(folder / "scheduler.json").get("ticked_at", 0.0)),
    }


def _fresh_workers(folder: Path) -> list[dict[str, Any]]:
    workers = [read_heartbeat(path) for path in folder.glob("worker-*.json")]
    return [worker for worker in workers if is_fresh(worker["at"])]


def replica_probes(
    folder: Path, processes: int, progress: Callable[[], Checks] = dict
) -> dict[str, Callable[[], Checks]]:
    """The checks of a replica by the path that answers them. Its ``progress`` is part of its readiness."""
    return {
        "/livez": lambda: replica_liveness(folder, processes),
        "/readyz": lambda: {**replica_readiness(folder), **progress()},
        "/healthz": lambda: {**replica_liveness(folder, processes), **replica_readiness(folder), **progress()},
    }


def verdict(checks: Mapping[str, bool | float]) -> Checks:
    """The checks, and ``healthy`` where all of them pass."""
    return {"healthy": not any(each is False for each in checks.values()), **checks}


def serve_health(
    host: str, port: int, probes: Mapping[str, Callable[[], Mapping[str, bool | float]]], metrics: Callable[[], bytes]
) -> ThreadingHTTPServer:
    """Answer each probe with 200 or 503, and ``GET /metrics`` for Prometheus, on a thread of its own."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path in probes:
                health = verdict(probes[self.path]())
                self._answer(200 if health["healthy"] else 503, "application/json", json.dumps(health).encode())
            elif self.path == "/metrics":
                self._answer(200, CONTENT_TYPE, metrics())
            else:
                known = ", ".join([*probes, "/metrics"])
                self._answer(404, "application/json", json.dumps({"error": f"not found: use {known}"}).encode())

        def _answer(self, status: int, content_type: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
            """Log nothing: a probe comes every few seconds."""

    server = ThreadingHTTPServer((host, port), Handler)
    Thread(target=server.serve_forever, name="health", daemon=True).start()
    return server


def run_folder() -> Path:
    """The replica's folder for heartbeats. Its first process makes it and passes it on by the environment."""
    return Path(os.environ["PAPERPROFIT_RUN_DIR"])
