"""Whether a replica works: its processes leave beats in a folder, and one of them answers for all.

worker-<pid>.json   each worker process: consumers attached, no thread dead, database and publisher answering
scheduler.json      the scheduler: when its loop last woke, and when the database last answered it
"""

import json
import os
import tempfile
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from shared.observability.metrics import CONTENT_TYPE

FRESH_SECONDS = 10.0


def write_beat(folder: Path, name: str, **facts: object) -> None:
    """Replace the beat in one step, so that a reader never sees half of it."""
    with tempfile.NamedTemporaryFile("w", dir=folder, delete=False) as file:
        json.dump({"at": time.time(), **facts}, file)
    Path(file.name).replace(folder / f"{name}.json")


def read_beat(path: Path) -> dict[str, Any]:
    """The beat, or an empty one that is as old as time."""
    try:
        beat: dict[str, Any] = json.loads(path.read_text())
    except (OSError, ValueError):
        return {"at": 0.0}
    return beat


def is_fresh(at: float) -> bool:
    return time.time() - at < FRESH_SECONDS


def replica_health(folder: Path, processes: int) -> dict[str, Any]:
    """What works and what does not; healthy when everything does."""
    workers = [read_beat(path) for path in folder.glob("worker-*.json")]
    workers = [beat for beat in workers if is_fresh(beat["at"])]
    scheduler = read_beat(folder / "scheduler.json")
    checks = {
        "workers": len(workers) >= processes,
        "consumers": bool(workers) and all(all(beat["consumers"].values()) for beat in workers),
        "threads": bool(workers) and all(beat["threads"] for beat in workers),
        "database": bool(workers) and all(beat["database"] for beat in workers),
        "broker": bool(workers) and all(beat["broker"] for beat in workers),
        "scheduler": is_fresh(scheduler.get("ticked_at", 0.0)),
    }
    return {"healthy": all(checks.values()), **checks}


def serve_health(
    host: str, port: int, check: Callable[[], dict[str, Any]], metrics: Callable[[], bytes]
) -> ThreadingHTTPServer:
    """Answer ``GET /healthz`` with 200 or 503, and ``GET /metrics`` for Prometheus, on a thread of its own."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/healthz":
                health = check()
                self._answer(200 if health["healthy"] else 503, "application/json", json.dumps(health).encode())
            elif self.path == "/metrics":
                self._answer(200, CONTENT_TYPE, metrics())
            else:
                self._answer(404, "application/json", b'{"error": "only /healthz and /metrics are here"}')

        def _answer(self, status: int, content_type: str, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Type", content_type)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class names it
            """Probes every few seconds are no news."""

    server = ThreadingHTTPServer((host, port), Handler)
    Thread(target=server.serve_forever, name="health", daemon=True).start()
    return server


def run_folder() -> Path:
    """The replica's folder for beats, made by its first process and handed down by the environment."""
    return Path(os.environ["PAPERPROFIT_RUN_DIR"])
